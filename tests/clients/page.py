"""A page in a real Chromium works with the gateway by itself, with a token that it gets from its own backend: it submits a
task, holds a poll, plays the video, and opens a WebSocket. The page of a foreign origin, and an expired token, get nothing.
"""

import urllib.request

from browser import PageServer, browser, serve
from gateway import KEY, URL, check, same, step

# The mounts of the gateway name the first one in `cors`.
OWN, FOREIGN = "app.example.com", "evil.example"
PAGE = (
    """<!doctype html><body><script>
const gateway = "GATEWAY";
const sleep = time => new Promise(resume => setTimeout(resume, time));
const token = async seconds => (await (await fetch(`/token?${seconds}`)).json()).token;
const call = (path, token, more = {}) =>
  fetch(gateway + path, {...more, headers: {Authorization: `Bearer ${token}`, ...more.headers}});
const refusal = async answer => [answer.status, answer.headers.get("x-dashgate-reason"), (await answer.json()).code];
const connected = token => new Promise(resolve => {
  const address = gateway.replace("http", "ws") + "/api-ws/v1/inference";
  const socket = new WebSocket(address, ["dashgate", `dashgate.${token}`]);
  socket.onopen = () => { resolve(socket.protocol); socket.close(); };
  socket.onerror = () => resolve("error");
});
const played = file => new Promise(resolve => {
  const video = document.createElement("video");
  video.muted = true;
  video.onended = () => resolve({duration: video.duration, size: [video.videoWidth, video.videoHeight]});
  video.onerror = () => resolve({error: video.error.message});
  video.src = URL.createObjectURL(file);
  document.body.append(video);
  video.play().catch(error => resolve({error: String(error)}));
});
async function own() {
  const mine = await token(300);
  const told = {};
  const body = JSON.stringify({model: "wan2.7-t2v", input: {prompt: "A paper boat"}});
  const headers = {"Content-Type": "application/json", "X-DashScope-Async": "enable"};
  const submitted = await call("/api/v1/services/aigc/video-generation/video-synthesis", mine, {method: "POST", headers, body});
  told.id = submitted.headers.get("x-request-id");
  const id = (await submitted.json()).output.task_id;
  told.polls = 0;
  do {
    told.polls += 1;
    const task = await (await call(`/api/v1/tasks/${id}`, mine, {headers: {Prefer: "wait=30"}})).json();
    told.status = task.output.task_status;
  } while (["PENDING", "RUNNING"].includes(told.status) && told.polls < 20);
  told.played = await played(await (await call(`/v1/videos/${id}/content`, mine)).blob());
  told.socket = await connected(mine);
  told.list = await refusal(await call("/api/v1/tasks", mine));
  const short = await token(1);
  let expired = await call(`/api/v1/tasks/${id}`, short);
  while (expired.status === 200) {
    await sleep(200);
    expired = await call(`/api/v1/tasks/${id}`, short);
  }
  told.expired = await refusal(expired);
  return told;
}
async function foreign() {
  const mine = await token(300);
  const told = {socket: await connected(mine)};
  told.fetched = await call("/api/v1/tasks/x", mine).then(answer => answer.status, error => error.name);
  return told;
}
(location.hostname === "OWN" ? own() : foreign()).catch(error => ({error: String(error)})).then(told =>
  fetch("/report", {method: "POST", body: JSON.stringify(told)})).then(() => {
    if (location.hostname === "OWN") location = "http://FOREIGN/";
  });
</script>""".replace("GATEWAY", URL)
    .replace("OWN", OWN)
    .replace("FOREIGN", FOREIGN)
    .encode()
)


class Backend(PageServer):
    """The server of the pages, which alone has the key."""

    def do_GET(self):
        path, _, seconds = self.path.partition("?")
        if path != "/token":
            return self.answer(200 if path == "/" else 404, {"Content-Type": "text/html"}, PAGE if path == "/" else b"")
        made = urllib.request.Request(
            f"{URL}/api/v1/tokens?expire_in_seconds={int(seconds)}", b"", {"Authorization": f"Bearer {KEY}"}
        )
        with urllib.request.urlopen(made, timeout=30) as answer:
            self.answer(200, {"Content-Type": "application/json"}, answer.read())


def main():
    at = serve(Backend)
    with browser(f"http://{OWN}/", f"--host-resolver-rules=MAP {OWN} {at}, MAP {FOREIGN} {at}"):
        own, foreign = (Backend.report() for _ in range(2))
    step("its own page:", own)
    step("a foreign page:", foreign)
    check("error" not in own, own)
    same((own["status"], own["socket"]), ("SUCCEEDED", "dashgate"), "task and socket")
    check(own["id"] and own["polls"] <= 3, "a poll was not held, or a header not shown:", own)
    same(own["played"].get("size"), [320, 180], "the picture")
    check(abs(own["played"]["duration"] - 2) < 0.2, own["played"])
    same(own["expired"], [401, "expired_key", "InvalidApiKey"], "an expired token")
    same(own["list"], [403, "not_allowed", "AccessDenied"], "the list of all tasks")
    same(foreign, {"socket": "error", "fetched": "TypeError"}, "a foreign page")


if __name__ == "__main__":
    main()
