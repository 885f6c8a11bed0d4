//! Fields of a response's request that decide whether DashScope stores the response, or reads a stored one. All keys of an
//! account share what is stored.

use std::io::Read;

use serde_json::Deserializer;

use super::strict_json::{Field, FieldFault, FieldName, read};

/// The part that storage has in a request for a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseStorage {
    /// Nothing is stored, and nothing that is stored is read.
    Unused,
    /// The response would be stored, as the body does not say `"store": false`.
    Stores,
    /// This field asks for something that is stored.
    Needs(&'static str),
}

impl ResponseStorage {
    /// Reads a body that lies in memory in one piece.
    ///
    /// # Errors
    /// The field that can't be read in one way only.
    pub fn from_slice(body: &[u8]) -> Result<Self, FieldFault> {
        read(Deserializer::from_slice(body), &NAMES).and_then(storage)
    }

    /// Reads a body from pieces. Blocks for as long as it takes to look at every byte.
    ///
    /// # Errors
    /// The field that can't be read in one way only.
    pub fn from_reader(body: impl Read) -> Result<Self, FieldFault> {
        read(Deserializer::from_reader(std::io::BufReader::new(body)), &NAMES).and_then(storage)
    }
}

fn storage([store, previous, conversation, background]: [Field; 4]) -> Result<ResponseStorage, FieldFault> {
    let previous = previous.is_set("previous_response_id")?;
    let conversation = conversation.is_set("conversation")?;
    let background = background.flag("background")?;
    let says_no = store.is_set("store")? && !store.flag("store")?;
    Ok(match () {
        () if previous => ResponseStorage::Needs("previous_response_id"),
        () if conversation => ResponseStorage::Needs("conversation"),
        () if background => ResponseStorage::Needs("background"),
        () if says_no => ResponseStorage::Unused,
        () => ResponseStorage::Stores,
    })
}

const NAMES: [FieldName; 4] = [
    FieldName::plain("store"),
    FieldName::plain("previous_response_id"),
    FieldName::plain("conversation"),
    FieldName::plain("background"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn storage_of(body: &str) -> Result<ResponseStorage, FieldFault> {
        let whole = ResponseStorage::from_slice(body.as_bytes());
        assert_eq!(ResponseStorage::from_reader(body.as_bytes()), whole, "{body}");
        whole
    }

    #[test]
    fn only_a_plain_no_is_taken_for_one() {
        for body in [
            r#"{"store":false}"#,
            r#"{"model":"m","input":[{"store":true}],"store":false,"background":false}"#,
            r#"{"previous_response_id":null,"conversation":null,"background":null,"store":false}"#,
        ] {
            assert_eq!(storage_of(body), Ok(ResponseStorage::Unused), "{body}");
        }
        for body in ["{}", r#"{"store":true}"#, r#"{"store":null}"#, r#"{"input":{"store":false}}"#] {
            assert_eq!(storage_of(body), Ok(ResponseStorage::Stores), "{body}");
        }
        for (body, field) in [
            (r#"{"store":false,"previous_response_id":"r"}"#, "previous_response_id"),
            (r#"{"store":false,"previous_response_id":""}"#, "previous_response_id"),
            (r#"{"store":false,"conversation":{"id":"c"}}"#, "conversation"),
            (r#"{"store":false,"conversation":"c"}"#, "conversation"),
            (r#"{"store":false,"background":true}"#, "background"),
        ] {
            assert_eq!(storage_of(body), Ok(ResponseStorage::Needs(field)), "{body}");
        }
        for (body, fault) in [
            (r#"{"store":false,"store":true}"#, FieldFault::Ambiguous("store")),
            (r#"{"store":false,"Store":true}"#, FieldFault::Ambiguous("store")),
            (r#"{"store":"false"}"#, FieldFault::Unreadable("store")),
            (r#"{"store":0}"#, FieldFault::Unreadable("store")),
            (r#"{"store":false,"previousResponseId":"r"}"#, FieldFault::Ambiguous("previous_response_id")),
            ("[]", FieldFault::NotJson),
            ("", FieldFault::NotJson),
        ] {
            assert_eq!(storage_of(body), Err(fault), "{body}");
        }
    }
}
