//! Addresses of clients: a trusted proxy names the client that it speaks for, and nobody else does; and keys that are good
//! from some addresses alone.

use crate::harness::calls::{bearer, check_refusal, generate};
use crate::harness::{
    Client, Envelope, Gateway, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, assert_refused,
    configuration, eventually, message,
};

const BEHIND_PROXY: &str = "auth_failures_per_second = 1\ntrusted_proxies = [\"127.0.0.0/8\"]";

fn guess(forwarded_for: &str) -> String {
    let fields = ["Authorization: Bearer sk-a-guess-0123456789", forwarded_for];
    message("GET /api/v1/tasks/x", &fields, "")
}

/// Guesses a key again and again for the client of this field, until its address is held up.
fn use_up(client: &mut Client, forwarded_for: &str) {
    for _ in 0..200 {
        let got = client.ask(guess(forwarded_for));
        if got.status() == 429 {
            return check_refusal(&got, 429, "auth_rate");
        }
        check_refusal(&got, 401, "unknown_key");
    }
    panic!("{forwarded_for} is never held up");
}

#[test]
fn a_guesser_behind_a_trusted_proxy_holds_up_no_other_client_of_the_proxy() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::with(upstream.address, BEHIND_PROXY, "");
    let mut proxy = Client::connect(gateway.address);
    use_up(&mut proxy, "X-Forwarded-For: 198.51.100.1");
    // A guesser forges what stands before its address.
    for forged in
        ["X-Forwarded-For: 203.0.113.9, 198.51.100.1", "X-Forwarded-For: x, 198.51.100.1, 127.0.0.2"]
    {
        check_refusal(&proxy.ask(guess(forged)), 429, "auth_rate");
    }
    check_refusal(&proxy.ask(guess("X-Forwarded-For: 203.0.113.9")), 401, "unknown_key");
    check_refusal(&proxy.ask(guess("X-Forwarded-For: 198.51.100.1, 203.0.113.7")), 401, "unknown_key");
    let last = |line: &serde_json::Value| line["client"] == "203.0.113.7";
    eventually("the log names the clients", || gateway.lines().iter().any(last));
    let lines = gateway.lines();
    let (of_guesser, others): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["client"] == "198.51.100.1");
    assert!(of_guesser.len() > 3, "{of_guesser:?}");
    assert_eq!(others.iter().map(|line| &line["client"]).collect::<Vec<_>>(), ["203.0.113.9", "203.0.113.7"]);
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_field_that_cannot_be_read_leaves_the_proxy_as_the_client() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::with(upstream.address, BEHIND_PROXY, "");
    let mut proxy = Client::connect(gateway.address);
    use_up(&mut proxy, "X-Forwarded-For: 198.51.100.1, unknown");
    check_refusal(&proxy.ask(guess("X-Forwarded-For: 198.51.100.2, 1.2.3")), 429, "auth_rate");
    check_refusal(&proxy.ask(guess("X-Forwarded-For: 198.51.100.1")), 401, "unknown_key");
    let call = message("POST /api/v1/services/aigc/text-generation/generation", &[&bearer()], "{}");
    assert_eq!(proxy.ask(call).status(), 200, "a good key is not held up");
    let unnamed = |line: &serde_json::Value| {
        line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:"))
    };
    eventually("the log names the proxy", || gateway.lines().iter().any(unnamed));
}

#[test]
fn a_client_that_is_no_trusted_proxy_speaks_for_itself() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    for trusted in ["", "trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\"]"] {
        let server = format!("auth_failures_per_second = 1\n{trusted}");
        let gateway = Gateway::with(upstream.address, &server, "");
        let mut client = Client::connect(gateway.address);
        use_up(&mut client, "X-Forwarded-For: 198.51.100.1");
        check_refusal(&client.ask(guess("X-Forwarded-For: 203.0.113.9")), 429, "auth_rate");
    }
}

/// A call with this key, for a client at the address.
fn call(key: &str, from: &str) -> String {
    let fields = [format!("Authorization: Bearer {key}"), format!("X-Forwarded-For: {from}")];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    message("POST /api/v1/services/aigc/text-generation/generation", &fields, "{}")
}

#[test]
fn a_key_is_good_from_its_own_addresses_or_else_from_its_tenants() {
    const OWN: &str = "sk-tenant-one-own-0123456789";
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let tenant = format!(
        "addresses = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n[[tenants.keys]]\nid = \"own\"\nkey = \"{OWN}\"\n\
         addresses = [\"198.51.100.7\"]\n"
    );
    let server = "auth_failures_per_second = 0\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = gateway_with_keys(&upstream, server, &tenant);
    let mut proxy = Client::connect(gateway.address);
    for (key, from, is_good) in [
        (TENANT_KEY, "203.0.113.9", true),
        (TENANT_KEY, "::ffff:203.0.113.9", true),
        (TENANT_KEY, "2001:db8::5", true),
        (TENANT_KEY, "203.0.114.9", false),
        (TENANT_KEY, "198.51.100.7", false),
        (TENANT_KEY, "203.0.113.9, 198.51.100.1", false),
        (OWN, "198.51.100.7", true),
        (OWN, "203.0.113.9", false),
        (OTHER_KEY, "192.0.2.1", true),
    ] {
        let got = proxy.ask(call(key, from));
        if is_good {
            assert_eq!(got.status(), 200, "{key} {from}");
            continue;
        }
        let told = assert_refused(&got, 403, "address", "AccessDenied", Envelope::Flat);
        assert!(!told.chars().any(|letter| letter.is_ascii_digit()), "{told}");
    }
    check_refusal(&proxy.ask(call("sk-a-guess-0123456789", "203.0.113.9")), 401, "unknown_key");
    assert_eq!(upstream.requests().len(), 5);
    let refused = |line: &serde_json::Value| line["reason"] == "address" && line["key_id"] == "own";
    eventually("the log names the key", || gateway.lines().iter().any(refused));
}

#[test]
fn a_key_that_is_made_at_run_time_is_good_from_its_tenants_addresses() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let server = "trusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = Gateway::with(upstream.address, server, "addresses = [\"203.0.113.0/24\"]");
    let made = gateway.administer("POST /admin/keys", "{\"tenant\":\"one\",\"id\":\"made\"}");
    let made = made.json();
    let key = made["key"].as_str().expect("a secret");
    assert_eq!(gateway.ask(call(key, "203.0.113.9")).status(), 200);
    check_refusal(&gateway.ask(call(key, "198.51.100.1")), 403, "address");
    check_refusal(&gateway.ask(generate("{}")), 403, "address");
}

/// The usual gateway, whose tenant `one` has these lines: its keys become tables, so that more of them can follow.
fn gateway_with_keys(upstream: &Upstream, server: &str, tenant: &str) -> Gateway {
    let server = format!("listen = \"127.0.0.1:0\"\nworkers = 1\n{server}");
    let text = configuration(&server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    let inline = format!("keys = [{{ id = \"one-key\", key = \"{TENANT_KEY}\" }}]\n");
    let (first, more) = tenant.split_once('\n').expect("lines");
    let table = format!("{first}\n[[tenants.keys]]\nid = \"one-key\"\nkey = \"{TENANT_KEY}\"\n{more}");
    assert!(text.contains(&inline));
    Gateway::configured(&text.replace(&inline, &table))
}

#[test]
fn a_proxy_of_bytes_names_the_client_before_the_first_request() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let told = |server: &str| Gateway::with(upstream.address, server, "addresses = [\"203.0.113.0/24\"]");
    let gateway = told("proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let version_2 =
        [&signature[..], &[0x21, 0x11, 0, 12, 203, 0, 113, 9, 10, 0, 0, 1, 0x13, 0x88, 1, 187]].concat();
    let line = |client: &str| format!("PROXY TCP4 {client} 10.0.0.1 5000 443\r\n").into_bytes();
    for (header, status) in [
        (line("203.0.113.9"), 200),
        (version_2, 200),
        (line("198.51.100.1"), 403),
        // The proxy speaks for itself, as in a health check.
        (b"PROXY UNKNOWN\r\n".to_vec(), 403),
    ] {
        let mut client = Client::connect(gateway.address);
        client.push(&header);
        assert_eq!(client.ask(generate("{}")).status(), status, "{header:?}");
        assert_eq!(client.ask(generate("{}")).status(), status, "the whole connection is the client's");
    }
    let client = |line: &serde_json::Value| line["client"] == "203.0.113.9:5000";
    eventually("the log names the client", || gateway.lines().iter().any(client));
    let mut silent = Client::connect(gateway.address);
    silent.push(generate("{}"));
    assert!(silent.rest().is_empty(), "a connection without the header is closed");
    // Nobody else may name a client.
    let gateway = told("proxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\"]");
    let mut stranger = Client::connect(gateway.address);
    stranger.push(line("203.0.113.9"));
    assert_ne!(stranger.ask(generate("{}")).status(), 200);
    check_refusal(&gateway.ask(generate("{}")), 403, "address");
    assert_eq!(upstream.requests().len(), 4);
}
