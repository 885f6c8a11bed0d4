// Two tenants on one account, a thousand tasks each, with Java's HttpClient.
// DASHGATE_TASKS is as in isolation.py.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Pattern;

public class Isolation {
  static final String URL = System.getenv("DASHGATE_URL");
  static final HttpClient CLIENT = HttpClient.newHttpClient();
  static final Pattern REQUEST = Pattern.compile("\"request_id\":\"([^\"]+)\"");
  static final Pattern TASK = Pattern.compile("\"task_id\":\"([^\"]+)\"");

  static HttpResponse<String> ask(String key, String method, String path) throws Exception {
    var request = HttpRequest.newBuilder(URI.create(URL + path)).header("Authorization", "Bearer " + key);
    request.method(method, HttpRequest.BodyPublishers.noBody());
    return CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofString());
  }

  static String masked(HttpResponse<String> answer, String id) {
    var request = REQUEST.matcher(answer.body());
    check(request.find(), answer.body());
    var headers = new TreeMap<>(answer.headers().map());
    headers.remove("date");
    var whole = answer.statusCode() + " " + headers + answer.body();
    return whole.replace(request.group(1), "REQUEST").replace(id, "TASK");
  }

  static void check(boolean condition, Object what) {
    if (!condition) throw new AssertionError(what);
  }

  static void alike(String key, String method, String end, int status, Map<String, List<String>> ids) throws Exception {
    Set<String> seen = new HashSet<>();
    for (var kind : List.of("foreign", "none")) {
      for (var id : ids.get(kind)) {
        var answer = ask(key, method, "/wan/api/v1/tasks/" + id + end);
        check(answer.statusCode() == status, answer.body());
        seen.add(masked(answer, id));
      }
    }
    check(seen.size() == 1, seen);
  }

  public static void main(String[] arguments) throws Exception {
    Map<String, Map<String, List<String>>> tasks = new TreeMap<>();
    for (var line : Files.readAllLines(Path.of(System.getenv("DASHGATE_TASKS")))) {
      var parts = line.split(" ");
      tasks.computeIfAbsent(parts[0], key -> new TreeMap<>())
          .computeIfAbsent(parts[1], kind -> new ArrayList<>())
          .add(parts[2]);
    }
    check(tasks.size() == 2, tasks.keySet().size());
    for (var tenant : tasks.entrySet()) {
      var ids = tenant.getValue();
      alike(tenant.getKey(), "GET", "", 200, ids);
      alike(tenant.getKey(), "POST", "/cancel", 400, ids);
      var own = ids.get("own");
      List<String> listed = new ArrayList<>();
      for (int page = 1; page <= own.size() / 100; page++) {
        var path = "/alibabacloudapi/v1/tasks?page_size=100&page_no=" + page;
        TASK.matcher(ask(tenant.getKey(), "GET", path).body()).results().forEach(found -> listed.add(found.group(1)));
      }
      check(listed.size() == own.size() && new HashSet<>(listed).equals(new HashSet<>(own)), listed.size());
      System.out.println(ids.get("foreign").size() + " foreign ids as none, " + own.size() + " own tasks");
    }
    System.out.println("isolation: all passed on Java " + Runtime.version());
  }
}
