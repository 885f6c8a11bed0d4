//! nginx with the shipped configuration before a gateway: streams, uploads and WebSockets pass as if it were not there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use tempfile::TempDir;

use super::tools::{installed, root, run};
use crate::harness::calls::{bearer, check_refusal, generate, generate_head};
use crate::harness::tls::Authority;
use crate::harness::{Client, Gateway, Upstream, answer, client, eventually, message, signal};
use crate::websocket::{INFERENCE, accepting, handshake};

const LISTEN: &str = "listen 443 ssl;";

/// nginx with the shipped file. Only addresses, files and TLS are other than there.
struct Nginx {
    address: SocketAddr,
    process: Child,
    _folder: TempDir,
}

impl Nginx {
    fn before(gateway: &Gateway) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (folder, mut nginx) = nginx(&format!("listen {address};"), gateway.address);
        // The listening socket is its standard input, so that no port must be free by luck.
        nginx.env("NGINX", "0;").stdin(OwnedFd::from(listener));
        let process = nginx.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx");
        Self { address, process, _folder: folder }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, it would leave its worker.
        assert!(signal("TERM", &self.process.id().to_string()));
        let _ = self.process.wait();
    }
}

/// A folder with the configuration, and nginx that reads it.
fn nginx(listen: &str, gateway: SocketAddr) -> (TempDir, Command) {
    let folder = TempDir::new().expect("a folder");
    let here = folder.path().display().to_string();
    let shipped = fs::read_to_string(root().join("deploy/nginx/dashgate.conf")).expect("the file");
    assert_eq!((shipped.matches(LISTEN).count(), shipped.matches("127.0.0.1:8080").count()), (1, 1));
    let identity = Authority::new().server();
    fs::write(folder.path().join("dashgate.crt"), identity.certificate).expect("written");
    fs::write(folder.path().join("dashgate.key"), identity.key).expect("written");
    let own = shipped
        .replace(LISTEN, listen)
        .replace("127.0.0.1:8080", &gateway.to_string())
        .replace("/etc/nginx/tls", &here);
    fs::write(folder.path().join("dashgate.conf"), own).expect("written");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {here}/{kind};\n"))
        .concat();
    let main = format!(
        "daemon off; user root; pid {here}/pid; error_log {here}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{ access_log off; {temporary} include {here}/dashgate.conf; }}\n"
    );
    fs::write(folder.path().join("nginx.conf"), main).expect("written");
    let mut nginx = Command::new(installed("bin/nginx"));
    nginx.env("LD_LIBRARY_PATH", installed("lib")).arg("-p").arg(folder.path());
    nginx.args(["-e", &format!("{here}/error.log"), "-c", &format!("{here}/nginx.conf")]);
    (folder, nginx)
}

fn behind(upstream: &Upstream) -> (Gateway, Nginx) {
    let gateway = Gateway::with(upstream.address, "trusted_proxies = [\"127.0.0.1/32\"]", "");
    let nginx = Nginx::before(&gateway);
    (gateway, nginx)
}

#[test]
fn nginx_takes_the_file_with_tls() {
    // Its check opens the sockets, so it gets one in its folder.
    let (_folder, mut nginx) = nginx("listen unix:/etc/nginx/tls/socket ssl;", ([127, 0, 0, 1], 9).into());
    run(nginx.arg("-t"), "");
}

#[test]
fn an_event_of_a_stream_goes_on_at_once() {
    let (go_on, may_go_on) = channel::<()>();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 20\r\n\r\n";
        stream.write_all(format!("{head}data: one\n").as_bytes()).expect("sent");
        let _ = may_go_on.lock().expect("no panic").recv();
        stream.write_all(b"data: two\n").is_ok()
    });
    let (_gateway, nginx) = behind(&upstream);
    let mut client = Client::connect(nginx.address);
    client.send(generate(r#"{"model":"qwen-plus"}"#));
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.bytes(10), b"data: one\n");
    go_on.send(()).expect("it waits");
    assert_eq!(client.bytes(10), b"data: two\n");
}

#[test]
fn an_upload_passes_whole_and_one_too_large_is_refused_by_the_gateway() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let (_gateway, nginx) = behind(&upstream);
    // nginx's own limit would be 1 MiB.
    let body = format!(r#"{{"model":"qwen-plus","input":"{}"}}"#, "x".repeat(20 << 20));
    assert_eq!(client::once(nginx.address, generate(&body)).status(), 200);
    assert_eq!(upstream.only().body.len(), body.len());
    let mut client = Client::connect(nginx.address);
    client.send(generate_head(&format!("Content-Length: {}", 65 << 20)));
    let refused = client.answer();
    check_refusal(&refused, 413, "body_too_large");
    assert_eq!(refused.json()["code"], "BadRequest.TooLarge");
}

#[test]
fn a_body_goes_on_before_it_is_whole() {
    let (heard, hear) = channel::<()>();
    let heard = Mutex::new(heard);
    let upstream = Upstream::bare(move |stream| {
        let mut bytes = [0; 4096];
        let mut seen = Vec::new();
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            seen.extend_from_slice(&bytes[..read]);
            if seen.windows(5).any(|part| part == b"first") {
                let _ = heard.lock().expect("no panic").send(());
            }
        }
    });
    let (_gateway, nginx) = behind(&upstream);
    let mut client = Client::connect(nginx.address);
    client.send(generate_head("Content-Length: 1000000"));
    client.send(format!("first{}", "x".repeat(200_000)));
    hear.recv_timeout(std::time::Duration::from_secs(60)).expect("the upstream has its beginning");
}

#[test]
fn a_websocket_is_a_tunnel() {
    let upstream = accepting(|stream| {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            stream.write_all(&bytes[..read]).expect("written");
        }
    });
    let (_gateway, nginx) = behind(&upstream);
    for prefix in ["", "/wan"] {
        let mut client = Client::connect(nginx.address);
        client.send(handshake(&format!("{prefix}{INFERENCE}")));
        let head = client.head();
        assert_eq!(head.status(), 101, "{}", head.head);
        client.send([0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(client.bytes(11), [0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}

#[test]
fn the_client_and_the_path_reach_the_gateway_as_they_were() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let (gateway, nginx) = behind(&upstream);
    let path = message("GET /api/v1/tasks/a%2Fb", &[&bearer(), "X-Forwarded-For: 203.0.113.9"], "");
    check_refusal(&client::once(nginx.address, path), 400, "bad_path");
    eventually("its line is written", || !gateway.lines().is_empty());
    assert_eq!(gateway.lines()[0]["client"], "203.0.113.9");
}
