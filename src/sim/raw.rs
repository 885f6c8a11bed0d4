//! Answers that break HTTP on purpose, written to the socket without hyper.

use std::io;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};

use super::connection::SimulatedConnection;
use super::fault::{FaultAction, LostAnswer};
use super::reply::OutgoingReply;

/// End of a connection that the simulator breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    Close,
    Reset,
    /// No more bytes are sent; the client has to close.
    Hang,
}

pub(super) struct RawAnswer {
    head: Bytes,
    body: Option<OutgoingReply>,
    /// Number of bytes of the body that are sent.
    limit: u64,
    chunked: bool,
    ending: ConnectionEnd,
}

impl RawAnswer {
    pub(super) fn only(head: Bytes, ending: ConnectionEnd) -> RawAnswer {
        RawAnswer { head, body: None, limit: 0, chunked: false, ending }
    }

    /// The raw answer of a fault that comes before the request's body is read.
    pub(super) fn at_once(act: &FaultAction) -> Option<RawAnswer> {
        match act {
            FaultAction::Close => Some(RawAnswer::only(Bytes::new(), ConnectionEnd::Close)),
            FaultAction::Reset => Some(RawAnswer::only(Bytes::new(), ConnectionEnd::Reset)),
            FaultAction::Silence => Some(RawAnswer::only(Bytes::new(), ConnectionEnd::Hang)),
            FaultAction::Garbage => Some(RawAnswer::only(Bytes::from_static(GARBAGE), ConnectionEnd::Close)),
            FaultAction::Answer
            | FaultAction::Status { .. }
            | FaultAction::Throttle(_)
            | FaultAction::Lose
            | FaultAction::LoseBy(_)
            | FaultAction::Truncate { .. }
            | FaultAction::Stall { .. }
            | FaultAction::HangUp
            | FaultAction::WrongLength(_)
            | FaultAction::Slow { .. } => None,
        }
    }

    /// The raw answer that takes the place of one to a request that was carried out.
    pub(super) fn in_place(act: &FaultAction) -> Option<RawAnswer> {
        let ending = match act {
            FaultAction::Lose => ConnectionEnd::Reset,
            FaultAction::LoseBy(LostAnswer::Close) => ConnectionEnd::Close,
            FaultAction::LoseBy(LostAnswer::Silence) => ConnectionEnd::Hang,
            FaultAction::LoseBy(LostAnswer::Status(_))
            | FaultAction::Answer
            | FaultAction::Status { .. }
            | FaultAction::Throttle(_)
            | FaultAction::Close
            | FaultAction::Reset
            | FaultAction::Silence
            | FaultAction::Garbage
            | FaultAction::Truncate { .. }
            | FaultAction::Stall { .. }
            | FaultAction::HangUp
            | FaultAction::WrongLength(_)
            | FaultAction::Slow { .. } => return None,
        };
        Some(RawAnswer::only(Bytes::new(), ending))
    }

    /// The raw answer of a fault in the answer itself; [`RawAnswer::with`] adds the body.
    pub(super) fn of(
        act: &FaultAction,
        status: StatusCode,
        headers: &HeaderMap,
        body: &OutgoingReply,
    ) -> Option<RawAnswer> {
        let (limit, ending, wrong_by) = match act {
            FaultAction::Truncate { after, reset: true } => (*after, ConnectionEnd::Reset, 0),
            FaultAction::Truncate { after, reset: false } => (*after, ConnectionEnd::Close, 0),
            FaultAction::Stall { after } => (*after, ConnectionEnd::Hang, 0),
            FaultAction::HangUp => (u64::MAX, ConnectionEnd::Close, 0),
            FaultAction::WrongLength(by) => (u64::MAX, ConnectionEnd::Close, *by),
            FaultAction::Answer
            | FaultAction::Status { .. }
            | FaultAction::Throttle(_)
            | FaultAction::Close
            | FaultAction::Reset
            | FaultAction::Lose
            | FaultAction::LoseBy(_)
            | FaultAction::Silence
            | FaultAction::Garbage
            | FaultAction::Slow { .. } => return None,
        };
        let length = body.length().map(|length| length.saturating_add_signed(wrong_by));
        let head = head(status, headers, length);
        Some(RawAnswer { head, body: None, limit, chunked: length.is_none(), ending })
    }

    pub(super) fn with(self, mut body: OutgoingReply) -> RawAnswer {
        body.broken_off();
        RawAnswer { body: Some(body), ..self }
    }

    pub(super) async fn send(mut self, connection: &SimulatedConnection) -> io::Result<()> {
        if self.ending == ConnectionEnd::Reset {
            connection.reset_on_close();
        }
        connection.send(&self.head).await?;
        if let Some(mut body) = self.body.take() {
            send_body(&mut body, self.limit, self.chunked, connection).await?;
        }
        if self.ending == ConnectionEnd::Hang {
            connection.closed().await;
        }
        Ok(())
    }
}

async fn send_body(
    body: &mut OutgoingReply,
    limit: u64,
    chunked: bool,
    connection: &SimulatedConnection,
) -> io::Result<()> {
    let mut left = limit;
    while left > 0 {
        let Some(data) = body.next_data().await else {
            return if chunked { connection.send(b"0\r\n\r\n").await } else { Ok(()) };
        };
        let size = left.min(data.len() as u64);
        left -= size;
        if chunked {
            // The chunk declares its full size, so a cut is inside the chunk.
            connection.send(format!("{:x}\r\n", data.len()).as_bytes()).await?;
        }
        connection.send(&data[..size as usize]).await?;
        if chunked && size == data.len() as u64 {
            connection.send(b"\r\n").await?;
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
