//! Large bodies pass byte for byte: 64 MiB up, and 1 GiB down.

use std::io::{self, BufReader, Read, Write};

use sha2::{Digest, Sha256};

use crate::harness::calls::{Dechunk, generate, generate_head};
use crate::harness::message::read_head;
use crate::harness::{Client, Gateway, Upstream, answer};

/// Pseudorandom bytes. Their number is a prime, so that no wrong offset can go unnoticed.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(1_048_573).collect()
}

/// Counts the bytes and compares each with what it must be.
fn check_noise(mut from: impl Read) -> u64 {
    let noise = noise();
    let mut buffer = vec![0; 256 * 1024];
    let (mut count, mut at) = (0, 0);
    loop {
        let read = from.read(&mut buffer).expect("bytes");
        if read == 0 {
            return count;
        }
        let mut got = &buffer[..read];
        while !got.is_empty() {
            let here = got.len().min(noise.len() - at);
            assert!(got[..here] == noise[at..at + here], "bytes differ behind {count}");
            (got, at, count) = (&got[here..], (at + here) % noise.len(), count + here as u64);
        }
    }
}

fn write_noise(stream: &mut impl Write, length: u64, chunked: bool) -> io::Result<()> {
    let noise = noise();
    let mut left = length;
    while left > 0 {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(noise.len());
        if chunked {
            write!(stream, "{here:x}\r\n")?;
        }
        stream.write_all(&noise[..here])?;
        if chunked {
            stream.write_all(b"\r\n")?;
        }
        left -= here as u64;
    }
    if chunked { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
}

#[test]
fn sixty_four_mebibytes_go_up() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let body: Vec<u8> = noise().into_iter().cycle().take(LENGTH).collect();
    let sum = format!("{:x?}", Sha256::digest(&body));
    for chunked in [false, true] {
        let upstream = Upstream::bare(move |stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
            let _ = read_head(&mut reader).expect("a head");
            let mut body: Box<dyn Read> =
                if chunked { Box::new(Dechunk::new(reader)) } else { Box::new(reader.take(LENGTH as u64)) };
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match body.read(&mut buffer).expect("bytes") {
                    0 => break,
                    read => hash.update(&buffer[..read]),
                }
            }
            let sum = format!("{:x?}", hash.finalize());
            stream.write_all(&answer("200 OK", &[], &sum)).expect("written");
        });
        let gateway = Gateway::start(upstream.address);
        let mut client = Client::connect(gateway.address);
        if chunked {
            client.send(generate_head("Transfer-Encoding: chunked"));
            write_noise(client.stream(), LENGTH as u64, true).expect("sent");
        } else {
            client.send(generate_head(&format!("Content-Length: {LENGTH}")));
            client.send(&body);
        }
        assert_eq!(client.answer().text(), sum, "chunked: {chunked}");
    }
}

const GIBIBYTE: u64 = 1024 * 1024 * 1024;

fn check_download(chunked: bool) {
    let upstream = Upstream::start(move |_, stream| {
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {GIBIBYTE}")
        };
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes()).expect("written");
        write_noise(stream, GIBIBYTE, chunked).is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    let head = client.head();
    assert_eq!(head.field("content-length").is_some(), !chunked);
    let count = if chunked {
        check_noise(Dechunk::new(client.reader()))
    } else {
        check_noise(client.reader().take(GIBIBYTE))
    };
    assert_eq!(count, GIBIBYTE);
}

#[test]
fn a_gibibyte_comes_down_by_length() {
    check_download(false);
}

#[test]
fn a_gibibyte_comes_down_in_chunks() {
    check_download(true);
}
