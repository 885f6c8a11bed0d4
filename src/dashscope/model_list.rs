//! The list of models on the compatible surface, in OpenAI's shape.

use serde::{Deserialize, Serialize};

/// A model that DashScope offers to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedModel {
    pub id: Box<str>,
    object: &'static str,
    /// Seconds since 1970.
    created: i64,
    owned_by: &'static str,
}

/// Reads DashScope's answer; `None` for one of another shape. Models that are the account's own are left out.
pub fn read(body: &[u8]) -> Option<Vec<ListedModel>> {
    let answer: ListAnswer = serde_json::from_slice(body).ok()?;
    let public =
        answer.data.into_iter().filter(|row| row.owned_by.as_deref() == Some(SYSTEM) && !is_own(&row.id));
    let listed = |row: ListedRow| ListedModel {
        id: row.id,
        object: "model",
        created: row.created.unwrap_or(0),
        owned_by: SYSTEM,
    };
    Some(public.map(listed).collect())
}

/// Writes a list.
pub fn write<'m>(models: impl Iterator<Item = &'m ListedModel>) -> Vec<u8> {
    let list = WrittenList { object: "list", data: models.collect() };
    // Serialising into memory has no way to fail.
    serde_json::to_vec(&list).unwrap_or_default()
}

/// True for the name of a model that was tuned: `qwen-plus-ft-202511010800-1a2b`.
fn is_own(id: &str) -> bool {
    id.split('-').any(|word| word.eq_ignore_ascii_case("ft"))
}

#[derive(Deserialize)]
struct ListAnswer {
    data: Vec<ListedRow>,
}

#[derive(Deserialize)]
struct ListedRow {
    id: Box<str>,
    created: Option<i64>,
    owned_by: Option<Box<str>>,
}

#[derive(Serialize)]
struct WrittenList<'m> {
    object: &'static str,
    data: Vec<&'m ListedModel>,
}

/// The owner of DashScope's own models.
const SYSTEM: &str = "system";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accounts_own_models_are_left_out() {
        let body = br#"{"object":"list","data":[
            {"id":"qwen-plus","object":"model","created":7,"owned_by":"system","account":"1"},
            {"id":"siliconflow/deepseek-v3","created":null,"owned_by":"system"},
            {"id":"qwen-plus-ft-202511010800-1a2b","created":7,"owned_by":"system"},
            {"id":"my-model","created":7,"owned_by":"1234567890"},
            {"id":"nobodys"}]}"#;
        let models = read(body).expect("a list");
        let written = String::from_utf8(write(models.iter())).expect("text");
        let first = r#"{"id":"qwen-plus","object":"model","created":7,"owned_by":"system"}"#;
        let second = r#"{"id":"siliconflow/deepseek-v3","object":"model","created":0,"owned_by":"system"}"#;
        assert_eq!(written, format!(r#"{{"object":"list","data":[{first},{second}]}}"#));
    }

    #[test]
    fn another_answer_is_no_list() {
        for body in ["", "{}", r#"{"code":"Throttling"}"#, r#"{"data":{}}"#, "<html>"] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
    }
}
