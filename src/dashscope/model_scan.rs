//! The top-level field `model` of a body that passes piece by piece and is not kept.

use memchr::memchr2;

use super::secret_look::looks_like_secret;

/// Reader of one JSON object in pieces, for its last `model` at top level. It holds no more of the body than one key or
/// one name. It checks the form of the JSON only as far as it must: what is no JSON is refused by the upstream.
#[derive(Debug, Default)]
pub struct ModelScanner {
    place: Place,
    /// Number of objects and arrays that are open.
    depth: u64,
    /// Meaning of the text that is open, or else of the next one at top level.
    text: Text,
    /// The next byte belongs to an escape.
    escapes: bool,
    /// Beginning of the text that is open, as it is written.
    written: Vec<u8>,
    found: Option<Box<str>>,
    /// Number of fields `model` at top level.
    models: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the object.
    #[default]
    Before,
    /// In the object, and in no text.
    Between,
    InText,
    /// The object has ended, or there is none.
    Behind,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Text {
    #[default]
    Key,
    /// The value of `model`.
    Model,
    /// Another value at top level, or a text further inside.
    Other,
}

impl ModelScanner {
    /// Reads the next piece.
    pub fn push(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            piece = match self.place {
                Place::InText => self.read_text(piece),
                Place::Between => {
                    self.read_mark(byte);
                    rest
                }
                Place::Before => {
                    self.read_start(byte);
                    rest
                }
                Place::Behind => return,
            };
        }
    }

    /// The last `model` of what has come, unless it looks like a secret.
    pub fn model(&self) -> Option<&str> {
        self.found.as_deref().filter(|model| !looks_like_secret(model))
    }

    /// True if the pieces that follow may name the model for the first time.
    pub fn seeks(&self) -> bool {
        self.place != Place::Behind && self.found.is_none()
    }

    /// True if what has come has `model` at top level more than once: readers differ in which one they take.
    pub const fn names_several(&self) -> bool {
        self.models > 1
    }

    fn read_start(&mut self, byte: u8) {
        match byte {
            b'{' => (self.place, self.depth) = (Place::Between, 1),
            byte if is_space(byte) => {}
            _ => self.place = Place::Behind,
        }
    }

    fn read_mark(&mut self, byte: u8) {
        if self.text == Text::Model && !is_space(byte) && !b"\":,}".contains(&byte) {
            // The model is no text; another one may follow.
            self.text = Text::Other;
        }
        match byte {
            b'"' => {
                self.place = Place::InText;
                self.written.clear();
            }
            b'{' | b'[' if self.text == Text::Other => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    self.place = Place::Behind;
                }
            }
            b',' if self.depth == 1 => self.text = Text::Key,
            byte if self.text == Text::Other || is_space(byte) || byte == b':' => {}
            // A key is no text.
            _ => self.place = Place::Behind,
        }
    }

    /// Reads to the end of the text or of the piece, and returns what is left of the piece.
    fn read_text<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        if std::mem::take(&mut self.escapes) {
            self.keep(&piece[..1]);
            return &piece[1..];
        }
        let Some(end) = memchr2(b'"', b'\\', piece) else {
            self.keep(piece);
            return &[];
        };
        if piece[end] == b'\\' {
            self.escapes = true;
            self.keep(&piece[..=end]);
        } else {
            self.keep(&piece[..end]);
            self.end_text();
        }
        &piece[end + 1..]
    }

    fn keep(&mut self, part: &[u8]) {
        if self.text != Text::Other {
            // One byte more than allowed marks a text as too long.
            let room = LONGEST_WRITTEN + 1 - self.written.len();
            self.written.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    fn end_text(&mut self) {
        self.place = Place::Between;
        self.text = match self.text {
            Text::Key if self.is_model_key() => {
                self.models += 1;
                Text::Model
            }
            Text::Key | Text::Other => Text::Other,
            Text::Model => {
                self.found = self.read();
                Text::Other
            }
        };
    }

    fn is_model_key(&self) -> bool {
        self.written == b"model"
            || self.written.contains(&b'\\') && self.read().is_some_and(|key| &*key == "model")
    }

    /// The text that has ended, without its escapes; `None` if it is too long for a model's name.
    fn read(&self) -> Option<Box<str>> {
        if self.written.len() > LONGEST_WRITTEN {
            return None;
        }
        serde_json::from_slice(&[b"\"", &*self.written, b"\""].concat()).ok()
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The longest text that can be a model's name, with its escapes, in bytes.
const LONGEST_WRITTEN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashscope::model_field;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn scanned(pieces: &[&[u8]]) -> Option<String> {
        let mut scanner = ModelScanner::default();
        pieces.iter().for_each(|piece| scanner.push(piece));
        scanner.model().map(str::to_owned)
    }

    fn scanned_whole_and_by_bytes(body: &str) -> Option<String> {
        let whole = scanned(&[body.as_bytes()]);
        assert_eq!(scanned(&body.as_bytes().chunks(1).collect::<Vec<_>>()), whole, "{body}");
        whole
    }

    #[test]
    fn the_model_is_found_wherever_it_stands() {
        for body in [
            r#"{"input":{"model":"no","x":[{"model":"no"},"\"model\":"]},"model":"wan2.7-i2v"}"#,
            r#" {"a" : -1.5e3 , "b":null,"c":[[],{}], "model" : "wan2.7-i2v" , "d":"#,
            r#"{"m\u006fdel":"wan2.7\u002di2v"}"#,
            r#"{"model":"first","input":"\\","model":"wan2.7-i2v"}"#,
            r#"{"\\":"\\\"","model":"wan2.7-i2v"} {"model":"no"}"#,
            r#"{"model":null,"model":"wan2.7-i2v"}"#,
            r#"{"model":[{"model":"no"},"]"],"model":"wan2.7-i2v","model":{}}"#,
            r#"{"\ud800":1,"model":"wan2.7-i2v"}"#,
        ] {
            assert_eq!(scanned_whole_and_by_bytes(body).as_deref(), Some("wan2.7-i2v"), "{body}");
        }
    }

    #[test]
    fn other_bodies_have_none() {
        let long = format!(r#"{{"model":"{}"}}"#, "a".repeat(LONGEST_WRITTEN + 1));
        for body in [
            "",
            "[]",
            r#"[{"model":"no"}]"#,
            r#""model":"no""#,
            "--boundary\r\n{\"model\":\"no\"}",
            r#"{"model":"sk-0123456789abcdef"}"#,
            r#"{"model":3,"x":"no"}"#,
            r#"{"model":["no"]}"#,
            r#"{"model":"wan2."#,
            r#"{"Model":"no","xmodel":"no"}"#,
            &long,
        ] {
            assert_eq!(scanned_whole_and_by_bytes(body), None, "{body}");
        }
    }

    #[test]
    fn a_second_model_is_seen() {
        for (body, expected) in [
            (r#"{"model":"a","input":{"model":"b"},"x":"model"}"#, false),
            (r#"{"model":"a","m\u006fdel":"a"}"#, true),
            (r#"{"model":null,"x":[],"model":"a"#, true),
        ] {
            let mut scanner = ModelScanner::default();
            scanner.push(body.as_bytes());
            assert_eq!(scanner.names_several(), expected, "{body}");
        }
    }

    #[test]
    fn a_body_that_can_name_none_is_not_waited_for() {
        let mut scanner = ModelScanner::default();
        assert!(scanner.seeks());
        scanner.push(br#"{"input":1"#);
        assert!(scanner.seeks());
        scanner.push(b"}");
        assert!(!scanner.seeks());
        let mut coded = ModelScanner::default();
        coded.push(b"\x1f\x8b");
        assert!(!coded.seeks());
    }

    #[test]
    fn no_more_than_a_name_is_held() {
        let mut scanner = ModelScanner::default();
        scanner.push(b"{\"");
        for _ in 0..100 {
            scanner.push(&[b'x'; 10_000]);
        }
        assert!(scanner.written.capacity() <= 2 * LONGEST_WRITTEN);
    }

    fn value() -> impl Strategy<Value = Value> {
        let text = || prop_oneof!["model", "[a-z\\\\\"\\{\\}\\[\\],: \n\u{e9}\u{732b}]{0,6}"];
        let leaf =
            prop_oneof![text().prop_map(Value::from), any::<i32>().prop_map(Value::from), Just(json!(null))];
        leaf.prop_recursive(4, 24, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((text(), inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// In each JSON body, cut anywhere, it finds what a reader of the whole body finds.
        #[test]
        fn it_agrees_with_the_reader_of_whole_bodies(
            fields in prop::collection::vec(("model|[a-z\"]{0,3}", value()), 0..5),
            cut in any::<prop::sample::Index>(),
            end in any::<prop::sample::Index>(),
        ) {
            let fields = fields.iter().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str())));
            let body = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
            let body = &body.as_bytes()[..=end.index(body.len())];
            let (before, behind) = body.split_at(cut.index(body.len()));
            prop_assert_eq!(scanned(&[before, behind]), model_field::last(body).map(String::from));
        }
    }
}
