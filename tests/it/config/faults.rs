//! Faults of the configuration: a table of faulty files, each with the expected message and its place.

use super::*;

/// Each text must have this fault, and hardly another: a fault must not bring others with it.
fn expect(table: Vec<(String, &str)>) {
    let mut wrong = String::new();
    for (text, expected) in &table {
        let found = faults(text);
        if found.len() > 2 || !found.iter().any(|line| line == expected) {
            wrong += &format!("{text}\nexpected: {expected}\nfound: {found:#?}\n\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn key_of(value: &str) -> String {
    key(&format!("{{ id = \"i\", key = {value} }}"))
}

fn url(value: &str) -> String {
    account(&format!("name = \"a\"\nkeys = [\"sk-1\"]\nbase_url = \"{value}\""))
}

fn proxy(value: &str) -> String {
    account(&format!("name = \"a\"\nkeys = [\"sk-1\"]\nbase_url = \"https://h\"\nproxy = \"{value}\""))
}

fn prefix(value: &str) -> String {
    around(&format!("[[mounts]]\nprefix = \"{value}\""))
}

#[test]
fn syntax_and_unknown_keys() {
    expect(vec![
        (around("[server]\nlisten = 0.0.0.0"), "2:13: invalid float"),
        (around("lisen = 1"), "1:1: lisen: unknown key `lisen`"),
        (around("[server]\nlisen = 1"), "2:1: server.lisen: unknown key `lisen`"),
        (around("[servr]\nlisten = 1"), "1:2: servr: unknown key `servr`"),
        (
            around("[server.timeouts]\nheaders = \"1s\""),
            "2:1: server.timeouts.headers: unknown key `headers`",
        ),
        (
            key("{ id = \"i\", keyy = \"0123456789abcdef\", sha256 = \"\" }"),
            "7:21: tenants[0].keys[0].keyy: unknown key `keyy`",
        ),
    ]);
}

#[test]
fn logs() {
    expect(vec![
        (
            around("[log]\naccess = \"stdou\""),
            "2:10: log.access: is neither \"stdout\", \"stderr\", \"off\", nor the path of a file",
        ),
        (around("[log]\nformat = \"xml\""), "2:10: log.format: must be one of \"json\", \"text\""),
        (around("[log]\nsample = 1.5"), "2:10: log.sample: must be from 0.0 to 1.0"),
        (around("[log]\nfile = \"x\""), "2:1: log.file: unknown key `file`"),
    ]);
}

/// The gateway started with each of these, and every call failed with 401 or could not be sent.
#[test]
fn upstream_keys_and_hosts_that_cannot_be_right() {
    let keys = |value: &str| account(&format!("name = \"a\"\nbase_url = \"https://h\"\nkeys = [{value}]"));
    let at = |problem: &str| format!("4:9: accounts[0].keys[0]: {problem}");
    let comma = at("is not one key: it has a comma or a semicolon");
    let other = at("has a character that no key of DashScope has");
    let unprintable = at("has a character that is not printable ASCII, or a space");
    let misspelt = "4:12: accounts[0].base_url: has a host like one of DashScope's, but misspelt";
    expect(vec![
        (keys("\"sk-0f9a8b7c,sk-6d5e4f3a\""), &comma),
        (keys("\"sk-0f9a8b7c;sk-6d5e4f3a\""), &comma),
        (keys("\"'sk-0f9a8b7c'\""), &at("has quotes around it")),
        (keys("'\"sk-0f9a8b7c\"'"), &at("has quotes around it")),
        (keys("\"sk-0f9a8b7c'\""), &at("has a quote in it")),
        (keys("\"\\u201csk-0f9a8b7c\\u201d\""), &unprintable),
        (keys("\"sk-0f9a8b7c sk-6d5e4f3a\""), &unprintable),
        (keys("\"DASHSCOPE_API_KEY=sk-0f9a8b7c\""), &other),
        (keys("\"<sk-0f9a8b7c>\""), &other),
        (url("https://dashscope.aliyun.com"), misspelt),
        (url("https://dashscope-int.aliyuncs.com"), misspelt),
        (
            around("[admin]\ntoken = \"admin-token-012\""),
            "2:9: admin.token: is shorter than 16 bytes, and could be guessed",
        ),
        (around("[admin]\ntoken = \"'admin-token-0123'\""), "2:9: admin.token: has quotes around it"),
    ]);
}

#[test]
fn networks() {
    let proxies = |value: &str| around(&format!("[server]\ntrusted_proxies = [\"{value}\"]"));
    let at = |problem: &str| format!("2:20: server.trusted_proxies[0]: {problem}");
    let unreadable = at("is not a network of IP addresses");
    let behind = at("is an address inside a network, with the length of the network's prefix");
    let all = at("trusts every client to say who it is");
    expect(vec![
        (proxies("10.0.0.0/33"), &unreadable),
        (proxies("proxy.example"), &unreadable),
        (proxies("10.0.0.1/8"), &behind),
        (proxies("0.0.0.0/0"), &all),
        (proxies("::/0"), &all),
        (
            key("{ id = \"i\", key = \"0123456789abcdef\", addresses = [\"192.0.2.7/24\"] }"),
            "7:60: tenants[0].keys[0].addresses[0]: is an address inside a network, with the length of the network's prefix",
        ),
        (
            key("{ id = \"i\", key = \"0123456789abcdef\", addresses = [] }"),
            "7:59: tenants[0].keys[0].addresses: is empty",
        ),
    ]);
}

#[test]
fn browser_tokens() {
    let tokens = |value: &str| {
        let keys = "[[tenants.keys]]";
        let text = around("");
        let tenant = text.find("[[tenants]]").expect("a tenant");
        let lines = format!("[[tenants]]\nallow = [\"tasks\"]\ntokens = {{ {value} }}");
        assert!(!text[..tenant].contains(keys));
        text.replace("[[tenants]]", &lines)
    };
    let line = tokens("").lines().position(|line| line.starts_with("tokens")).expect("a line") + 1;
    let at = |column: usize, rest: &str| format!("{line}:{column}: tenants[0].tokens.{rest}");
    let rows = [
        ("seconds = 1801", at(22, "seconds: must be from 1 to 1800")),
        ("allow = []", at(20, "allow: is empty")),
        ("allow = [\"generate\"]", at(21, "allow[0]: is not in `allow` of the tenant")),
        (
            "origin = \"https://a.example/\"",
            at(21, "origin: has a path; an origin ends with its host or port"),
        ),
        ("second = 1", at(12, "second: unknown key `second`")),
    ];
    expect(rows.iter().map(|(value, expected)| (tokens(value), &**expected)).collect());
}

#[test]
fn origins_of_web_pages() {
    let cors =
        |value: &str| around(&format!("[[mounts]]\nprefix = \"/\"\ncors = {{ origins = [\"{value}\"] }}"));
    let at = |problem: &str| format!("3:21: mounts[0].cors.origins[0]: {problem}");
    expect(vec![
        (cors("*"), &at("has a *, but pages are allowed one by one")),
        (cors("null"), &at("is not an origin: it has no scheme and ://")),
        (cors("https://app.example.com/"), &at("has a path; an origin ends with its host or port")),
        (cors("https://App.example.com"), &at("has capital letters, which browsers do not send")),
        (cors("https://app.example.com:443"), &at("has the usual port, which browsers leave out")),
        (cors("https://a b"), &at("is not an origin: its scheme, host or port is not valid")),
    ]);
}

#[test]
fn types() {
    expect(vec![
        (around("server = 1"), "1:10: server: must be a table, not an integer"),
        (around("[server]\nlisten = 8080"), "2:10: server.listen: must be a string, not an integer"),
        (around("[server]\nworkers = \"4\""), "2:11: server.workers: must be a whole number, not a string"),
        (
            around("[server]\ntimeouts = { header = 10 }"),
            "2:23: server.timeouts.header: must be a string, not an integer",
        ),
        (around("[mounts]\nprefix = \"/\""), "1:1: mounts: must be an array, not a table"),
        (around("mounts = [\"/\"]"), "1:11: mounts[0]: must be a table, not a string"),
        (tenant("name = \"t\"\nkeys = [\"k\"]"), "7:9: tenants[0].keys[0]: must be a table, not a string"),
        (
            key_of("17"),
            "7:27: tenants[0].keys[0].key: must be a string or { key_file = \"path\" }, not an integer",
        ),
    ]);
}

#[test]
fn values() {
    expect(vec![
        (
            around("[server]\nlisten = \"localhost:8080\""),
            "2:10: server.listen: is not an IP address with a port",
        ),
        (around("[server]\nworkers = -1"), "2:11: server.workers: must be from 0 to 1024"),
        (
            around("[server]\nmax_body_bytes = 0"),
            "2:18: server.max_body_bytes: must be from 1 to 1099511627776",
        ),
        (
            around("[server]\ntimeouts.idle = \"1 fortnight\""),
            "2:17: server.timeouts.idle: is not a duration",
        ),
        (around("[server]\ntimeouts.idle = \"0s\""), "2:17: server.timeouts.idle: must be from 1ms to 24h"),
        (
            around("[admin]\nlisten = \"127.0.0.1:8080\""),
            "2:10: admin.listen: the admin listener and the server would listen on the same port",
        ),
        (
            around("[server]\nlisten = \"[::]:8081\""),
            "1:1: admin.listen: the admin listener and the server would listen on the same port",
        ),
        (
            url("dashscope.aliyuncs.com"),
            "4:12: accounts[0].base_url: does not start with http:// or https://",
        ),
        (url("https://h/"), "4:12: accounts[0].base_url: ends in a slash"),
        (url("https://h/api/v1"), "4:12: accounts[0].base_url: ends in /api/v1, which dashgate adds itself"),
        (
            url("https://h/compatible-mode/v1"),
            "4:12: accounts[0].base_url: ends in /compatible-mode/v1, which dashgate adds itself",
        ),
        (url("https://u:p@h"), "4:12: accounts[0].base_url: has a user name or a password in it"),
        (
            proxy("https://p:443"),
            "5:9: accounts[0].proxy: is not an http:// proxy, and no other kind is supported",
        ),
        (proxy("p:3128"), "5:9: accounts[0].proxy: does not start with http://"),
        (
            proxy("http://me:sesame@"),
            "5:9: accounts[0].proxy: has no valid host and port, or more behind them",
        ),
        (proxy("http://p:3128/x"), "5:9: accounts[0].proxy: has no valid host and port, or more behind them"),
        (proxy(""), "5:9: accounts[0].proxy: is empty"),
        (url("https://h?q"), "4:12: accounts[0].base_url: has a query or a fragment"),
        (prefix("wan"), "2:10: mounts[0].prefix: does not start with a slash"),
        (prefix("/wan/"), "2:10: mounts[0].prefix: ends in a slash"),
        (prefix("/w n"), "2:10: mounts[0].prefix: is not a path"),
        (prefix("/api/v1"), "2:10: mounts[0].prefix: would hide paths of DashScope itself"),
        (
            around("[[mounts]]\nprefix = \"/\"\ndialect = \"nativ\""),
            "3:11: mounts[0].dialect: must be one of \"native\", \"unified\"",
        ),
        (
            tenant("name = \"t\"\nallow = [\"task\"]"),
            "7:10: tenants[0].allow[0]: must be one of \"generate\", \"tasks\", \"uploads\", \"compatible\", \"realtime\"",
        ),
        (tenant("name = \"t\"\nallow = []"), "7:9: tenants[0].allow: is empty"),
        (tenant("name = \"a b\""), "6:8: tenants[0].name: is not a name"),
        (
            tenant("name = \"t\"\nlimits = { requests_per_second = 0 }"),
            "7:34: tenants[0].limits.requests_per_second: must be above 0",
        ),
        (
            tenant("name = \"t\"\nlimits.burst = 0"),
            "7:16: tenants[0].limits.burst: must be from 1 to 4294967295",
        ),
        (
            tenant("name = \"t\"\nlimits = { burst = 5 }"),
            "7:20: tenants[0].limits.burst: is the burst of no rate",
        ),
        (
            tenant("name = \"t\"\nlimits.requests_per_second = 0.000001"),
            "7:30: tenants[0].limits.requests_per_second: must be from 0.00001 to 1000000",
        ),
        (
            tenant("name = \"t\"\nlimits = { requests_per_second = 0.001, burst = 4000000000 }"),
            "7:34: tenants[0].limits.requests_per_second: would take years to refill its burst",
        ),
        (
            tenant("name = \"t\"\nlimits.max_resolution = \"big\""),
            "7:25: tenants[0].limits.max_resolution: is not a resolution",
        ),
        (
            tenant("name = \"t\"\nlimits.polls = { tasks_in_flight = 1 }"),
            "7:18: tenants[0].limits.polls.tasks_in_flight: unknown key `tasks_in_flight`",
        ),
        (
            tenant("name = \"t\"\ntenant_limits = { models = [\"a\"] }"),
            "7:19: tenants[0].tenant_limits.models: is a limit of each key",
        ),
        (
            key("{ id = \"i\", sha256 = \"9f86d0\" }"),
            "7:30: tenants[0].keys[0].sha256: is not a SHA-256 in hex",
        ),
    ]);
}

#[test]
fn pacing() {
    let pace = |rule: &str| {
        account(&format!("name = \"a\"\nkeys = [\"sk-1\"]\nbase_url = \"http://h\"\npace = {rule}"))
    };
    expect(vec![
        (around("[submit]\nmax_wait = \"5\""), "2:12: submit.max_wait: is not a duration"),
        (around("[submit]\nmax_wait = \"121s\""), "2:12: submit.max_wait: must not be longer than 120s"),
        (around("[submit]\nmax_wai = \"1s\""), "2:1: submit.max_wai: unknown key `max_wai`"),
        (tenant("name = \"t\"\nweight = 0"), "7:10: tenants[0].weight: must be from 1 to 1000"),
        (pace("5"), "5:8: accounts[0].pace: must be an array, not an integer"),
        (pace("[5]"), "5:9: accounts[0].pace[0]: must be a table, not an integer"),
        (pace("[{ running = 5 }]"), "5:9: accounts[0].pace[0]: the key `models` is missing"),
        (pace("[{ models = [\"*\"] }]"), "5:9: accounts[0].pace[0]: says nothing of its models"),
        (pace("[{ models = [], running = 5 }]"), "5:20: accounts[0].pace[0].models: is empty"),
        (pace("[{ models = [\"\"], running = 5 }]"), "5:21: accounts[0].pace[0].models[0]: is empty"),
        (
            pace("[{ models = [\"*\"], running = 0 }]"),
            "5:37: accounts[0].pace[0].running: must be from 1 to 4294967295",
        ),
        (
            pace("[{ models = [\"*\"], running = \"none\" }]"),
            "5:37: accounts[0].pace[0].running: must be a number, or \"unlimited\"",
        ),
        (
            pace("[{ models = [\"*\"], requests_per_second = 0 }]"),
            "5:49: accounts[0].pace[0].requests_per_second: must be from 0.01 to 1000",
        ),
        (
            pace("[{ models = [\"*\"], requests_per_second = \"5\" }]"),
            "5:49: accounts[0].pace[0].requests_per_second: must be a number, or \"unlimited\"",
        ),
        (
            pace("[{ models = [\"*\"], request_per_second = 5 }]"),
            "5:27: accounts[0].pace[0].request_per_second: unknown key `request_per_second`",
        ),
    ]);
}

#[test]
fn keys_of_tenants() {
    expect(vec![
        (key_of("\"short\""), "7:27: tenants[0].keys[0].key: is shorter than 16 bytes, and could be guessed"),
        (
            key_of("\"0123456789 abcdef\""),
            "7:27: tenants[0].keys[0].key: has a character that is not printable ASCII, or a space",
        ),
        (key_of("\"$ACME_KEY\""), "7:27: tenants[0].keys[0].key: looks like a variable without braces"),
        (key_of("\"${UNSET}\""), "7:27: tenants[0].keys[0].key: the environment variable UNSET is not set"),
        (key_of("\"${EMPTY}\""), "7:27: tenants[0].keys[0].key: is empty"),
        (key_of("\"${ACME_KEY\""), "7:27: tenants[0].keys[0].key: has ${ without a } after it"),
        (
            key_of("\"${ACME KEY}\""),
            "7:27: tenants[0].keys[0].key: has ${...} without a variable's name in it",
        ),
        (
            key_of("{ key_file = \"acme.key\" }"),
            "7:40: tenants[0].keys[0].key.key_file: the file acme.key cannot be read: there is no such file",
        ),
        (
            key("{ id = \"i\", key_file = \"acme.key\" }"),
            "7:32: tenants[0].keys[0].key_file: the file acme.key cannot be read: there is no such file",
        ),
        (key("{ id = \"i\" }"), "7:9: tenants[0].keys[0]: has no key"),
        (
            key("{ id = \"i\", key = \"0123456789abcdeg\", key_file = \"x\" }"),
            "7:9: tenants[0].keys[0]: has more than one key",
        ),
        (
            key_of("\"sk-1\""),
            "7:27: tenants[0].keys[0].key: is the same secret as accounts[0].keys[0] in line 4",
        ),
    ]);
}

#[test]
fn what_is_missing() {
    expect(vec![
        (account("name = \"a\"\nkeys = [\"sk-1\"]"), "1:1: accounts[0]: the key `base_url` is missing"),
        (
            account("name = \"a\"\nbase_url = \"https://h\""),
            "1:1: accounts[0]: has neither `keys` nor `key_file`",
        ),
        (account("name = \"a\"\nbase_url = \"https://h\"\nkeys = []"), "4:8: accounts[0].keys: is empty"),
        (around("[[mounts]]\ndialect = \"native\""), "1:1: mounts[0]: the key `prefix` is missing"),
        (key("{ key = \"0123456789abcdef\" }"), "7:9: tenants[0].keys[0]: the key `id` is missing"),
        (TENANT.into(), "1:1: has no accounts"),
        (format!("tenants = []\n{ACCOUNT}"), "1:1: has no tenants"),
        (
            tenant("name = \"t\"\naccounts = [\"a\", \"b\"]"),
            "7:18: tenants[0].accounts[1]: no account has this name",
        ),
    ]);
}

#[test]
fn what_stands_twice_or_too_early() {
    expect(vec![
        (around("[server]\nworkers = 1\nworkers = 2"), "3:1: the key is written twice"),
        (
            format!("{ACCOUNT}{}{TENANT}", ACCOUNT.replace("sk-1", "sk-2")),
            "6:8: accounts[1].name: is the same as accounts[0].name in line 2",
        ),
        (
            format!("{ACCOUNT}{}{TENANT}", ACCOUNT.replace("\"a\"", "\"b\"")),
            "8:9: accounts[1].keys[0]: is the same secret as accounts[0].keys[0] in line 4",
        ),
        (
            format!("{ACCOUNT}{TENANT}[[tenants]]\nname = \"t\""),
            "9:8: tenants[1].name: is the same as tenants[0].name in line 6",
        ),
        (
            around("[[mounts]]\nprefix = \"/a\"\n[[mounts]]\nprefix = \"/a\""),
            "4:10: mounts[1].prefix: is the same as mounts[0].prefix in line 2",
        ),
        (
            tenant("name = \"t\"\naccounts = [\"a\", \"a\"]"),
            "7:18: tenants[0].accounts[1]: is the same as tenants[0].accounts[0] in line 7",
        ),
        (
            around("[admin]\ntoken = \"sk-1\""),
            "2:9: admin.token: is the same secret as accounts[0].keys[0] in line 6",
        ),
        (
            around("[server]\ntls = { cert = \"a\", key = \"b\" }"),
            "2:16: server.tls.cert: the file a cannot be read: there is no such file",
        ),
        (around("[store]\nurl = \"redis://h\""), "2:7: store.url: does not start with postgres://"),
        (around("[store]\npassword_file = \"f\""), "1:1: store: has `password_file`, but no `url`"),
    ]);
}

#[test]
fn moments() {
    for expires in ["\"soon\"", "2027-01-01", "\"2027-01-01T00:00:00\""] {
        let text = key(&format!("{{ id = \"i\", sha256 = \"{}\", expires = {expires} }}", "0".repeat(64)));
        expect(vec![(text, "7:108: tenants[0].keys[0].expires: is not a date with time and offset")]);
    }
}

/// Many faults of many kinds are all reported at once, in the file's order.
#[test]
fn all_faults_at_once() {
    let text = r#"[server]
lisen = "0.0.0.0:8080"
workers = "four"
workers = 4
timeouts = { header = "10", idle = "75s", conect = "5s" }
tls = { cert = "a" }
[store]
url = "redis://h"
[[accounts]]
name = "main"
base_url = "https://h/"
keys = ["${UNSET}", 7]
[[accounts]]
name = "main"
base_url = "http://h.example"
keys = ["sk-1"]
[[mounts]]
prefix = "wan"
[[tenants]]
nam = "acme"
keys = [{ key = "sk-1" }, { id = "x", sha256 = "00" }]
accounts = ["mian"]
limits = { burst = 1.5 }
"#;
    let expected = [
        "2:1: server.lisen: unknown key `lisen`",
        "3:11: server.workers: must be a whole number, not a string",
        "4:1: the key is written twice",
        "5:23: server.timeouts.header: is not a duration",
        "5:43: server.timeouts.conect: unknown key `conect`",
        "6:7: server.tls: the key `key` is missing",
        "6:16: server.tls.cert: the file a cannot be read: there is no such file",
        "8:7: store.url: does not start with postgres://",
        "11:12: accounts[0].base_url: ends in a slash",
        "12:9: accounts[0].keys[0]: the environment variable UNSET is not set",
        "12:21: accounts[0].keys[1]: must be a string or { key_file = \"path\" }, not an integer",
        "14:8: accounts[1].name: is the same as accounts[0].name in line 10",
        "18:10: mounts[0].prefix: does not start with a slash",
        "19:1: tenants[0]: the key `name` is missing",
        "20:1: tenants[0].nam: unknown key `nam`",
        "21:9: tenants[0].keys[0]: the key `id` is missing",
        "21:17: tenants[0].keys[0].key: is shorter than 16 bytes, and could be guessed",
        "21:17: tenants[0].keys[0].key: is the same secret as accounts[1].keys[0] in line 16",
        "21:48: tenants[0].keys[1].sha256: is not a SHA-256 in hex",
        "22:13: tenants[0].accounts[0]: no account has this name",
        "23:20: tenants[0].limits.burst: must be a whole number, not a float",
    ];
    assert_eq!(faults(text), expected);
}

#[test]
fn suggestions() {
    let hints = |text: &str| -> Vec<String> {
        parse(text).map(|_| Vec::new()).unwrap_or_else(|found| found.into_iter().map(|f| f.hint).collect())
    };
    for (text, hint) in [
        (around("[server]\nlisen = 1"), "did you mean `listen`?"),
        (around("[servr]"), "did you mean `server`?"),
        (around("[server]\nmax_body_size = 1"), "did you mean `max_body_bytes`?"),
        (around("[server]\nWorkers = 1"), "did you mean `workers`?"),
        (account("baseurl = 1"), "did you mean `base_url`?"),
        (key("{ id = \"i\", Key = \"0123456789abcdef\" }"), "did you mean `key`?"),
        (around("[store]\nzzz = 1"), "known here: path, url, password_file, refuse_stale_keys_after"),
        (
            url("https://dashscope.aliyun.com"),
            "did you mean dashscope.aliyuncs.com? An upstream key must not reach a host that only looks like it",
        ),
        (tenant("name = \"t\"\nallow = [\"upload\"]"), "did you mean \"uploads\"?"),
        (tenant("name = \"t\"\nasync_header = \"no\""), "write one of these words"),
        (
            format!(
                "{}[[tenants]]\nname = \"t\"\naccounts = [\"mian\"]",
                ACCOUNT.replace("\"a\"", "\"main\"")
            ),
            "did you mean the name of accounts[0]?",
        ),
    ] {
        assert!(hints(&text).iter().any(|found| found == hint), "{hint}: {:#?}", hints(&text));
    }
}

/// A broken line is reported once, and keys that it may have hidden are not reported as missing.
#[test]
fn broken_syntax_brings_no_other_faults() {
    for (text, expected) in [
        ("[[accounts]]\nname = \n", "2:8: a value is missing or not in quotes"),
        ("[[accounts]]\nname = a b c\n", "2:8: a value is missing or not in quotes"),
        ("[[accounts]]\nkeys = [\"a\" \"b\"]", "2:13: missing comma between array elements, expected `,`"),
        ("[server]\nlisten = \"0.0.0.0:80\n[[tenants]]\nname = \"t\"", "2:21: the text is not closed"),
        ("[[accounts]]\nkeys = [\"a\"\n[[tenants]]\nnme = \"t\"\n", "3:1: a [ or { above is not closed"),
    ] {
        assert_eq!(faults(text), [expected], "{text}");
    }
    let brace = "[server]\nx = 1\ntimeouts = { idle = \"75s\n[[accounts]]\nname = \"a\"\nbase_url = \"b\"\n";
    let expected = [
        "2:1: server.x: unknown key `x`",
        "3:25: the text is not closed",
        "4:1: a [ or { above is not closed",
    ];
    assert_eq!(faults(brace), expected);
}
