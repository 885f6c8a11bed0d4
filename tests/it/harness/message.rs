//! One HTTP/1.1 message as it stood on the wire.

use std::io::{self, BufRead, Read};

/// A request or a response, byte for byte, and its parts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// Up to the empty line; each character stands for one byte, so that no two values look alike.
    pub(crate) head: String,
    /// The body without chunk framing.
    pub(crate) body: Vec<u8>,
    /// Sizes of the body's chunks, in order; empty for a body by length.
    pub(crate) chunks: Vec<usize>,
    /// Trailer lines behind the last chunk.
    pub(crate) trailers: Vec<String>,
    /// True when the body ended as its framing declares.
    pub(crate) complete: bool,
}

impl Message {
    pub(crate) fn start_line(&self) -> &str {
        self.head.split("\r\n").next().unwrap_or_default()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        let code = self.start_line().split(' ').nth(1).unwrap_or_default();
        code.parse().unwrap_or_else(|_| panic!("no status in {:?}", self.head))
    }

    /// Header names in lower case, in their order.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim_matches([' ', '\t', '\r']).to_owned()))
        };
        self.head.split("\r\n").skip(1).filter_map(field).collect()
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.fields().into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// True when the text is anywhere in the message.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.head.contains(text)
            || self.text().contains(text)
            || self.trailers.iter().any(|line| line.contains(text))
    }
}

/// Reads a head; `None` if the other side closed before one began.
pub(crate) fn read_head(from: &mut impl BufRead) -> io::Result<Option<Message>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if from.read_until(b'\n', &mut head)? == 0 {
            if head.is_empty() {
                return Ok(None);
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = head.into_iter().map(char::from).collect();
    Ok(Some(Message { head, ..Message::default() }))
}

/// Reads the body that a head announces. A broken one is no error: it is `complete: false`.
pub(crate) fn read_body(message: &mut Message, from: &mut impl BufRead, until_close: bool) {
    let chunked = message.field("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let length = message.field("content-length").and_then(|length| length.parse::<u64>().ok());
    message.complete = match (chunked, length) {
        (true, _) => read_chunks(message, from).is_ok(),
        (false, Some(length)) => {
            let read = from.take(length).read_to_end(&mut message.body);
            read.is_ok() && message.body.len() as u64 == length
        }
        (false, None) if until_close => from.read_to_end(&mut message.body).is_ok(),
        (false, None) => true,
    };
}

fn read_chunks(message: &mut Message, from: &mut impl BufRead) -> io::Result<()> {
    loop {
        let line = read_line(from)?;
        let digits = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
        if size == 0 {
            break;
        }
        message.chunks.push(size);
        let before = message.body.len();
        from.take(size as u64).read_to_end(&mut message.body)?;
        if message.body.len() - before != size || !read_line(from)?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    loop {
        match read_line(from)? {
            line if line.is_empty() => return Ok(()),
            line => message.trailers.push(line),
        }
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// A request with a body by length, ready to be sent.
pub(crate) fn message(request_line: &str, fields: &[&str], body: &str) -> String {
    let mut text = format!("{request_line} HTTP/1.1\r\nHost: gateway\r\n");
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text + "\r\n" + body
}
