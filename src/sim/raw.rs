//! Answers that break HTTP on purpose, written past hyper.

use std::io;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};

use super::fault::Act;
use super::reply::Outgoing;
use super::server::next_data;
use super::wire::Wire;

/// How a connection ends that the simulator breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Close,
    Reset,
    /// Nothing more is said; the other side has to close.
    Hang,
}

pub(super) struct RawAnswer {
    head: Bytes,
    body: Option<Outgoing>,
    /// Bytes of the body that are sent.
    limit: u64,
    chunked: bool,
    ending: Ending,
}

impl RawAnswer {
    pub(super) fn only(head: Bytes, ending: Ending) -> RawAnswer {
        RawAnswer { head, body: None, limit: 0, chunked: false, ending }
    }

    /// For a fault that strikes before the request is read.
    pub(super) fn at_once(act: &Act) -> Option<RawAnswer> {
        match act {
            Act::Close => Some(RawAnswer::only(Bytes::new(), Ending::Close)),
            Act::Reset => Some(RawAnswer::only(Bytes::new(), Ending::Reset)),
            Act::Silence => Some(RawAnswer::only(Bytes::new(), Ending::Hang)),
            Act::Garbage => Some(RawAnswer::only(Bytes::from_static(GARBAGE), Ending::Close)),
            Act::Answer
            | Act::Status { .. }
            | Act::Throttle(_)
            | Act::Lose
            | Act::Truncate { .. }
            | Act::Stall { .. }
            | Act::HangUp
            | Act::WrongLength(_)
            | Act::Slow { .. } => None,
        }
    }

    /// For a fault in the answer itself; [`RawAnswer::with`] then gives it the body.
    pub(super) fn of(
        act: &Act,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Outgoing,
    ) -> Option<RawAnswer> {
        let (limit, ending, wrong_by) = match act {
            Act::Truncate { after, reset: true } => (*after, Ending::Reset, 0),
            Act::Truncate { after, reset: false } => (*after, Ending::Close, 0),
            Act::Stall { after } => (*after, Ending::Hang, 0),
            Act::HangUp => (u64::MAX, Ending::Close, 0),
            Act::WrongLength(by) => (u64::MAX, Ending::Close, *by),
            Act::Answer
            | Act::Status { .. }
            | Act::Throttle(_)
            | Act::Close
            | Act::Reset
            | Act::Lose
            | Act::Silence
            | Act::Garbage
            | Act::Slow { .. } => return None,
        };
        let length = body.length().map(|length| length.saturating_add_signed(wrong_by));
        let head = head(status, headers, length);
        Some(RawAnswer { head, body: None, limit, chunked: length.is_none(), ending })
    }

    pub(super) fn with(self, mut body: Outgoing) -> RawAnswer {
        body.broken_off();
        RawAnswer { body: Some(body), ..self }
    }

    pub(super) async fn send(mut self, wire: &Wire) -> io::Result<()> {
        if self.ending == Ending::Reset {
            wire.reset_on_close();
        }
        wire.send(&self.head).await?;
        if let Some(mut body) = self.body.take() {
            send_body(&mut body, self.limit, self.chunked, wire).await?;
        }
        if self.ending == Ending::Hang {
            wire.closed().await;
        }
        Ok(())
    }
}

async fn send_body(body: &mut Outgoing, limit: u64, chunked: bool, wire: &Wire) -> io::Result<()> {
    let mut left = limit;
    while left > 0 {
        let Some(data) = next_data(body).await else {
            return if chunked { wire.send(b"0\r\n\r\n").await } else { Ok(()) };
        };
        let size = left.min(data.len() as u64);
        left -= size;
        if chunked {
            // The chunk says its full size, so a cut shows inside it.
            wire.send(format!("{:x}\r\n", data.len()).as_bytes()).await?;
        }
        wire.send(&data[..size as usize]).await?;
        if chunked && size == data.len() as u64 {
            wire.send(b"\r\n").await?;
        }
    }
    Ok(())
}

fn head(status: StatusCode, headers: &HeaderMap, length: Option<u64>) -> Bytes {
    let mut head =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("Unknown"));
    for (name, value) in headers {
        head += &format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    head += &match length {
        Some(length) => format!("content-length: {length}\r\n\r\n"),
        None => "transfer-encoding: chunked\r\n\r\n".to_owned(),
    };
    head.into()
}

const GARBAGE: &[u8] = b"\x16\x03\x01\x00\x05not HTTP\x00\xff\r\n\r\n";
