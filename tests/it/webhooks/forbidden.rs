//! Addresses that webhooks never reach, whatever a file, a submit or DNS says.

use std::net::TcpListener;
use std::path::Path;

use dashgate::config::Config;

use super::{SECRETS, configured, listed, run_task, upstream};
use crate::harness::{Gateway, eventually};

#[test]
fn a_file_names_no_private_address_without_saying_so() {
    let upstream = upstream();
    let faults = |url: &str, more: &str| {
        let hook = format!("{{ url = {url:?}, secrets = [{:?}]{more} }}", SECRETS[0]);
        let text = configured(&upstream, &[hook], "");
        Config::parse(&text, Path::new("."), &|_| None).map(|_| ()).map_err(|faults| format!("{faults:?}"))
    };
    for url in [
        "https://127.0.0.1/",
        "https://127.1.2.3:8443/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://0.0.0.0/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:8.8.8.8]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
    ] {
        let found = faults(url, "").expect_err(url);
        assert!(found.contains("has an address that is not public"), "{url}: {found}");
        faults(url, ", private = true").expect(url);
    }
    let found = faults("http://acme.example/", "").expect_err("cleartext");
    assert!(found.contains("is not https://"), "{found}");
    faults("https://8.8.8.8/", "").expect("a public address");
}

/// The name is resolved at each try; `net::dial` has the tests of names that change.
#[test]
fn a_name_that_leads_inside_is_not_connected_to() {
    let upstream = upstream();
    let inside = TcpListener::bind("127.0.0.1:0").expect("a port");
    inside.set_nonblocking(true).expect("non-blocking");
    let port = inside.local_addr().expect("an address").port();
    let hook = format!("{{ url = \"https://localhost:{port}/\", secrets = [{:?}] }}", SECRETS[0]);
    let gateway = Gateway::configured(&configured(&upstream, &[hook], ""));
    run_task(gateway.address, "t-1");
    eventually("two tries have failed", || listed(&gateway, "")[0]["tries"].as_u64() >= Some(2));
    let told = &listed(&gateway, "")[0];
    let problem = told["problem"].as_str().expect("a problem");
    assert!(problem.contains("which is not public"), "{problem}");
    assert_eq!(told["state"], "waiting");
    assert_eq!(inside.accept().map_err(|error| error.kind()).err(), Some(std::io::ErrorKind::WouldBlock));
}
