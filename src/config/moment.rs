//! Moments, as text or as dates of TOML.

use std::time::SystemTime;

use toml::value::Datetime;

use super::node::Node;
use super::reader::{ConfigReader, Located, Location, Text};
use super::scalar;

/// A moment as written.
pub(super) enum RawMoment {
    Text(Text),
    Datetime(Located<Datetime>),
}

/// Reads a moment; `hint` shows one.
pub(super) fn read(node: &Node<'_>, hint: &str) -> Option<RawMoment> {
    match node.datetime() {
        Some(datetime) => Some(RawMoment::Datetime(datetime)),
        None => node.string(hint).map(RawMoment::Text),
    }
}

impl RawMoment {
    pub(super) fn check(&self, reader: &ConfigReader<'_>) -> Option<SystemTime> {
        match self {
            Self::Text(text) => reader.check(text, scalar::moment),
            Self::Datetime(datetime) => reader.check(datetime, scalar::instant),
        }
    }

    pub(super) fn location(&self) -> &Location {
        match self {
            Self::Text(text) => &text.location,
            Self::Datetime(datetime) => &datetime.location,
        }
    }
}
