//! The model that a query names: in a request for an upload policy, and in a realtime handshake.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A query whose model could be read in two ways. It holds the value of the first plain `model=`, which DashScope would
/// most likely read.
pub(super) struct AmbiguousModel<'q>(pub Option<Cow<'q, str>>);

/// Reads the one `model` of a query.
///
/// # Errors
/// [`AmbiguousModel`] if there are two, or one in another spelling.
pub(super) fn query_model(query: &str) -> Result<Option<Cow<'_, str>>, AmbiguousModel<'_>> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let is_model = |name: &str| percent_decode_str(name).decode_utf8_lossy().eq_ignore_ascii_case("model");
    let decoded = |value| percent_decode_str(value).decode_utf8().ok();
    let mut models = pairs.filter(|(name, _)| is_model(name));
    let Some((name, value)) = models.next() else { return Ok(None) };
    match (decoded(value).filter(|_| name == "model"), models.next()) {
        (Some(model), None) => Ok(Some(model)),
        _ => {
            let first = query.split('&').find_map(|pair| pair.strip_prefix("model="));
            Err(AmbiguousModel(first.and_then(decoded)))
        }
    }
}
