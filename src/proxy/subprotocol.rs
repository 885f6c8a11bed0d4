//! Subprotocols of WebSockets. A page can set no header fields of a handshake, so it offers its key among the subprotocols:
//! `dashgate` and `dashgate.<token>`. The gateway selects `dashgate`, and sends neither on.

use hyper::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

/// Index of the line with a key among the lines of the field, if `dashgate` is offered beside it: a server may select only
/// what is offered (RFC 6455, 4.2.2).
pub(super) fn line_with_key(headers: &HeaderMap) -> Option<usize> {
    let line =
        headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().position(|line| key(line.as_bytes()).is_some())?;
    let mut lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lines.any(|line| offered(line.as_bytes()).any(|name| name == SELECTED)).then_some(line)
}

/// The key in a line of the field.
pub(super) fn key(line: &[u8]) -> Option<&[u8]> {
    let mut keys = offered(line).filter_map(|name| name.strip_prefix(BEFORE_KEY));
    keys.next().filter(|key| !key.is_empty())
}

/// Takes the gateway's own subprotocols off a handshake.
pub(super) fn take_off(headers: &mut HeaderMap) {
    let is_others = |name: &&[u8]| *name != SELECTED && !name.starts_with(BEFORE_KEY);
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let others: Vec<&[u8]> = lines.flat_map(|line| offered(line.as_bytes())).filter(is_others).collect();
    match HeaderValue::from_bytes(&others.join(&b", "[..])) {
        Ok(others) if !others.is_empty() => drop(headers.insert(SEC_WEBSOCKET_PROTOCOL, others)),
        Ok(_) | Err(_) => drop(headers.remove(SEC_WEBSOCKET_PROTOCOL)),
    }
}

/// Selects the gateway's own subprotocol in the answer to a handshake that bore a key, unless the upstream has selected one.
pub(super) fn select(headers: &mut HeaderMap) {
    headers.entry(SEC_WEBSOCKET_PROTOCOL).or_insert(HeaderValue::from_static("dashgate"));
}

/// The names in a line of the field.
fn offered(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

const SELECTED: &[u8] = b"dashgate";
const BEFORE_KEY: &[u8] = b"dashgate.";

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let lines = lines.iter().map(|line| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line)));
        lines.collect()
    }

    #[test]
    fn a_key_is_found_beside_the_name_that_is_selected() {
        for (lines, at) in [
            (&["dashgate, dashgate.st-1"][..], Some(0)),
            (&["dashgate.st-1,dashgate"], Some(0)),
            (&["dashgate", "x, dashgate.st-1"], Some(1)),
            (&["dashgate.st-1"], None),
            (&["dashgate, dashgate."], None),
            (&["dashgates, dashgate.st-1"], None),
            (&["realtime"], None),
            (&[], None),
        ] {
            assert_eq!(line_with_key(&headers(lines)), at, "{lines:?}");
        }
        assert_eq!(key(b"dashgate, dashgate.st-1"), Some(&b"st-1"[..]));
    }

    #[test]
    fn names_of_others_go_on() {
        for (lines, left) in [
            (&["dashgate, dashgate.st-1"][..], None),
            (&["realtime, dashgate", "dashgate.st-1,  v2"], Some("realtime, v2")),
            (&["dashgate.st-1"], None),
        ] {
            let mut headers = headers(lines);
            take_off(&mut headers);
            let lines: Vec<&HeaderValue> = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().collect();
            assert_eq!(lines.iter().map(|line| line.as_bytes()).next(), left.map(str::as_bytes));
            assert!(lines.len() <= 1);
        }
    }
}
