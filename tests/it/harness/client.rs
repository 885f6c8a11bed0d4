//! A client over plain TCP.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;
use super::message::{self, Message};

pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.reader.get_mut()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream().write_all(bytes.as_ref()).expect("sent");
    }

    /// Sends bytes that the peer may refuse to read.
    pub(crate) fn push(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream().write_all(bytes.as_ref());
    }

    /// The connection's buffered reader.
    pub(crate) fn reader(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.reader
    }

    /// The head of the next answer, its body unread.
    pub(crate) fn head(&mut self) -> Message {
        message::read_head(&mut self.reader).expect("a head").expect("an answer before the close")
    }

    /// The next answer, whole; to a request other than HEAD.
    pub(crate) fn answer(&mut self) -> Message {
        let mut answer = self.head();
        let has_length =
            answer.field("content-length").is_some() || answer.field("transfer-encoding").is_some();
        let bodiless = matches!(answer.status(), 100..=199 | 204 | 304);
        if bodiless {
            answer.complete = true;
        } else {
            message::read_body(&mut answer, &mut self.reader, !has_length);
        }
        answer
    }

    /// Sends a request and reads its answer.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request);
        self.answer()
    }

    /// Reads exactly this number of bytes of a body or a tunnel.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).expect("bytes");
        bytes
    }

    /// Reads until the peer closes; a reset counts as a close.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.reader.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "not closed: {error}");
        }
        bytes
    }

    /// Closes the connection.
    pub(crate) fn leave(self) {
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }
}

/// Sends a request on a connection of its own, and returns the answer.
pub(crate) fn once(address: SocketAddr, request: impl AsRef<[u8]>) -> Message {
    Client::connect(address).ask(request)
}
