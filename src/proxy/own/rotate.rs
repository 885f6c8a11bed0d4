//! A new secret for the caller's own key. The old one works for a while beside it.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use hyper::Response;
use serde::Deserialize;
use serde_json::json;

use super::fault::{RotationFault, ViewFault};
use crate::proxy::exchange::Exchange;
use crate::proxy::observe::Observed;
use crate::proxy::rejection::Rejection;
use crate::proxy::worker::Proxy;
use crate::store::{AuditRecord, Change, Outcome};
use crate::tenant::rotation::{self, Rotation, USUAL_GRACE};
use crate::unified::UnifiedFault;
use crate::upstream::Upload;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct AskedRotation {
    /// A duration like `24h`.
    grace: Option<String>,
}

/// Gives the caller's key a new secret, which this answer alone shows.
pub(super) async fn rotate(
    proxy: &Proxy,
    mut body: Upload,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, ViewFault> {
    let most = exchange.directory().settings.server.max_body_bytes;
    let is_whole = body.read_whole(MOST_BYTES).await.map_err(|fault| Rejection::of_body(fault, most))?;
    if !is_whole {
        return Err(Rejection::BodyTooLarge(MOST_BYTES as u64).into());
    }
    let grace = grace(&body.ahead())?;
    let (shared, permit) = (&proxy.shared, exchange.permit());
    let caller = permit.caller();
    let Some(key) = caller.issued() else { return Err(RotationFault::Configured.into()) };
    // A secret with a successor may have leaked: its bearer gets no newer one.
    if shared.keyring.named(&key.id).is_none_or(|newest| newest.digest() != key.digest()) {
        return Err(RotationFault::Replaced.into());
    }
    if shared.keyring.secrets(&key.id).len() > MOST_SECRETS {
        return Err(RotationFault::TooOften.into());
    }
    let now = SystemTime::now();
    let tenant = &permit.tenant().name;
    let rotation =
        Rotation::of(key, tenant, grace, now).map_err(|_| ViewFault::from(RotationFault::NotKept))?;
    let zone = shared.store.zone();
    let outcome = shared.store.commit(rotation.change.clone()).await;
    let is_made = matches!(outcome, Ok(Outcome::Made));
    tracing::info!(
        target: "audit", action = "rotate_own_key", key_id = &*key.id, tenant = &**tenant,
        until = zone.moment(rotation.old_until), client = %exchange.client,
        "{}", if is_made { "changed" } else { "not changed" }
    );
    match outcome {
        Ok(Outcome::Made) => {
            let detail = json!({ "tenant": &**tenant, "until": zone.moment(rotation.old_until) });
            let (replica, object) = (shared.store.replica_name(), format!("key/{}", key.id));
            let record = AuditRecord {
                peer: exchange.client.to_string().into(),
                ..AuditRecord::without_token(replica, now, "rotate_own_key", object, detail.to_string())
            };
            // The client must not lose the secret to a wait for this row.
            shared.store.defer(Change::Audit(record.into()));
        }
        Ok(_) => return Err(RotationFault::Ended.into()),
        Err(_) => return Err(RotationFault::NotKept.into()),
    }
    let shown = json!({
        "id": &*key.id,
        "tenant": &**tenant,
        "key": rotation.secret.expose(),
        "created_at": zone.moment(now),
        "expires_at": rotation.expires.map(|at| zone.moment(at)),
        "old_until": zone.moment(rotation.old_until),
    });
    Ok(super::answer(&shown, exchange))
}

/// The time for which the old secret works on.
fn grace(body: &[u8]) -> Result<Duration, Rejection> {
    let wrong = |field: &str, problem: &str| {
        Rejection::BadField(UnifiedFault { field: Some(field.into()), problem: problem.to_owned().into() })
    };
    let asked: AskedRotation = match body.trim_ascii() {
        [] => AskedRotation::default(),
        body => serde_json::from_slice(body)
            .map_err(|_| wrong("grace", "is all that the body may have, as in {\"grace\": \"24h\"}"))?,
    };
    let grace = asked.grace.map_or(Some(USUAL_GRACE), |text| rotation::grace(&text));
    grace.ok_or_else(|| wrong("grace", "must be a duration from \"0s\" to \"365d\", like \"24h\""))
}

/// Longest body.
const MOST_BYTES: usize = 4096;
/// Secrets of one key that the store keeps: each stays for 30 days behind its end.
const MOST_SECRETS: usize = 20;
