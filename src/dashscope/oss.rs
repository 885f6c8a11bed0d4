//! Files in DashScope's temporary storage: the policies that allow an upload, and the `oss://` URLs by which requests
//! name files.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::lenient_json;

/// Reads `data.upload_dir` of a policy: the directory of all files that are uploaded under it.
pub fn upload_directory(body: &[u8]) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct DirectoryAnswer {
        data: DirectoryData,
    }
    #[derive(Deserialize)]
    struct DirectoryData {
        upload_dir: Box<str>,
    }
    let DirectoryAnswer { data } = lenient_json::from_slice(body)?;
    (!data.upload_dir.is_empty()).then_some(data.upload_dir)
}

/// An upload policy: the signed form fields with which OSS takes a file.
#[derive(Debug, Deserialize)]
pub struct UploadPolicy {
    policy: Box<str>,
    signature: Box<str>,
    upload_dir: Box<str>,
    pub upload_host: Box<str>,
    pub max_file_size_mb: Option<u64>,
    oss_access_key_id: Box<str>,
    x_oss_object_acl: Box<str>,
    x_oss_forbid_overwrite: Box<str>,
}

impl UploadPolicy {
    /// Reads the answer to `getPolicy`.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct PolicyAnswer {
            data: UploadPolicy,
        }
        lenient_json::from_slice(body).map(|PolicyAnswer { data }| data)
    }

    /// The URL that names the file in a request.
    pub fn url(&self, name: &str) -> String {
        format!("{SCHEME}{}/{name}", self.upload_dir.trim_matches('/'))
    }

    /// The form's bytes before the file and behind it. OSS wants the file last.
    pub fn form(&self, boundary: &str, name: &str, content_type: &str) -> (String, String) {
        let key = format!("{}/{name}", self.upload_dir.trim_matches('/'));
        let fields = [
            ("OSSAccessKeyId", &*self.oss_access_key_id),
            ("Signature", &self.signature),
            ("policy", &self.policy),
            ("key", &key),
            ("x-oss-object-acl", &self.x_oss_object_acl),
            ("x-oss-forbid-overwrite", &self.x_oss_forbid_overwrite),
            ("success_action_status", "200"),
            ("x-oss-content-type", content_type),
        ];
        let mut before = String::new();
        for (field, value) in fields {
            let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n");
            before.push_str(&head);
            before.push_str(value);
            before.push_str("\r\n");
        }
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: {content_type}\r\n\r\n"
        );
        before.push_str(&head);
        (before, format!("\r\n--{boundary}--\r\n"))
    }
}

/// The fault of a body that is not one strict JSON text: another reader could find URLs in it that we don't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson;

/// All strings of a body that could be read as an `oss://` URL, with their escapes undone.
///
/// # Errors
/// [`NotJson`], as other readers might find other URLs in such a body.
pub fn urls(body: &[u8]) -> Result<Vec<Box<str>>, NotJson> {
    let mut found = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    UrlCollector(&mut found).deserialize(&mut deserializer).map_err(|_| NotJson)?;
    deserializer.end().map_err(|_| NotJson)?;
    Ok(found)
}

/// The object key in an `oss://` URL. `None` for any other string, and for a path that another reader could read as
/// another path.
pub fn key(url: &str) -> Option<&str> {
    let (scheme, key) = url.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let decoded = percent_encoding::percent_decode_str(key).decode_utf8().ok()?;
    let is_plain = |path: &str| {
        path.split(['/', '\\']).all(|segment| !matches!(segment, "" | "." | ".."))
            && !path.contains(['?', '#'])
            && !path.contains(char::is_control)
    };
    (is_plain(key) && is_plain(&decoded)).then_some(key)
}

/// True if any reader could take the text for an `oss://` URL. Too many matches do no harm: each file found must be the
/// tenant's own.
fn could_be_url(text: &str) -> bool {
    let begins = |text: &str| text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("oss:"));
    begins(text.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric()))
        || text.match_indices("://").any(|(at, _)| at >= 3 && text.get(at - 3..).is_some_and(begins))
}

struct UrlCollector<'a>(&'a mut Vec<Box<str>>);

impl<'de> DeserializeSeed<'de> for UrlCollector<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UrlCollector<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if could_be_url(text) {
            self.0.push(text.into());
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(UrlCollector(self.0))?.is_some() {
            map.next_value_seed(UrlCollector(self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(UrlCollector(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The time for which DashScope keeps an uploaded file (page "Upload local files to get temporary URLs").
pub const FILE_LIFETIME: Duration = Duration::from_secs(48 * 3600);
const SCHEME: &str = "oss://";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_a_url_is_found() {
        for spelling in [
            "oss://d/a",
            r"oss:\/\/d\/a",
            r"\u006fss://d/a",
            r"\u006F\u0073\u0073\u003a\u002F\u002Fd/a",
            "OSS://d/a",
            " oss://d/a",
            r"\noss://d/a",
            "see oss://d/a",
            "oss:/d/a",
            r"oss:\\\\d/a",
        ] {
            for body in [
                format!(r#"{{"model":"m","input":{{"media":[{{"url":"{spelling}"}}]}}}}"#),
                format!(r#"{{"{spelling}":1}}"#),
                format!(r#"["a",null,true,-1,2,1.5e3,"{spelling}"]"#),
                format!(r#"{{"a":"{spelling}","a":"https://x"}}"#),
            ] {
                assert_eq!(urls(body.as_bytes()).map(|urls| urls.len()), Ok(1), "{body}");
            }
        }
    }

    #[test]
    fn other_texts_are_no_urls() {
        let body = r#"{"a":"https://x/oss","b":"boss","c":"oss","d":"","e":"a://","f":"é://"}"#;
        assert_eq!(urls(body.as_bytes()), Ok(vec![]));
        for body in ["", "{", "{'a':'oss://x'}", "{} {}", "{\"a\":\"\\x6fss://x\"}", "{\"a\":\"\u{0}\"}"] {
            assert_eq!(urls(body.as_bytes()), Err(NotJson), "{body}");
        }
    }

    #[test]
    fn a_key_has_one_reading() {
        assert_eq!(key("oss://d/e/a b.png"), Some("d/e/a b.png"));
        assert_eq!(key("Oss://d/a..b%20c.png"), Some("d/a..b%20c.png"));
        for url in [
            "oss:/d/a",
            " oss://d/a",
            "oss://",
            "oss://d//a",
            "oss:///d/a",
            "oss://d/../e/a",
            "oss://d/%2e%2E/e/a",
            "oss://d/%2e.%2fe/a",
            r"oss://d\..\e/a",
            "oss://d/a?b",
            "oss://d/a#b",
            "oss://d/a\n",
            "oss://d/%ff",
        ] {
            assert_eq!(key(url), None, "{url}");
        }
    }

    #[test]
    fn the_directory_of_a_policy_is_read() {
        let body = br#"{"request_id":"r","data":{"policy":"p","upload_dir":"dashscope-instant/h/d/u"}}"#;
        assert_eq!(upload_directory(body).as_deref(), Some("dashscope-instant/h/d/u"));
        assert_eq!(upload_directory(br#"{"data":{"upload_dir":""}}"#), None);
        assert_eq!(upload_directory(b"{}"), None);
    }

    proptest! {
        #[test]
        fn no_escape_hides_a_url(escaped in prop::collection::vec(any::<bool>(), 6), depth in 0usize..20) {
            let text: String = "oss://".chars().zip(&escaped).map(|(letter, escaped)| {
                if *escaped { format!("\\u{:04x}", letter as u32) } else { letter.to_string() }
            }).collect();
            let body = format!("{}\"{text}d/a\"{}", "[".repeat(depth), "]".repeat(depth));
            prop_assert_eq!(urls(body.as_bytes()), Ok(vec!["oss://d/a".into()]));
        }
    }
}
