//! Resolution of `oss://` URLs: every caller with a key of an account could read all files of that account, so files of
//! other tenants are refused, and a tenant's own files lead to the account that stores them.

use std::sync::Arc;
use std::time::SystemTime;

use hyper::Response;
use hyper::body::Body;
use hyper::http::request::Parts;

use super::Shared;
use super::admit::permit::Permit;
use super::rejection::Rejection;
use crate::account::uploads::UploadDirectories;
use crate::dashscope::headers::OSS_RESOLVE;
use crate::dashscope::oss;
use crate::store::UploadRecord;
use crate::upstream::{self, ANSWER_BYTES, Download, Upload};

/// Finds the account, an index into the directory's accounts, that stores the files named in the body; `None` if the
/// body names no file. The upstream resolves `oss://` URLs only if a header field asks for it. A body with that field
/// is read whole before it is sent; it is small, as URLs stand in place of media.
///
/// # Errors
/// `BadRequest` for a file that the tenant did not upload, files of two accounts, and bodies that are too large or
/// can't be read; `NoRoom`, and faults of the client's body; `UpstreamUnreachable` if the account is not configured any more.
pub(super) async fn resolve(
    uploads: &UploadDirectories,
    permit: &Permit,
    request: &Parts,
    body: &mut Upload,
) -> Result<Option<usize>, Rejection> {
    if !request.headers.contains_key(OSS_RESOLVE) || body.is_end_stream() {
        return Ok(None);
    }
    let is_larger = body.size_hint().lower() > MOST_BYTES as u64;
    let client = |fault| Rejection::of_body(fault, permit.directory().settings.server.max_body_bytes);
    if is_larger || !body.read_whole(MOST_BYTES).await.map_err(client)? {
        return Err(Rejection::BadRequest(
            "a body with X-DashScope-OssResourceResolve may have 1 MiB; upload its media, or leave out the header",
        ));
    }
    let urls = oss::urls(&body.ahead()).map_err(|oss::NotJson| {
        Rejection::BadRequest("with X-DashScope-OssResourceResolve its body must be JSON")
    })?;
    let tenant = &permit.tenant().name;
    let mut stored = None;
    for url in &urls {
        let account = uploads.account_of(tenant, url).ok_or(Rejection::BadRequest(
            "an oss:// URL in it is not of a file that this tenant uploaded in the last 48 hours",
        ))?;
        if stored.replace(account.clone()).is_some_and(|before| before != account) {
            return Err(Rejection::BadRequest(
                "its oss:// URLs were uploaded to different accounts; upload these files again, one after another",
            ));
        }
    }
    let Some(stored) = stored else { return Ok(None) };
    permit.directory().account_index(&stored).map(Some).ok_or(Rejection::UpstreamUnreachable)
}

/// Records the directory of an upload policy before the client gets the policy. The record is durable when this
/// returns.
///
/// # Errors
/// `StoreUnavailable`: a policy whose files would be refused after a restart is not passed on.
pub(super) async fn note(
    shared: &Shared,
    permit: &Permit,
    model: &str,
    account: &Arc<str>,
    response: &mut Response<Download>,
) -> Result<(), Rejection> {
    let answer = upstream::read_ahead(response, ANSWER_BYTES).await.ok().flatten().unwrap_or_default();
    let Some(directory) = oss::upload_directory(&answer) else {
        tracing::warn!(account = &**account, "an upload policy names no directory; its files can't be used");
        return Ok(());
    };
    let upload = UploadRecord {
        tenant: Arc::clone(&permit.tenant().name),
        directory: directory.into(),
        model: model.into(),
        account: Arc::clone(account),
        issued_at: SystemTime::now(),
    };
    shared.uploads.note(&shared.store, upload).await.map_err(|fault| {
        tracing::error!(%fault, "an upload policy could not be noted, so its client does not get it");
        Rejection::StoreUnavailable
    })
}

const MOST_BYTES: usize = 1024 * 1024;
