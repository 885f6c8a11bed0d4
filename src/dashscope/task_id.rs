//! Ids of tasks. DashScope's are UUIDs, which take 16 bytes in memory; any other text is held as it is.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// The text of a task's id, exactly as DashScope gave it.
#[derive(Clone)]
pub enum TaskId {
    /// A canonical UUID: no memory is taken from the heap for its text.
    Uuid([u8; UUID_BYTES]),
    Other(Arc<str>),
}

/// A task's id for comparisons: texts are equal if their keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskKey<'i> {
    Uuid(Uuid),
    Other(&'i str),
}

impl<'i> TaskKey<'i> {
    pub fn of(id: &'i str) -> Self {
        let is_canonical = |uuid: &Uuid| text_of(*uuid) == *id.as_bytes();
        let uuid = Some(id).filter(|id| id.len() == UUID_BYTES).and_then(|id| Uuid::try_parse(id).ok());
        uuid.filter(is_canonical).map_or(Self::Other(id), Self::Uuid)
    }
}

impl From<Uuid> for TaskId {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(text_of(uuid))
    }
}

impl From<&str> for TaskId {
    fn from(id: &str) -> Self {
        match TaskKey::of(id) {
            TaskKey::Uuid(uuid) => uuid.into(),
            TaskKey::Other(id) => Self::Other(id.into()),
        }
    }
}

impl Deref for TaskId {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Uuid(text) => str::from_utf8(text).unwrap_or_default(),
            Self::Other(text) => text,
        }
    }
}

impl From<TaskId> for Arc<str> {
    fn from(id: TaskId) -> Self {
        match id {
            TaskId::Uuid(_) => Self::from(&*id),
            TaskId::Other(text) => text,
        }
    }
}

impl Serialize for TaskId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

fn text_of(uuid: Uuid) -> [u8; UUID_BYTES] {
    let mut text = [0; UUID_BYTES];
    uuid.hyphenated().encode_lower(&mut text);
    text
}

/// Bytes of a UUID with its hyphens.
const UUID_BYTES: usize = 36;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_canonical_uuid_is_held_as_one() {
        let id = "0385dc79-5ff8-4d82-bcb6-0123456789ab";
        assert!(matches!(TaskKey::of(id), TaskKey::Uuid(_)));
        let odd = [
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{}}}", id.replace('-', "")),
            format!("urn:uuid:{id}"),
            id.replace("0385dc79-5", "0385dc795-"),
            format!("{id} "),
            String::new(),
        ];
        for id in odd {
            assert_eq!(TaskKey::of(&id), TaskKey::Other(&id));
        }
    }

    proptest! {
        #[test]
        fn an_id_is_shown_as_it_came(id in "([0-9a-fA-F]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f-]{36}|.{0,40})") {
            prop_assert_eq!(&*TaskId::from(&*id), &*id);
        }
    }
}
