//! Reads a multipart form from the first and the last bytes of its body.

use memchr::memmem;

use super::body::GatheredBody;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct PostedForm {
    /// Fields before the file, in order.
    pub(super) fields: Vec<(String, String)>,
    pub(super) file: Option<PostedFile>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct PostedFile {
    pub(super) length: u64,
    /// True when no field follows the file.
    pub(super) last: bool,
}

impl PostedForm {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Reads a form; `None` when it is not well formed.
    pub(super) fn read(content_type: &str, body: &GatheredBody) -> Option<PostedForm> {
        let boundary = boundary(content_type)?;
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        let start: &[u8] = &body.start;
        let mut at = delimiter.len() - 2;
        if !start.starts_with(&delimiter[2..]) {
            return None;
        }
        let mut form = PostedForm { fields: Vec::new(), file: None };
        loop {
            let rest = start.get(at..)?;
            if rest.starts_with(b"--") {
                return Some(form);
            }
            let rest = rest.strip_prefix(b"\r\n")?;
            let head_length = memmem::find(rest, b"\r\n\r\n")? + 4;
            let name = name(&rest[..head_length])?;
            let content = at + 2 + head_length;
            if name == "file" {
                form.file = Some(file(body, content, &delimiter)?);
                return Some(form);
            }
            let length = memmem::find(&start[content..], &delimiter)?;
            let value = String::from_utf8_lossy(&start[content..content + length]).into_owned();
            form.fields.push((name, value));
            at = content + length + delimiter.len();
        }
    }
}

fn file(body: &GatheredBody, content: usize, delimiter: &[u8]) -> Option<PostedFile> {
    let found = memmem::find(&body.start[content..], delimiter);
    let (end, after) = match found {
        Some(length) => (content + length, &body.start[content + length + delimiter.len()..]),
        None => {
            let in_tail = memmem::find(&body.tail, delimiter)?;
            let end = body.length as usize - body.tail.len() + in_tail;
            (end, &body.tail[in_tail + delimiter.len()..])
        }
    };
    Some(PostedFile { length: (end - content) as u64, last: after.starts_with(b"--") })
}

fn boundary(content_type: &str) -> Option<String> {
    let rest = content_type.split_once(';').filter(|(kind, _)| kind.trim() == "multipart/form-data")?.1;
    let value = rest.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"').to_owned())
}

fn name(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let quoted = line.split(';').find_map(|part| part.trim().strip_prefix("name="))?;
    Some(quoted.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Option<PostedForm> {
        let body = GatheredBody {
            start: text.as_bytes().to_vec().into(),
            tail: text.as_bytes().to_vec().into(),
            length: text.len() as u64,
            ..GatheredBody::default()
        };
        PostedForm::read("multipart/form-data; boundary=\"B\"", &body)
    }

    const KEY: &str = "--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na/b\r\n";
    const FILE: &str = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\nContent-Type: a/b\r\n\r\n12345\r\n";

    #[test]
    fn fields_come_before_the_file() {
        let form = form(&format!("{KEY}{FILE}--B--\r\n")).unwrap();
        assert_eq!(form.field("key"), Some("a/b"));
        assert_eq!(form.file, Some(PostedFile { length: 5, last: true }));
    }

    #[test]
    fn what_follows_the_file_is_noticed() {
        let form = form(&format!("{FILE}{KEY}--B--\r\n")).unwrap();
        assert_eq!(form.field("key"), None);
        assert_eq!(form.file, Some(PostedFile { length: 5, last: false }));
    }

    #[test]
    fn a_broken_form_is_none() {
        assert_eq!(form("hello"), None);
        assert_eq!(form(KEY), None);
    }
}
