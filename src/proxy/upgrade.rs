//! The rule for a request that asks to become a WebSocket (RFC 9110, 7.8; RFC 6455, 4.2.1). The connection's bytes and
//! its exchange must decide alike: behind such a request no head is checked any more.

use hyper::header::{CONNECTION, HeaderMap, UPGRADE};

/// Facts that a head's `Upgrade` and `Connection` fields tell.
#[derive(Debug, Default, Clone, Copy)]
pub struct UpgradeFields {
    lines: usize,
    names_websocket: bool,
    asks_upgrade: bool,
}

impl UpgradeFields {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut fields = Self::default();
        headers.get_all(UPGRADE).iter().for_each(|value| fields.add_upgrade(value.as_bytes()));
        if fields.names_websocket {
            headers.get_all(CONNECTION).iter().for_each(|value| fields.add_connection(value.as_bytes()));
        }
        fields
    }

    /// Adds the value of an `Upgrade` field.
    pub fn add_upgrade(&mut self, value: &[u8]) {
        self.lines += 1;
        self.names_websocket |= value.trim_ascii().eq_ignore_ascii_case(b"websocket");
    }

    /// Adds the value of a `Connection` field.
    pub fn add_connection(&mut self, value: &[u8]) {
        if value.eq_ignore_ascii_case(b"keep-alive") {
            return;
        }
        let mut options = value.split(|byte| *byte == b',');
        self.asks_upgrade |= options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    }

    /// True for `Upgrade: websocket` and nothing else, with `Connection: upgrade`. A request that names several protocols
    /// is an ordinary one: a server may ignore `Upgrade`.
    pub fn ask_for_websocket(self) -> bool {
        self.lines == 1 && self.names_websocket && self.asks_upgrade
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn only_one_protocol_with_its_connection_option_is_a_handshake() {
        const UP: (&str, &str) = ("upgrade", "WebSocket");
        const CONN: (&str, &str) = ("connection", "keep-alive, Upgrade");
        for (fields, is_handshake) in [
            (&[UP, CONN][..], true),
            (&[CONN, ("connection", "close"), UP], true),
            (&[UP], false),
            (&[UP, ("connection", "keep-alive")], false),
            (&[UP, ("connection", "upgraded")], false),
            (&[("upgrade", "h2c"), UP, CONN], false),
            (&[UP, UP, CONN], false),
            (&[("upgrade", "websocket, h2c"), CONN], false),
            (&[CONN], false),
        ] {
            let lines = fields
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            lines.for_each(|(name, value)| {
                headers.append(name, value);
            });
            assert_eq!(UpgradeFields::of(&headers).ask_for_websocket(), is_handshake, "{fields:?}");
        }
    }
}
