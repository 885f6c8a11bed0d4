//! Timeouts: upstreams that can't be reached, break, or fall silent; the client learns whether to retry, and nothing is
//! sent twice that may have arrived.

mod leaving_clients;

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::calls::{check_refusal, generate, generate_head, poll, submit, task};
use crate::harness::upstream::{ClosedPort, until_closed};
use crate::harness::{Client, Gateway, Message, UPSTREAM_KEY, Upstream, answer, configuration, eventually};

/// Checks that the answer to a submit tells the client not to retry, and that the answer to another call does not.
#[track_caller]
fn check_retry(request: &str, answer: &Message) {
    let expected = request.contains("X-DashScope-Async").then_some("false");
    assert_eq!(answer.field("x-should-retry").as_deref(), expected, "{request}{}", answer.head);
}

#[test]
fn an_upstream_that_refuses_is_unreachable() {
    let port = ClosedPort::reserve();
    let address = port.address();
    let gateway = Gateway::start(address);
    for request in [submit(), generate("{}")] {
        let refusal = gateway.ask(&request);
        check_refusal(&refusal, 503, "upstream_unreachable");
        assert_eq!(refusal.field("x-should-retry"), None, "nothing was sent");
        assert!(!refusal.holds(&address.port().to_string()), "who the upstream is concerns nobody");
    }
}

/// A host that takes no more connections: its queue is full, so that nobody answers.
fn full_queue() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    socket.listen(0).expect("a listener");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("an address");
    let patience = std::time::Duration::from_millis(200);
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, patience) {
        held.push(stream);
        assert!(held.len() < 100, "the queue has no end");
    }
    (listener, held, address)
}

#[test]
fn an_upstream_that_does_not_answer_the_call_is_unreachable() {
    let (_listener, _held, address) = full_queue();
    let gateway = Gateway::with(address, r#"timeouts = { connect = "200ms" }"#, "");
    let refusal = gateway.ask(submit());
    check_refusal(&refusal, 503, "upstream_unreachable");
    assert_eq!(refusal.field("x-should-retry"), None);
}

#[test]
fn an_upstream_that_closes_at_once_is_asked_once() {
    let upstream = Upstream::bare(|_| {});
    let gateway = Gateway::start(upstream.address);
    for (asked, request) in (1..).zip([submit(), generate("{}"), submit(), generate("{}")]) {
        let refusal = gateway.ask(&request);
        // Only the gateway knows whether it had written the request before it saw the close.
        if refusal.status() == 502 {
            check_refusal(&refusal, 502, "upstream_lost");
            check_retry(&request, &refusal);
        } else {
            check_refusal(&refusal, 503, "upstream_unreachable");
        }
        assert_eq!(upstream.connections(), asked);
    }
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced() {
    let upstream = Upstream::start(|request, stream| {
        stream.write_all(&answer("200 OK", &[], &request.text())).expect("written");
        stream.shutdown(Shutdown::Both).expect("shut");
        false
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    for round in 0..100 {
        let body = format!("round {round}");
        let got = client.ask(generate(&body));
        assert_eq!((got.status(), got.text()), (200, body));
        upstream.wait_for_silence();
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (100, 100));
}

#[test]
fn a_kept_connection_is_used_again() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    for _ in 0..20 {
        assert_eq!(gateway.ask(generate("{}")).status(), 200);
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (20, 1));
}

#[test]
fn a_request_that_was_written_is_never_sent_again() {
    for request in [submit(), generate("{}")] {
        for reused in [false, true] {
            let asked = AtomicUsize::new(0);
            let upstream = Upstream::start(move |_, stream| {
                let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
                reused && first && stream.write_all(&answer("200 OK", &[], "{}")).is_ok()
            });
            let gateway = Gateway::start(upstream.address);
            if reused {
                assert_eq!(gateway.ask(generate("before")).status(), 200);
            }
            let refusal = gateway.ask(&request);
            check_refusal(&refusal, 502, "upstream_lost");
            check_retry(&request, &refusal);
            upstream.wait_for_silence();
            assert_eq!((upstream.requests().len(), upstream.connections()), (1 + usize::from(reused), 1));
        }
    }
}

/// A large request that the upstream cuts while it is read was written in part.
#[test]
fn a_request_that_was_written_in_part_is_never_sent_again() {
    let upstream = Upstream::bare(|stream| {
        use std::io::Read;
        stream.read_exact(&mut [0; 4096]).expect("a part");
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.push(generate_head("Content-Length: 33554432"));
    client.push(vec![b'x'; 33_554_432]);
    check_refusal(&client.answer(), 502, "upstream_lost");
    assert_eq!(upstream.connections(), 1);
}

const CUT: [&str; 3] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"output\":{\"task_id\":\"t-1\"",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n{\"output\":{\"task_id\":\"t-1\"\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{\"output\":{\"task_id\":\"t-1\"",
];

#[test]
fn an_answer_that_is_cut_is_never_complete() {
    for cut in CUT {
        let upstream = Upstream::start(move |_, stream| {
            stream.write_all(cut.as_bytes()).expect("written");
            false
        });
        let gateway = Gateway::start(upstream.address);
        let got = gateway.ask(generate("{}"));
        assert_eq!((got.status(), got.text().as_str()), (200, r#"{"output":{"task_id":"t-1""#));
        assert!(!got.complete, "{cut}");
        assert_eq!((upstream.requests().len(), upstream.connections()), (1, 1));
    }
}

#[test]
fn a_submits_answer_that_is_cut_is_told_before_the_client_sees_a_part() {
    for cut in CUT {
        let upstream = Upstream::start(move |_, stream| {
            stream.write_all(cut.as_bytes()).expect("written");
            false
        });
        let gateway = Gateway::start(upstream.address);
        let refusal = gateway.ask(submit());
        check_refusal(&refusal, 502, "upstream_lost");
        assert_eq!(refusal.field("x-should-retry").as_deref(), Some("false"));
        assert_eq!((upstream.requests().len(), upstream.connections()), (1, 1));
    }
}

#[test]
fn a_silent_upstream_is_given_up_before_the_head() {
    let upstream = Upstream::start(|_, stream| {
        until_closed(stream);
        false
    });
    let gateway = Gateway::with(upstream.address, r#"timeouts = { upstream = "200ms" }"#, "");
    for (asked, request) in (1..).zip([submit(), generate("{}")]) {
        let refusal = gateway.ask(&request);
        check_refusal(&refusal, 504, "upstream_timeout");
        check_retry(&request, &refusal);
        upstream.wait_for_silence();
        assert_eq!((upstream.requests().len(), upstream.connections()), (asked, asked));
    }
}

#[test]
fn a_silent_upstream_is_given_up_inside_the_body() {
    for cut in CUT {
        let upstream = Upstream::start(move |request, stream| {
            if request.text() == "task" {
                return stream.write_all(&task("t-2", "PENDING")).is_ok();
            }
            stream.write_all(cut.as_bytes()).expect("written");
            until_closed(stream);
            false
        });
        let text = |patience: &str| {
            let timeouts = format!("timeouts = {{ upstream = {patience:?} }}");
            let server = format!("listen = \"127.0.0.1:0\"\nworkers = 1\n{timeouts}");
            configuration(&server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "")
        };
        // The task has more time than a silence is given.
        let gateway = Gateway::from_file(&text("2s"));
        let submitted = submit();
        let (head, body) = submitted.split_once("\r\n\r\n").expect("a head");
        let length = |bytes: usize| format!("Content-Length: {bytes}");
        let submitted = head.replace(&length(body.len()), &length(4)) + "\r\n\r\ntask";
        assert_eq!(gateway.ask(submitted).status(), 200);
        assert_eq!(gateway.reload(&text("200ms")).status(), 200);
        let got = gateway.ask(generate("{}"));
        assert_eq!((got.status(), got.complete), (200, false), "{cut}");
        let refusal = gateway.ask(submit());
        check_refusal(&refusal, 504, "upstream_timeout");
        check_retry(&submit(), &refusal);
        // A poll of a task gets the last known state instead of an error.
        let polled = gateway.ask(poll("t-2"));
        assert_eq!(
            (polled.status(), polled.json()["output"]["task_status"].as_str()),
            (200, Some("PENDING"))
        );
        upstream.wait_for_silence();
    }
}

#[test]
fn garbage_instead_of_http_is_a_lost_answer() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
        "\x15\x03\x01\x00\x02\x02\x50".to_owned(),
        "HTTP/1.1 999999 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned(),
        format!("HTTP/1.1 200 OK\r\nLong: {}\r\n\r\n", "x".repeat(1024 * 1024)),
        "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n".to_owned(),
        // The gateway would drop this transfer coding's field, and the client could not undo the coding.
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n\x1f\x0b\r\n0\r\n\r\n".to_owned(),
    ] {
        for request in [submit(), generate("{}")] {
            let garbage = garbage.clone();
            let upstream = Upstream::start(move |_, stream| {
                let _ = stream.write_all(garbage.as_bytes());
                false
            });
            let gateway = Gateway::start(upstream.address);
            let refusal = gateway.ask(&request);
            check_refusal(&refusal, 502, "upstream_lost");
            check_retry(&request, &refusal);
            assert_eq!(upstream.connections(), 1);
        }
    }
}

/// Bytes that an upstream sends behind its answer must never become the answer to another request.
#[test]
fn bytes_behind_an_answer_are_nobodys() {
    let upstream = Upstream::start(|request, stream| {
        let bogus = answer("200 OK", &[], "somebody else's");
        let real = answer("200 OK", &[], &request.text());
        stream.write_all(&[real, bogus].concat()).is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    for round in 0..50 {
        let body = format!("round {round}");
        let got = client.ask(generate(&body));
        assert_eq!((got.status(), got.text()), (200, body));
    }
}

/// The transfer coding wins over the length (RFC 9112, 6.3), and the client must not get both.
#[test]
fn an_answer_with_two_lengths_reaches_the_client_with_one() {
    for fields in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n7\r\nseven\r\n\r\n0\r\n\r\n");
        let upstream = Upstream::answering(bytes);
        let gateway = Gateway::start(upstream.address);
        let mut client = Client::connect(gateway.address);
        for _ in 0..2 {
            let got = client.ask(generate("{}"));
            if got.field("x-dashgate-reason").is_some() {
                check_refusal(&got, 502, "upstream_lost");
                continue;
            }
            let both = got.field("content-length").is_some() && got.field("transfer-encoding").is_some();
            assert!(!both && got.complete && got.text() == "seven\r\n", "{}{}", got.head, got.text());
        }
    }
}

#[test]
fn a_failed_exchange_leaves_nothing_behind() {
    let upstream = Upstream::start(|request, stream| match &*request.text() {
        "cut" => false,
        _ => stream.write_all(&answer("200 OK", &[], "{}")).is_ok(),
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    for _ in 0..10 {
        check_refusal(&client.ask(generate("cut")), 502, "upstream_lost");
        assert_eq!(client.ask(generate("{}")).status(), 200, "the client's connection goes on");
    }
    eventually("the broken connections are gone", || upstream.connections() == 11);
}
