//! Streaming: bodies pass byte for byte, each piece the moment it comes.

mod large;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};

use crate::harness::calls::{Dechunk, GENERATION, bearer, generate, generate_head};
use crate::harness::message::read_head;
use crate::harness::{Client, Gateway, PATIENCE, Upstream, answer, message};

const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn write_chunk(stream: &mut TcpStream, bytes: &[u8]) {
    let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    stream.write_all(&framed).expect("written");
}

/// An upstream that sends each piece only when the client has seen the one before.
fn lock_step(pieces: Vec<Vec<u8>>) -> (Upstream, Sender<()>) {
    let (seen, wait): (Sender<()>, Receiver<()>) = mpsc::channel();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |_, stream| {
        stream.write_all(STREAM.as_bytes()).expect("written");
        for piece in &pieces {
            write_chunk(stream, piece);
            wait.lock().expect("no panic").recv_timeout(PATIENCE).expect("the client saw it");
        }
        stream.write_all(b"0\r\n\r\n").is_ok()
    });
    (upstream, seen)
}

fn check_lock_step(request: &str, pieces: Vec<Vec<u8>>) {
    let (upstream, seen) = lock_step(pieces.clone());
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(request);
    let head = client.head();
    assert_eq!(head.status(), 200);
    assert_eq!(head.field("content-type").as_deref(), Some("text/event-stream"));
    let mut body = Dechunk::new(client.reader());
    for piece in &pieces {
        let mut got = vec![0; piece.len()];
        body.read_exact(&mut got).expect("the piece, before the next is sent");
        assert_eq!(&got, piece);
        seen.send(()).expect("heard");
    }
    assert_eq!(body.read(&mut [0]).expect("the end"), 0);
    assert_eq!(client.ask(message("GET /nothing", &[&bearer()], "")).status(), 403, "the connection goes on");
}

fn native_events() -> Vec<Vec<u8>> {
    let event = |number: usize| match number % 50 {
        7 => b": keep-alive\n\n".to_vec(),
        8 => b":\r\n\r\n".to_vec(),
        _ => format!(
            "id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{{\"output\":{{\"text\":\"{} 视频🎬\"}}}}\n\n",
            "x".repeat(number * 7 % 301)
        )
        .into_bytes(),
    };
    (0..200).map(event).collect()
}

#[test]
fn each_native_event_is_seen_before_the_next_is_sent() {
    let fields = [&*bearer(), "X-DashScope-SSE: enable", "Accept: text/event-stream"];
    check_lock_step(
        &message(&format!("POST /wan{GENERATION}"), &fields, r#"{"model":"qwen-plus"}"#),
        native_events(),
    );
}

#[test]
fn each_chat_event_is_seen_before_the_next_is_sent() {
    let mut events: Vec<Vec<u8>> = (0..199)
        .map(|number| {
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"字{number}\"}}}}]}}\n\n").into_bytes()
        })
        .collect();
    events.push(b"data: [DONE]\n\n".to_vec());
    let request = message("POST /compatible-mode/v1/chat/completions", &[&bearer()], r#"{"stream":true}"#);
    check_lock_step(&request, events);
}

#[test]
fn pieces_that_end_anywhere_pass_as_they_come() {
    let stream: Vec<u8> = native_events().concat();
    let mut rest = &stream[..4000];
    let mut pieces = Vec::new();
    // Cuts in the middle of characters, of names and of line ends.
    for size in [1, 2, 3, 5, 7, 11, 1, 1, 13].into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(rest.len().min(size));
        pieces.push(piece.to_vec());
        rest = behind;
    }
    assert!(pieces.iter().any(|piece| std::str::from_utf8(piece).is_err()), "no character is split");
    check_lock_step(&generate("{}"), pieces);
}

#[test]
fn each_piece_of_an_upload_arrives_before_the_next_is_sent() {
    for length_known in [true, false] {
        let pieces: Vec<Vec<u8>> =
            (1..=100).map(|number| vec![b'a' + number % 26; usize::from(number) * 13]).collect();
        let total: usize = pieces.iter().map(Vec::len).sum();
        let (arrived, wait) = mpsc::channel();
        let expected = pieces.clone();
        let upstream = Upstream::bare(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
            let head = read_head(&mut reader).expect("a head").expect("a request");
            assert_eq!(head.field("content-length").is_some(), length_known);
            let mut body: Box<dyn Read> = if length_known {
                Box::new(reader.take(total as u64))
            } else {
                Box::new(Dechunk::new(reader))
            };
            for piece in &expected {
                let mut got = vec![0; piece.len()];
                body.read_exact(&mut got).expect("a piece");
                assert_eq!(&got, piece);
                arrived.send(()).expect("heard");
            }
            assert_eq!(body.read(&mut [0]).expect("the end"), 0);
            stream.write_all(&answer("200 OK", &[], "done")).expect("written");
        });
        let gateway = Gateway::start(upstream.address);
        let mut client = Client::connect(gateway.address);
        let framing = if length_known {
            format!("Content-Length: {total}")
        } else {
            "Transfer-Encoding: chunked".to_owned()
        };
        client.send(generate_head(&framing));
        for piece in &pieces {
            if length_known {
                client.send(piece);
            } else {
                write_chunk(client.stream(), piece);
            }
            wait.recv_timeout(PATIENCE).expect("the piece has arrived");
        }
        if !length_known {
            client.send("0\r\n\r\n");
        }
        assert_eq!(client.answer().text(), "done");
    }
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-More\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 900150983cd24fb0\r\nX-More: m\r\n\r\n",
    );
    let gateway = Gateway::start(upstream.address);
    let fields =
        [&*bearer(), "TE: trailers", "Connection: te", "Transfer-Encoding: chunked", "Trailer: X-Up"];
    let request = message(&format!("POST {GENERATION}"), &fields, "") + "2\r\nup\r\n0\r\nX-Up: 1\r\n\r\n";
    let got = gateway.ask(request);
    let lower = |lines: &[String]| lines.iter().map(|line| line.to_ascii_lowercase()).collect::<Vec<_>>();
    assert_eq!((got.text().as_str(), got.complete), ("abc", true));
    assert_eq!(lower(&got.trailers), ["x-sum: 900150983cd24fb0", "x-more: m"]);
    let seen = upstream.only();
    assert_eq!((seen.text().as_str(), seen.complete), ("up", true));
    assert_eq!(lower(&seen.trailers), ["x-up: 1"]);
    assert_eq!(seen.field("te").as_deref(), Some("trailers"));
}

#[test]
fn gzip_passes_as_labelled() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&native_events().concat()).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", gzip.len());
    let upstream = Upstream::answering([head.as_bytes(), &gzip].concat());
    let gateway = Gateway::start(upstream.address);
    let fields = [
        &*bearer(),
        "Content-Encoding: gzip",
        "Accept-Encoding: gzip",
        &format!("Content-Length: {}", gzip.len()),
    ];
    let mut client = Client::connect(gateway.address);
    client.send(message(&format!("POST {GENERATION}"), &fields, ""));
    client.send(&gzip);
    let got = client.answer();
    assert_eq!(got.field("content-encoding").as_deref(), Some("gzip"));
    assert!(got.body == gzip, "the answer's bytes differ");
    let seen = upstream.only();
    assert_eq!(seen.field("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(seen.field("accept-encoding").as_deref(), Some("gzip"));
    assert!(seen.body == gzip, "the request's bytes differ");
}
