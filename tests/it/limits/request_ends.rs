//! Slots: every way in which a request can end on the wire, many times over; afterwards every slot is free.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;

use super::check_limited;
use crate::harness::calls::{SYNTHESIS, bearer, task};
use crate::harness::state::differs;
use crate::harness::upstream::until_closed;
use crate::harness::{Client, Gateway, Message, TENANT_KEY, Upstream, answer, eventually, message};

const SLOTS: usize = 48;

#[derive(Debug, Clone, Copy)]
enum RequestEnd {
    Finished,
    StreamFinished,
    ClientLeavesBeforeTheAnswer,
    ClientLeavesInTheAnswer,
    ClientResetsInTheAnswer,
    ClientLeavesInItsBody,
    UpstreamCutsItsAnswer,
    UpstreamResets,
    UpstreamSaysNothing,
    SubmitFinished,
    SubmitRefused,
    SubmitLeft,
    TunnelLeft,
    TunnelCut,
    Http2Finished,
    Http2Reset,
}

const WAYS: [RequestEnd; 16] = [
    RequestEnd::Finished,
    RequestEnd::StreamFinished,
    RequestEnd::ClientLeavesBeforeTheAnswer,
    RequestEnd::ClientLeavesInTheAnswer,
    RequestEnd::ClientResetsInTheAnswer,
    RequestEnd::ClientLeavesInItsBody,
    RequestEnd::UpstreamCutsItsAnswer,
    RequestEnd::UpstreamResets,
    RequestEnd::UpstreamSaysNothing,
    RequestEnd::SubmitFinished,
    RequestEnd::SubmitRefused,
    RequestEnd::SubmitLeft,
    RequestEnd::TunnelLeft,
    RequestEnd::TunnelCut,
    RequestEnd::Http2Finished,
    RequestEnd::Http2Reset,
];

const EVENT: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata:1\n\n\r\n";

/// Ends the request in the way that `x-way` names. Queries of the gateway itself have no such field.
fn script(request: &Message, stream: &mut TcpStream) -> bool {
    let mut say = |bytes: &[u8]| stream.write_all(bytes).is_ok();
    match request.field("x-way").unwrap_or("task".to_owned()).as_str() {
        "plain" => say(&answer("200 OK", &[], "{}")),
        "stream" => say(EVENT) && say(b"0\r\n\r\n"),
        "open" => {
            say(EVENT);
            until_closed(stream);
            false
        }
        "cut" => {
            say(EVENT);
            false
        }
        "reset" => {
            say(b"HTTP/1.1 200 OK\r\nContent-Le");
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            false
        }
        "nothing" => false,
        "task" => say(&task("t-done", "SUCCEEDED")),
        "refused" => say(&answer("400 Bad Request", &[], r#"{"code":"InvalidParameter"}"#)),
        "pending" => say(&task(&format!("t-{}", request.field("x-number").expect("a number")), "PENDING")),
        "tunnel" | "tunnel-cut" => {
            say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
            if request.field("x-way").as_deref() == Some("tunnel") {
                until_closed(stream);
            }
            false
        }
        way => panic!("no way {way}"),
    }
}

fn call(way: &str) -> String {
    let target = "POST /api/v1/services/aigc/text-generation/generation";
    message(target, &[&bearer(), &format!("x-way: {way}")], "{}")
}

fn submit(way: &str, number: usize) -> String {
    let fields =
        [&*bearer(), "X-DashScope-Async: enable", &format!("x-way: {way}"), &format!("x-number: {number}")];
    message(&format!("POST {SYNTHESIS}"), &fields, r#"{"model":"wan2.7-t2v"}"#)
}

fn handshake(way: &str) -> String {
    let fields = [&*bearer(), "Connection: Upgrade", "Upgrade: websocket", &format!("x-way: {way}")];
    message("GET /api-ws/v1/inference", &fields, "")
}

fn end(gateway: &Gateway, way: RequestEnd) {
    let mut client = Client::connect(gateway.address);
    match way {
        RequestEnd::Finished => assert_eq!(client.ask(call("plain")).status(), 200),
        RequestEnd::StreamFinished => assert_eq!(client.ask(call("stream")).status(), 200),
        RequestEnd::ClientLeavesBeforeTheAnswer => {
            client.send(call("plain"));
            client.leave();
        }
        RequestEnd::ClientLeavesInTheAnswer => {
            client.send(call("open"));
            assert_eq!(client.head().status(), 200);
            client.leave();
        }
        RequestEnd::ClientResetsInTheAnswer => {
            client.send(call("open"));
            assert_eq!(client.head().status(), 200);
            SockRef::from(&*client.stream()).set_linger(Some(Duration::ZERO)).expect("an option");
        }
        RequestEnd::ClientLeavesInItsBody => {
            let whole = call("plain").replace("Content-Length: 2", "Content-Length: 2000");
            client.send(whole);
            client.leave();
        }
        RequestEnd::UpstreamCutsItsAnswer => {
            client.send(call("cut"));
            assert!(!client.answer().complete);
        }
        RequestEnd::UpstreamResets => assert_eq!(client.ask(call("reset")).status(), 502),
        RequestEnd::UpstreamSaysNothing => assert_eq!(client.ask(call("nothing")).status(), 502),
        RequestEnd::SubmitFinished => assert_eq!(client.ask(submit("task", 0)).status(), 200),
        RequestEnd::SubmitRefused => assert_eq!(client.ask(submit("refused", 0)).status(), 400),
        RequestEnd::SubmitLeft => {
            client.send(submit("task", 0));
            client.leave();
        }
        RequestEnd::TunnelLeft => {
            client.send(handshake("tunnel"));
            assert_eq!(client.head().status(), 101);
            client.leave();
        }
        RequestEnd::TunnelCut => {
            client.send(handshake("tunnel-cut"));
            assert_eq!(client.head().status(), 101);
            let _ = client.reader().read_to_end(&mut Vec::new());
        }
        RequestEnd::Http2Finished => http2(gateway, "stream"),
        RequestEnd::Http2Reset => http2(gateway, "open"),
    }
}

/// Reads a stream to its end, or drops it after its first event, which resets it.
fn http2(gateway: &Gateway, way: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.address).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = Request::post("http://gateway/api/v1/services/aigc/text-generation/generation")
            .header("authorization", format!("Bearer {TENANT_KEY}"))
            .header("x-way", way)
            .body(Full::new(Bytes::from_static(b"{}")))
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        while body.frame().await.is_some() && way == "stream" {}
    });
}

#[test]
fn every_slot_is_back_however_its_request_ended() {
    if differs("counts slots in one process; a database keeps the slot of a submit that may have made a task")
    {
        return;
    }
    let requests: usize =
        std::env::var("DASHGATE_SLOTS").map_or(1_000, |count| count.parse().expect("a number of requests"));
    let upstream = Upstream::start(script);
    let limits = format!(
        "limits = {{ concurrent_requests = {SLOTS}, tasks_in_flight = {SLOTS} }}\n\
         tenant_limits = {{ concurrent_requests = {SLOTS}, tasks_in_flight = {SLOTS} }}"
    );
    let gateway = super::gateway(&upstream, &limits);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let gateway = &gateway;
            scope.spawn(move || {
                for number in (thread..requests).step_by(4) {
                    end(gateway, WAYS[number % WAYS.len()]);
                }
            });
        }
    });
    let open = || {
        let mut client = Client::connect(gateway.address);
        client.send(call("open"));
        (client.head().status() == 200).then_some(client)
    };
    let mut streams = Vec::new();
    eventually("every slot is back", || {
        streams = (0..SLOTS).filter_map(|_| open()).collect();
        streams.len() == SLOTS
    });
    check_limited(&gateway.ask(call("plain")), "concurrency", "limits.concurrent_requests = 48");
    drop(streams);
    for number in 0..SLOTS {
        eventually("a task's slot is free", || gateway.ask(submit("pending", number)).status() == 200);
    }
    check_limited(&gateway.ask(submit("pending", SLOTS)), "tasks_in_flight", "limits.tasks_in_flight = 48");
}

#[test]
fn what_a_drain_cuts_has_no_slot_after_the_restart() {
    if differs("counts slots in one process; a database keeps the slot of a submit that may have made a task")
    {
        return;
    }
    let upstream = Upstream::start(|_, stream| {
        until_closed(stream);
        false
    });
    let text = crate::harness::configuration(
        "listen = \"127.0.0.1:0\"\nworkers = 1\ntimeouts = { drain = \"1ms\" }",
        &[("main", upstream.address, &[crate::harness::UPSTREAM_KEY], "")],
        "limits = { tasks_in_flight = 1 }",
    );
    let gateway = Gateway::configured(&text);
    let mut client = Client::connect(gateway.address);
    client.send(submit("pending", 0));
    eventually("the submit has arrived", || upstream.requests().len() == 1);
    check_limited(&gateway.ask(submit("pending", 1)), "tasks_in_flight", "limits.tasks_in_flight = 1");
    gateway.running.drain();
    let again = Upstream::start(script);
    let text = text.replace(&upstream.address.to_string(), &again.address.to_string());
    let gateway = Gateway::over(gateway.stop(), &text);
    assert_eq!(gateway.ask(submit("pending", 2)).status(), 200);
}
