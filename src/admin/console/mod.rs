//! The console: a page for operators, under `/console/`. Its files are a part of the program, open to all; its data is
//! the admin API, which asks for the token.
//!
//! The files are served as they stand in `page/`: HTML, a style sheet and ES modules, without a step of building.

use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION,
};
use hyper::{Method, Response, StatusCode};
use sha2::{Digest, Sha256};

use super::response::AdminResponse;

/// A file of the page.
struct PageFile {
    /// Path below `/console/`.
    path: &'static str,
    text: &'static str,
    etag: HeaderValue,
}

/// The answer to a request for the page or a file of it; `None` for any other request.
pub(super) fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<AdminResponse> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    match path.strip_prefix("/console")? {
        // Modules and the style sheet are named relative to the page.
        "" => Some(moved("console/")),
        "/" => FILES.iter().find(|file| file.path == INDEX).map(|file| file.answer(headers)),
        below => {
            let below = below.strip_prefix('/')?;
            FILES.iter().find(|file| file.path == below).map(|file| file.answer(headers))
        }
    }
}

impl PageFile {
    fn new(path: &'static str, text: &'static str) -> Self {
        let digest = Sha256::digest(text);
        let start: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::from_maybe_shared(format!("\"{start}\""));
        Self { path, text, etag: etag.expect("hex digits fit a header") }
    }

    fn answer(&self, headers: &HeaderMap) -> AdminResponse {
        let is_known =
            headers.get_all(IF_NONE_MATCH).iter().any(|tags| names(tags.as_bytes(), self.etag.as_bytes()));
        let mut answer = if is_known {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer
        } else {
            Response::new(Full::new(Bytes::from_static(self.text.as_bytes())))
        };
        let fields = answer.headers_mut();
        fields.extend(FIELDS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind()));
        fields.insert(ETAG, self.etag.clone());
        answer
    }

    fn kind(&self) -> &'static str {
        match self.path.rsplit_once('.') {
            Some((_, "html")) => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => "text/javascript; charset=utf-8",
        }
    }
}

/// True if the tags of `If-None-Match` have this one.
fn names(tags: &[u8], etag: &[u8]) -> bool {
    let mut tags = tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tags.any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag)
}

fn moved(place: &'static str) -> AdminResponse {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(place));
    answer
}

/// Fields of every answer. A browser asks at each use whether a file is still the same, as a new version of the program
/// may have come. Nothing but files of this listener is loaded, and only as what it is; markup is never made from text.
const FIELDS: [(HeaderName, &str); 6] = [
    (CACHE_CONTROL, "no-cache"),
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const INDEX: &str = "index.html";

static FILES: LazyLock<Vec<PageFile>> = LazyLock::new(|| {
    let files = [
        ("index.html", include_str!("page/index.html")),
        ("icon.svg", include_str!("page/icon.svg")),
        ("style.css", include_str!("page/style.css")),
        ("main.js", include_str!("page/main.js")),
        ("dialog.js", include_str!("page/dialog.js")),
        ("elements.js", include_str!("page/elements.js")),
        ("figures.js", include_str!("page/figures.js")),
        ("plot.js", include_str!("page/plot.js")),
        ("samples.js", include_str!("page/samples.js")),
        ("session.js", include_str!("page/session.js")),
        ("table.js", include_str!("page/table.js")),
        ("words.js", include_str!("page/words.js")),
        ("words/en.js", include_str!("page/words/en.js")),
        ("words/zh.js", include_str!("page/words/zh.js")),
        ("views/audit.js", include_str!("page/views/audit.js")),
        ("views/configuration.js", include_str!("page/views/configuration.js")),
        ("views/deliveries.js", include_str!("page/views/deliveries.js")),
        ("views/entries.js", include_str!("page/views/entries.js")),
        ("views/facts.js", include_str!("page/views/facts.js")),
        ("views/find.js", include_str!("page/views/find.js")),
        ("views/key_limits.js", include_str!("page/views/key_limits.js")),
        ("views/keys.js", include_str!("page/views/keys.js")),
        ("views/now.js", include_str!("page/views/now.js")),
        ("views/orphans.js", include_str!("page/views/orphans.js")),
        ("views/task.js", include_str!("page/views/task.js")),
        ("views/tasks.js", include_str!("page/views/tasks.js")),
        ("views/tenant.js", include_str!("page/views/tenant.js")),
        ("views/tenant_form.js", include_str!("page/views/tenant_form.js")),
        ("views/tenants.js", include_str!("page/views/tenants.js")),
        ("views/usage.js", include_str!("page/views/usage.js")),
        ("views/webhooks.js", include_str!("page/views/webhooks.js")),
    ];
    files.map(|(path, text)| PageFile::new(path, text)).into()
});
