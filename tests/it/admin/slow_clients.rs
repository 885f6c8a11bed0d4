//! Slow clients and clients with many connections keep nobody else off the admin listener.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::harness::{ADMIN_TOKEN, Client, Gateway, Upstream, answer, client, message, openapi};

/// More connections than the listener keeps open.
const MANY: usize = 400;

#[test]
fn many_silent_connections_keep_nobody_out() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let mut silent: Vec<Client> = (0..MANY)
        .map(|number| {
            let mut client = Client::connect(gateway.admin);
            client.send(if number % 2 == 0 { "" } else { "GET /livez HTT" });
            client
        })
        .collect();
    let began = Instant::now();
    assert_eq!(client::once(gateway.admin, message("GET /livez", &[], "")).status(), 200);
    assert_eq!(gateway.administer("POST /admin/keys", r#"{"tenant":"one"}"#).status(), 201);
    // Silent connections have ten seconds each.
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert_eq!(silent[0].stream().read(&mut [0]).unwrap_or(0), 0, "the oldest is still open");
}

#[test]
fn a_body_that_does_not_come_is_given_up_and_nothing_is_made() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let fields = [
        &*format!("Authorization: Bearer {ADMIN_TOKEN}"),
        "Content-Type: application/json",
        "Content-Length: 99",
    ];
    let mut slow: Vec<(&str, Client)> = ["POST /admin/keys", "POST /admin/keys/one/rotate"]
        .map(|line| {
            let mut client = Client::connect(gateway.admin);
            client.send(message(line, &fields, "") + "{\"tenant\":\"one\",");
            (line, client)
        })
        .into();
    for (line, client) in &mut slow {
        let got = client.answer();
        openapi::check(line, "", &got);
        assert_eq!((got.status(), got.field("connection").as_deref()), (408, Some("close")));
    }
    assert_eq!(gateway.administer("GET /admin/keys", "").json()["keys"].as_array().map(Vec::len), Some(2));
}
