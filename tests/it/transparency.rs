//! Transparency: client and upstream see of each other through the gateway the same as without it, byte
//! for byte, but for one list of differences.

mod exchanges;

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use crate::harness::message::{self, Message};
use crate::harness::{Client, Gateway, PATIENCE, TENANT_KEY, UPSTREAM_KEY};
use exchanges::Exchange;

/// The fields that the gateway may change in a request, how, and why. The key is no difference here: the
/// direct client has the upstream's own.
const UP: [Allowed; 4] = [
    ("host", AllowedChange::Ours, "the upstream's own (contract, Headers)"),
    (
        "connection",
        AllowedChange::Hop,
        "of one connection only (RFC 9110, 7.6.1); `te` where trailers are taken",
    ),
    ("keep-alive", AllowedChange::Hop, "of one connection only (RFC 9110, 7.6.1)"),
    (
        "expect",
        AllowedChange::Hop,
        "answered with 100 by the server that takes the body, the gateway (RFC 9110, 10.1.1)",
    ),
];

/// The fields that the gateway may change in an answer.
const DOWN: [Allowed; 7] = [
    ("connection", AllowedChange::Hop, "of one connection only (RFC 9110, 7.6.1)"),
    ("keep-alive", AllowedChange::Hop, "of one connection only (RFC 9110, 7.6.1)"),
    ("set-cookie", AllowedChange::Hop, "a balancer's cookie would tie tenants to us (contract, Headers)"),
    (
        "transfer-encoding",
        AllowedChange::Hop,
        "of one connection only: an answer that ends with it comes in chunks, and to HTTP/1.0 the other way",
    ),
    (
        "x-accel-buffering",
        AllowedChange::Added,
        "nginx in front of the gateway passes events on as they come",
    ),
    ("date", AllowedChange::Added, "a recipient dates what came without a date (RFC 9110, 6.6.1)"),
    (
        "content-length",
        AllowedChange::LostIn304,
        "hyper's server never sends the one that is optional (RFC 9110, 8.6)",
    ),
];

/// Differences beside the fields: names come in lower case (RFC 9110, 5.1) and fields of different names in any order
/// (5.3); the version is each side's own (2.5), and so are the sizes of chunks (RFC 9112, 7.1); a mount is
/// taken off the path (contract, Paths); interim answers other than 101 end at the gateway (hyper's server
/// has no way to send them, and DashScope gives none); so do trailers that no `Trailer` field announced or
/// that the client did not ask for with `TE` (RFC 9110, 6.5.1).
const ELSEWHERE: &str =
    "names' case, order of different names, version, chunk sizes, mount, interim answers, unasked trailers";

type Allowed = (&'static str, AllowedChange, &'static str);

#[derive(Debug, Clone, Copy)]
enum AllowedChange {
    /// Has another value.
    Ours,
    /// May come, go or change.
    Hop,
    /// May come where there was none.
    Added,
    /// May go from an answer without a body.
    LostIn304,
}

/// Observations of client and upstream in one exchange.
struct BothSides {
    request: Message,
    answer: Message,
}

/// An upstream for one exchange: it records the request, writes the answer, and closes the connection. Whoever leaves
/// without a request is not the gateway: a port may have been another test's before.
fn upstream(exchange: &Exchange) -> (SocketAddr, JoinHandle<Message>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (answer, interim) = (exchange.answer.clone(), exchange.interim);
    let serve = move || {
        let (mut stream, mut reader, mut request) = listener
            .incoming()
            .find_map(|stream| {
                let stream: TcpStream = stream.expect("a connection");
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
                let request = message::read_head(&mut reader).ok().flatten()?;
                Some((stream, reader, request))
            })
            .expect("a request");
        stream.write_all(interim.as_bytes()).expect("written");
        if request.field("expect").is_some() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").expect("written");
        }
        message::read_body(&mut request, &mut reader, false);
        stream.write_all(&answer).expect("written");
        request
    };
    (address, thread::spawn(serve))
}

/// Makes the exchange with the server at this address, and returns the answer.
fn make(exchange: &Exchange, address: SocketAddr, head: &str) -> Message {
    let mut client = Client::connect(address);
    client.send(head);
    if exchange.expects {
        while client.head().status() != 100 {}
    }
    client.send(exchange.body);
    loop {
        let answer = client.answer();
        if answer.status() >= 200 {
            return answer;
        }
    }
}

/// The upstream's record, or its own panic.
fn joined(serving: JoinHandle<Message>) -> Message {
    serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes the exchange with the upstream directly, with the upstream's key and path.
fn direct(exchange: &Exchange) -> BothSides {
    let (address, serving) = upstream(exchange);
    let answer = make(exchange, address, &exchange.head("", UPSTREAM_KEY));
    BothSides { answer, request: joined(serving) }
}

/// Makes the exchange through the gateway, with a tenant's key and below a mount.
fn proxied(exchange: &Exchange, mount: &str) -> BothSides {
    let (address, serving) = upstream(exchange);
    let gateway = Gateway::start(address);
    let answer = make(exchange, gateway.address, &exchange.head(mount, TENANT_KEY));
    let request = joined(serving);
    assert_eq!(request.field("authorization"), Some(format!("Bearer {UPSTREAM_KEY}")), "{}", exchange.name);
    assert_eq!(request.field("host"), Some(address.to_string()), "{}", exchange.name);
    assert!(!request.holds(TENANT_KEY), "{}", exchange.name);
    BothSides { answer, request }
}

/// The fields by name, those of one name in their order, without those that may differ.
fn fields(message: &Message, other: &Message, allowed: &[Allowed]) -> Vec<(String, String)> {
    let mut fields = message.fields();
    fields.retain(|(name, _)| match allowed.iter().find(|(allowed, ..)| allowed == name) {
        Some((_, AllowedChange::Ours, _)) => {
            assert!(other.field(name).is_some(), "{name} is lost in {}", other.head);
            false
        }
        Some((_, AllowedChange::Hop, _)) => false,
        Some((_, AllowedChange::Added, _)) => other.field(name).is_some(),
        Some((_, AllowedChange::LostIn304, _)) => !message.start_line().contains(" 304 "),
        None => true,
    });
    // The sort is stable: fields of one name keep their order.
    fields.sort_by(|one, two| one.0.cmp(&two.0));
    fields
}

fn trailers(message: &Message) -> Vec<(String, String)> {
    let split = |line: &String| {
        line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
    };
    let mut trailers: Vec<_> = message.trailers.iter().filter_map(split).collect();
    trailers.sort_by(|one, two| one.0.cmp(&two.0));
    trailers
}

fn assert_alike(what: &str, direct: &Message, proxied: &Message, allowed: &[Allowed]) {
    let (one, two) = (fields(direct, proxied, allowed), fields(proxied, direct, allowed));
    assert_eq!(one, two, "{what}: fields\n{}\n{}", direct.head, proxied.head);
    assert!(direct.body == proxied.body, "{what}: {:?} became {:?}", direct.text(), proxied.text());
    assert_eq!(direct.complete, proxied.complete, "{what}");
    assert_eq!(trailers(direct), trailers(proxied), "{what}: trailers");
}

/// Checks one exchange below every mount.
fn compare(exchange: &Exchange) {
    let plain = direct(exchange);
    for mount in ["", "/wan", "/alibabacloudapi"] {
        let what = format!("{} below {mount:?}", exchange.name);
        let through = proxied(exchange, mount);
        let expected = plain.request.start_line().replace("HTTP/1.0", "HTTP/1.1");
        assert_eq!(through.request.start_line(), expected, "{what}");
        assert_alike(&what, &plain.request, &through.request, &UP);
        // The status line to its last byte, reason phrase included, but for the client's version.
        let status_line = |answer: &Message| answer.start_line()["HTTP/1.1".len()..].to_owned();
        assert_eq!(status_line(&plain.answer), status_line(&through.answer), "{what}");
        assert_alike(&what, &plain.answer, &through.answer, &DOWN);
        // A chunked answer stays chunked, except for a client of HTTP/1.0, which can't read chunks.
        let chunked = plain.answer.field("transfer-encoding").is_some() && exchange.version == "HTTP/1.1";
        assert!(!chunked || through.answer.field("transfer-encoding").is_some(), "{what}");
    }
}

#[test]
fn every_kind_of_exchange() {
    let reasons =
        UP.iter().chain(&DOWN).map(|(name, difference, why)| format!("{name} ({difference:?}): {why}"));
    println!("may differ:\n  {ELSEWHERE}\n  {}", reasons.collect::<Vec<_>>().join("\n  "));
    let mut names = Vec::new();
    for exchange in exchanges::all() {
        compare(&exchange);
        names.push(exchange.name);
    }
    println!("{} exchanges alike, each below three mounts:\n  {}", names.len(), names.join("\n  "));
}

/// A list that allows more than what happens would hide a fault that comes later.
#[test]
fn nothing_is_allowed_that_does_not_happen() {
    let all = exchanges::all();
    let mut seen_up = Vec::new();
    let mut seen_down = Vec::new();
    for exchange in &all {
        let (plain, through) = (direct(exchange), proxied(exchange, "/wan"));
        for (list, one, two, seen) in [
            (&UP[..], &plain.request, &through.request, &mut seen_up),
            (&DOWN[..], &plain.answer, &through.answer, &mut seen_down),
        ] {
            seen.extend(
                list.iter().map(|(name, ..)| *name).filter(|name| one.field(name) != two.field(name)),
            );
        }
    }
    for (list, seen) in [(&UP[..], seen_up), (&DOWN, seen_down)] {
        for (name, ..) in list {
            assert!(seen.contains(name), "{name} never differs");
        }
    }
}

#[test]
fn trailers_that_nobody_expects_end_at_the_gateway_and_nothing_else_does() {
    for exchange in exchanges::with_unexpected_trailers() {
        let (plain, through) = (direct(&exchange), proxied(&exchange, "/wan"));
        for (one, two) in [(plain.request, through.request), (plain.answer, through.answer)] {
            assert_eq!((one.body, two.complete), (two.body, true), "{}", exchange.name);
            assert!(two.trailers.is_empty(), "{}", exchange.name);
        }
    }
}
