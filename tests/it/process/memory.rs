//! Memory: bodies of any size pass at constant memory.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Process, configured, program};
use crate::harness::calls::{bearer, generate, generate_head};
use crate::harness::message::read_head;
use crate::harness::{Client, Upstream, answer, message};

const MIB: u64 = 1024 * 1024;

/// Takes an upload of any size; a request with the field `Give` gets that number of MiB.
fn warehouse() -> Upstream {
    Upstream::bare(|stream| {
        let block = vec![b'x'; 1 << 20];
        let mut reader = std::io::BufReader::new(stream.try_clone().expect("a clone"));
        while let Ok(Some(head)) = read_head(&mut reader) {
            let number =
                |name: &str| head.field(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
            let length = number("content-length");
            let took = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).expect("a body");
            let give = number("give");
            if give == 0 {
                stream.write_all(&answer("200 OK", &[], &took.to_string())).expect("written");
                continue;
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", give * MIB);
            stream.write_all(head.as_bytes()).expect("written");
            for _ in 0..give {
                stream.write_all(&block).expect("written");
            }
        }
    })
}

fn up(client: &mut Client, mebibytes: u64) {
    let length = mebibytes * MIB;
    client.send(generate_head(&format!("Content-Length: {length}")));
    let block = vec![b'x'; 1 << 20];
    for _ in 0..mebibytes {
        client.send(&block);
    }
    assert_eq!(client.answer().text(), length.to_string());
}

fn down(client: &mut Client, mebibytes: u64) {
    client.send(generate("{}").replace("Host: gateway", &format!("Host: gateway\r\nGive: {mebibytes}")));
    take(client, mebibytes);
}

/// Reads an answer that has so many MiB.
fn take(client: &mut Client, mebibytes: u64) {
    assert_eq!(client.head().status(), 200);
    let mut buffer = vec![0; 256 * 1024];
    let mut left = mebibytes * MIB;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match client.reader().read(&mut buffer[..most]).expect("bytes") {
            0 => panic!("{left} bytes are missing"),
            read => left -= read as u64,
        }
    }
}

fn resident_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// The most that the process had in memory while the transfer ran.
fn most_resident_kib(id: u32, transfer: impl FnOnce()) -> u64 {
    let most = Arc::new(AtomicU64::new(resident_kib(id)));
    let done = Arc::new(AtomicBool::new(false));
    let sampler = std::thread::spawn({
        let (most, done) = (Arc::clone(&most), Arc::clone(&done));
        move || {
            while !done.load(Ordering::SeqCst) {
                most.fetch_max(resident_kib(id), Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    });
    transfer();
    done.store(true, Ordering::SeqCst);
    sampler.join().expect("no panic");
    most.load(Ordering::SeqCst)
}

#[test]
fn memory_stays_flat_over_large_bodies() {
    let upstream = warehouse();
    let folder = configured(upstream.address, "127.0.0.1:0");
    let mut process = Process::start(program(folder.path()).arg("serve"));
    let address = process.address();
    let id = process.child.id();
    let at_start = resident_kib(id);
    // Enough connections that each worker has had one of them.
    let warm = most_resident_kib(id, || {
        for _ in 0..32 {
            let mut client = Client::connect(address);
            up(&mut client, 16);
            down(&mut client, 16);
        }
    });
    let uploading = most_resident_kib(id, || up(&mut Client::connect(address), 64));
    let downloading = most_resident_kib(id, || down(&mut Client::connect(address), 1024));
    println!(
        "resident: {at_start} KiB at start, at most {warm} KiB over bodies of 16 MiB, \
         {uploading} KiB over a 64 MiB upload \
         and {downloading} KiB over a 1 GiB download"
    );
    assert!(uploading <= warm + 2048, "{warm} KiB grew to {uploading} KiB");
    assert!(downloading <= warm + 2048, "{warm} KiB grew to {downloading} KiB");
}

/// Memory is constant for videos from storage too. The model names the video's size in MiB.
#[test]
fn memory_stays_flat_over_a_large_video() {
    let storage = Upstream::bare(|stream| {
        let block = vec![b'x'; 1 << 20];
        let mut reader = std::io::BufReader::new(stream.try_clone().expect("a clone"));
        while let Ok(Some(head)) = read_head(&mut reader) {
            let give = head
                .start_line()
                .split(['/', '.'])
                .nth(1)
                .and_then(|give| give.parse::<u64>().ok())
                .unwrap_or(0);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {}\r\n\r\n",
                give * MIB
            );
            stream.write_all(head.as_bytes()).expect("written");
            (0..give).for_each(|_| stream.write_all(&block).expect("written"));
        }
    });
    let origin = format!("http://{}", storage.address);
    let results = origin.clone();
    let upstream = Upstream::start(move |request, stream| {
        let line = request.start_line();
        let id = line.rsplit(['/', ' ']).nth(2).unwrap_or_default().to_owned();
        let output = if line.starts_with("POST") {
            let model = request.json()["model"].as_str().unwrap_or_default().to_owned();
            format!(r#"{{"task_id":"{model}","task_status":"PENDING"}}"#)
        } else {
            format!(r#"{{"task_id":"{id}","task_status":"SUCCEEDED","video_url":"{results}/{id}.mp4"}}"#)
        };
        stream
            .write_all(&answer(
                "200 OK",
                &["Content-Type: application/json"],
                &format!(r#"{{"output":{output}}}"#),
            ))
            .is_ok()
    });
    let folder = configured(upstream.address, "127.0.0.1:0");
    let mount = format!(
        "[[mounts]]\nprefix = \"/v1\"\ndialect = \"unified\"\nstorage = {{ hosts = [{origin:?}] }}\n"
    );
    let config = folder.path().join("dashgate.toml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, text + &mount).expect("written");
    let mut process = Process::start(program(folder.path()).arg("serve"));
    let address = process.address();
    let id = process.child.id();
    let fetch = |mebibytes: u64| {
        let mut client = Client::connect(address);
        let body = format!(r#"{{"model":"{mebibytes}","prompt":"p"}}"#);
        let made =
            client.ask(message("POST /v1/videos", &[&bearer(), "Content-Type: application/json"], &body));
        assert_eq!(made.status(), 200, "{}", made.text());
        client.send(message(&format!("GET /v1/videos/{mebibytes}/content"), &[&bearer()], ""));
        take(&mut client, mebibytes);
    };
    let warm = most_resident_kib(id, || (0..16).for_each(|_| fetch(16)));
    let large = most_resident_kib(id, || fetch(1024));
    println!("resident: at most {warm} KiB over videos of 16 MiB, {large} KiB over one of 1 GiB");
    assert!(large <= warm + 2048, "{warm} KiB grew to {large} KiB");
}
