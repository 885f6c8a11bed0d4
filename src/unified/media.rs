//! Kinds and formats of media, recognised by a file's first bytes, else by its name or the media type that the client
//! gave.

/// A kind of input for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    Image,
    Video,
    Audio,
}

impl MediaKind {
    pub(super) fn of_content_type(content_type: &str) -> Option<Self> {
        match content_type.trim().split('/').next() {
            Some("image") => Some(MediaKind::Image),
            Some("video") => Some(MediaKind::Video),
            Some("audio") => Some(MediaKind::Audio),
            Some(_) | None => None,
        }
    }

    /// Tells the kind by the media type of a `data:` URL, or by the extension in another URL's path.
    pub(super) fn of_url(url: &str) -> Option<Self> {
        if let Some(rest) = url.strip_prefix("data:") {
            return Self::of_content_type(rest.split([';', ',']).next().unwrap_or_default());
        }
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let extension = path.rsplit_once('.')?.1.to_ascii_lowercase();
        FORMATS.iter().find(|format| format.extension == extension).map(|format| format.kind)
    }
}

/// A file format that models take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaFormat {
    pub kind: MediaKind,
    pub content_type: &'static str,
    /// Without its dot.
    pub extension: &'static str,
}

/// The format of a file: by its first bytes, else by the media type that the client gave.
pub fn detect(content: &[u8], content_type: Option<&str>) -> Option<&'static MediaFormat> {
    let at = |from: usize, bytes: &[u8]| content.get(from..).is_some_and(|rest| rest.starts_with(bytes));
    let extension = if at(0, b"\x89PNG") {
        "png"
    } else if at(0, b"\xff\xd8\xff") {
        "jpg"
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        "webp"
    } else if at(0, b"RIFF") && at(8, b"WAVE") {
        "wav"
    } else if at(4, b"ftypqt") {
        "mov"
    } else if at(4, b"ftyp") {
        "mp4"
    } else if at(0, b"BM") {
        "bmp"
    } else if at(0, b"ID3") || at(0, b"\xff\xfb") {
        "mp3"
    } else {
        return content_type.and_then(|own| FORMATS.iter().find(|format| format.content_type == own));
    };
    FORMATS.iter().find(|format| format.extension == extension)
}

const FORMATS: [MediaFormat; 10] = [
    MediaFormat { kind: MediaKind::Image, content_type: "image/png", extension: "png" },
    MediaFormat { kind: MediaKind::Image, content_type: "image/jpeg", extension: "jpg" },
    MediaFormat { kind: MediaKind::Image, content_type: "image/jpeg", extension: "jpeg" },
    MediaFormat { kind: MediaKind::Image, content_type: "image/webp", extension: "webp" },
    MediaFormat { kind: MediaKind::Image, content_type: "image/bmp", extension: "bmp" },
    MediaFormat { kind: MediaKind::Video, content_type: "video/mp4", extension: "mp4" },
    MediaFormat { kind: MediaKind::Video, content_type: "video/quicktime", extension: "mov" },
    MediaFormat { kind: MediaKind::Audio, content_type: "audio/wav", extension: "wav" },
    MediaFormat { kind: MediaKind::Audio, content_type: "audio/mpeg", extension: "mp3" },
    MediaFormat { kind: MediaKind::Audio, content_type: "audio/mp3", extension: "mp3" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_it_begins_with() {
        for (content, own, extension) in [
            (&b"\x89PNG\r\n"[..], Some("video/mp4"), Some("png")),
            (b"\xff\xd8\xff\xe0", None, Some("jpg")),
            (b"RIFF....WEBP", None, Some("webp")),
            (b"RIFF....WAVE", None, Some("wav")),
            (b"\0\0\0\x20ftypisom", None, Some("mp4")),
            (b"\0\0\0\x20ftypqt  ", None, Some("mov")),
            (b"ID3", None, Some("mp3")),
            (b"what", Some("image/jpeg"), Some("jpg")),
            (b"what", Some("text/plain"), None),
            (b"", None, None),
        ] {
            assert_eq!(detect(content, own).map(|format| format.extension), extension);
        }
    }

    #[test]
    fn a_url_tells_by_its_type_or_its_end() {
        for (url, kind) in [
            ("https://x/a.PNG?Expires=1", Some(MediaKind::Image)),
            ("https://x/a.mp4#t=1", Some(MediaKind::Video)),
            ("oss://d/a.wav", Some(MediaKind::Audio)),
            ("data:image/webp;base64,AA", Some(MediaKind::Image)),
            ("data:text/plain,a.png", None),
            ("https://x/a", None),
        ] {
            assert_eq!(MediaKind::of_url(url), kind, "{url}");
        }
    }
}
