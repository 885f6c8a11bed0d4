//! A scripted upstream over plain TCP: it answers as the test says and records the requests.

use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::message::{self, Message};
use super::{PATIENCE, eventually};

/// A script for one request: it writes the answer; true keeps the connection.
pub(crate) type Script = dyn Fn(&Message, &mut TcpStream) -> bool + Send + Sync;

pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<UpstreamState>,
}

#[derive(Default)]
struct UpstreamState {
    seen: Mutex<Vec<Message>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    stopped: AtomicBool,
}

impl Upstream {
    /// Reads each request whole, then asks the script.
    pub(crate) fn start(script: impl Fn(&Message, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        Self::talking(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), script)
    }

    fn talking(
        listener: TcpListener,
        script: impl Fn(&Message, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let script: Arc<Script> = Arc::new(script);
        Self::raw(listener, move |state, stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
            while let Ok(Some(mut request)) = message::read_head(&mut reader) {
                message::read_body(&mut request, &mut reader, false);
                state.seen.lock().expect("no panic").push(request.clone());
                if !request.complete || !script(&request, stream) {
                    return;
                }
            }
        })
    }

    /// Answers each request with the same bytes.
    pub(crate) fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |_, stream| stream.write_all(&bytes).is_ok())
    }

    /// Leaves every byte to the script, which gets the bare connection.
    pub(crate) fn bare(script: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Self::raw(listener, move |_, stream| script(stream))
    }

    fn raw(
        listener: TcpListener,
        talk: impl Fn(&UpstreamState, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(UpstreamState::default());
        let (shared, talk) = (Arc::clone(&state), Arc::new(talk));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
                stream.set_nodelay(true).expect("no delay");
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let open = 1 + shared.open.fetch_add(1, Ordering::SeqCst);
                shared.most_open.fetch_max(open, Ordering::SeqCst);
                let (shared, talk) = (Arc::clone(&shared), Arc::clone(&talk));
                std::thread::spawn(move || {
                    talk(&shared, &mut stream);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, state }
    }

    /// Every request so far, in the order of their ends.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.state.seen.lock().expect("no panic").clone()
    }

    /// Requests since the last call of this function.
    pub(crate) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.state.seen.lock().expect("no panic"))
    }

    /// The one request that came.
    pub(crate) fn only(&self) -> Message {
        let seen = self.requests();
        assert_eq!(seen.len(), 1, "requests seen: {seen:#?}");
        seen.into_iter().next().expect("one")
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// The most connections that were open at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.most_open.load(Ordering::SeqCst)
    }

    /// Waits until no connection is served any more.
    pub(crate) fn wait_for_silence(&self) {
        eventually("the upstream's connections are closed", || self.state.open.load(Ordering::SeqCst) == 0);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// A port on which nobody listens, until it is opened: whoever connects is refused.
pub(crate) struct ClosedPort(socket2::Socket);

impl ClosedPort {
    pub(crate) fn reserve() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().ok().and_then(|address| address.as_socket()).expect("an address")
    }

    /// Opens the port. Each request gets these bytes as its answer.
    pub(crate) fn open(self, bytes: impl Into<Vec<u8>>) -> Upstream {
        let bytes = bytes.into();
        self.0.listen(128).expect("listening");
        Upstream::talking(self.0.into(), move |_, stream| stream.write_all(&bytes).is_ok())
    }
}

/// Waits until the gateway closes, and ignores what it sends until then.
pub(crate) fn until_closed(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while matches!(stream.read(&mut bytes), Ok(1..)) {}
}

/// A whole answer by length.
pub(crate) fn answer(status: &str, fields: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    (text + "\r\n" + body).into_bytes()
}

/// A chunked answer with these lines behind its last chunk.
pub(crate) fn chunked(status: &str, fields: &[&str], chunks: &[&str], trailers: &[&str]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n");
    for field in fields {
        text.push_str(&format!("{field}\r\n"));
    }
    text.push_str("\r\n");
    for chunk in chunks {
        text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    text.push_str("0\r\n");
    for trailer in trailers {
        text.push_str(&format!("{trailer}\r\n"));
    }
    (text + "\r\n").into_bytes()
}
