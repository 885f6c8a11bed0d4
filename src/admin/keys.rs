//! Virtual keys created, listed, rotated and revoked at run time. A change is durable before it is answered.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::audit::AuditEntry;
use super::body;
use super::name_page::{NamePage, PageQuery};
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::store::{Change, KeyRecord, Outcome};
use crate::tenant::directory::Directory;
use crate::tenant::key::{CredentialFault, MintedKey, mint_id};
use crate::tenant::keyring::{IssuedKey, KeyEnd};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    tenant: String,
    id: Option<String>,
    /// Duration from now, or a time.
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    grace: Option<String>,
}

impl Admin {
    pub(super) async fn create_key(
        &self,
        body: Result<Bytes, Problem>,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let Create { tenant, id, expires } = body::parse(&body?)?;
        let now = SystemTime::now();
        let expires = expires.map(|text| end(&text, now)).transpose()?;
        let id = match id {
            Some(id) => checked_id(&id)?.to_owned(),
            None => mint_id()?,
        };
        entry.key_id = Some(id.clone());
        let _turn = self.changing.lock().await;
        let directory = self.shared.directory.load_full();
        if !directory.has_tenant(&tenant) {
            return Err(Problem::UnknownTenant(tenant));
        }
        entry.tenant = Some(tenant.clone());
        if let Some((_, holder)) = directory.key_named(&id) {
            let holder = &holder.name;
            let problem =
                format!("the configuration has a key `{id}`, of the tenant `{holder}`: choose another id");
            return Err(Problem::IdTaken(problem));
        }
        if let Some(key) = self.shared.keyring.named(&id) {
            return Err(Problem::IdTaken(taken(&key.id, &self.tenant_of(&key))));
        }
        let secret = MintedKey::mint()?;
        let record = record(&id, &tenant, &secret, now, expires);
        let created = self.shared.store.commit(Change::CreateKey(record)).await;
        if created.map_err(Problem::Unconfirmed)? == Outcome::NotMade {
            return Err(Problem::IdTaken(format!("the store has a key `{id}` already: choose another id")));
        }
        let until = expires.map(moment);
        entry.until.clone_from(&until);
        Ok(answer(
            StatusCode::CREATED,
            &json!({
                "id": id, "tenant": tenant, "key": secret.expose(),
                "created_at": moment(now), "expires_at": until,
            }),
        ))
    }

    pub(super) async fn rotate_key(
        &self,
        id: &str,
        body: Result<Bytes, Problem>,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let id = checked_id(id)?;
        entry.key_id = Some(id.to_owned());
        let body = body?;
        let Rotate { grace } = if body.is_empty() { Rotate { grace: None } } else { body::parse(&body)? };
        let grace = grace.map_or(Ok(USUAL_GRACE), |text| grace_period(&text))?;
        let _turn = self.changing.lock().await;
        let now = SystemTime::now();
        let key = self.issued(id)?;
        if key.fault(now).is_some() {
            return Err(Problem::Ended(id.to_owned()));
        }
        let (directory, tenant) = (self.shared.directory.load_full(), self.tenant_of(&key));
        entry.tenant = Some((*tenant).to_owned());
        if directory.key_named(id).is_some() {
            return Err(Problem::Configured(id.to_owned()));
        }
        if !directory.has_tenant(&tenant) {
            return Err(Problem::UnknownTenant((*tenant).to_owned()));
        }
        let until = if grace.is_zero() { now } else { whole_second(now + grace) };
        let secret = MintedKey::mint()?;
        let expires = match key.ends() {
            KeyEnd::At(expires) => Some(expires),
            KeyEnd::Never | KeyEnd::Revoked => None,
        };
        let successor = record(id, &tenant, &secret, now, expires);
        let rotated = self.shared.store.commit(Change::RotateKey { successor, old_until: until }).await;
        if rotated.map_err(Problem::Unconfirmed)? == Outcome::NotMade {
            return Err(Problem::Ended(id.to_owned()));
        }
        let until = expires.map_or(until, |expires| expires.min(until));
        let (until, expires) = (moment(until), expires.map(moment));
        entry.until = Some(until.clone());
        Ok(answer(
            StatusCode::OK,
            &json!({
                "id": id, "tenant": &*tenant, "key": secret.expose(),
                "created_at": moment(now), "expires_at": expires, "old_until": until,
            }),
        ))
    }

    pub(super) async fn revoke_key(
        &self,
        id: &str,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let id = checked_id(id)?;
        entry.key_id = Some(id.to_owned());
        // A leaked key must not work until the changes before this one have ended, which wait for the disk.
        self.shared.keyring.revoke(id);
        let _turn = self.changing.lock().await;
        // The change before may have made the key.
        let key = self.issued(id)?;
        let tenant = self.tenant_of(&key);
        entry.tenant = Some((*tenant).to_owned());
        let revoke = Change::RevokeKey { id: id.into(), at: SystemTime::now() };
        self.shared.store.commit(revoke).await.map_err(Problem::RevokedNotKept)?;
        Ok(answer(StatusCode::OK, &json!({ "id": id, "tenant": &*tenant, "status": "revoked" })))
    }

    /// # Errors
    /// `Configured` for a key of the configuration, `NoSuchKey`.
    fn issued(&self, id: &str) -> Result<Arc<IssuedKey>, Problem> {
        self.shared.keyring.named(id).ok_or_else(|| {
            let configured = self.shared.directory.load().key_named(id).is_some();
            if configured { Problem::Configured(id.to_owned()) } else { Problem::NoSuchKey(id.to_owned()) }
        })
    }

    /// The name that the key's tenant has now.
    pub(super) fn tenant_of(&self, key: &IssuedKey) -> Arc<str> {
        self.shared.store.tenant_names().load().current(&key.tenant)
    }

    pub(super) fn list_keys(&self, query: &str) -> Result<AdminResponse, Problem> {
        let PageQuery { after, limit, tenant: wanted, .. } = PageQuery::parse(query, &["tenant"])?;
        let (directory, now) = (self.shared.directory.load_full(), SystemTime::now());
        let is_wanted = |tenant: &str| wanted.as_ref().is_none_or(|wanted| wanted == tenant);
        let mut page = NamePage::new(limit);
        let configured = directory.keys().filter(|(key, tenant)| *key.id > *after && is_wanted(&tenant.name));
        for (key, tenant) in configured {
            let status = if key.expires.is_some_and(|expires| expires <= now) { "expired" } else { "live" };
            page.add(&key.id, || {
                json!({
                    "id": &*key.id, "tenant": &*tenant.name, "source": "config", "status": status,
                    "expires_at": key.expires.map(moment),
                })
            });
        }
        self.shared.keyring.each(|key| {
            if *key.id > *after && is_wanted(&self.tenant_of(key)) {
                page.add(&key.id, || self.describe(&directory, key, now));
            }
        });
        let (keys, next) = page.finish();
        Ok(answer(StatusCode::OK, &json!({ "keys": keys, "next": next })))
    }

    fn describe(&self, directory: &Directory, key: &IssuedKey, now: SystemTime) -> Value {
        let tenant = &*self.tenant_of(key);
        let expires = match key.ends() {
            KeyEnd::At(expires) => Some(moment(expires)),
            KeyEnd::Never | KeyEnd::Revoked => None,
        };
        let status = match key.fault(now) {
            Some(CredentialFault::Expired) => "expired",
            Some(
                CredentialFault::Revoked
                | CredentialFault::Unknown
                | CredentialFault::Mistyped
                | CredentialFault::NoCertificate
                | CredentialFault::OtherCertificate,
            ) => "revoked",
            None if directory.key_named(&key.id).is_some() => "shadowed",
            None if !directory.has_tenant(tenant) => "no_tenant",
            None => "live",
        };
        let old_until: Vec<String> =
            self.shared.keyring.retiring(&key.id, now).into_iter().map(moment).collect();
        json!({
            "id": &*key.id, "tenant": tenant, "source": "admin", "status": status,
            "created_at": moment(key.created()), "expires_at": expires, "old_until": old_until,
        })
    }
}

fn taken(id: &str, tenant: &str) -> String {
    format!("there is a key `{id}`, of the tenant `{tenant}`: choose another id, or rotate that one")
}

fn record(
    id: &str,
    tenant: &str,
    secret: &MintedKey,
    created_at: SystemTime,
    expires: Option<SystemTime>,
) -> KeyRecord {
    KeyRecord {
        id: id.into(),
        tenant: tenant.into(),
        sha256: secret.digest(),
        created_at,
        expires,
        revoked_at: None,
        retires_at: None,
    }
}

/// Checks a key's id. Logs show the id, so it must not be a secret.
fn checked_id(id: &str) -> Result<&str, Problem> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=MOST_ID_BYTES).contains(&id.len()) || !id.bytes().all(fine) {
        let problem = "must be 1 to 64 letters, digits, dots, underscores and hyphens";
        return Err(Problem::BadField("id", problem.into()));
    }
    if id.starts_with("sk-") {
        let problem = "looks like a secret; give the key's id, which GET /admin/keys lists";
        return Err(Problem::BadField("id", problem.into()));
    }
    Ok(id)
}

/// Parses the end of a key, rounded up to whole seconds, in which all ends of keys are stored.
fn end(text: &str, now: SystemTime) -> Result<SystemTime, Problem> {
    let wrong = |problem: &'static str| Problem::BadField("expires", Cow::Borrowed(problem));
    let asked = match (humantime::parse_duration(text), humantime::parse_rfc3339(text)) {
        (Ok(duration), _) => now.checked_add(duration),
        (_, Ok(moment)) => Some(moment),
        (Err(_), Err(_)) => {
            return Err(wrong("must be a duration like \"30d\" or a moment like \"2030-01-01T00:00:00Z\""));
        }
    };
    let latest = UNIX_EPOCH + LATEST_END;
    let asked = asked.filter(|end| *end < latest).ok_or_else(|| wrong("must lie before the year 2100"))?;
    if asked <= now { Err(wrong("must lie in the future")) } else { Ok(whole_second(asked)) }
}

fn grace_period(text: &str) -> Result<Duration, Problem> {
    let wrong =
        || Problem::BadField("grace", "must be a duration from \"0s\" to \"365d\", like \"24h\"".into());
    humantime::parse_duration(text).ok().filter(|grace| *grace <= MOST_GRACE).ok_or_else(wrong)
}

/// Rounds up to a whole second, so that a key lives at least as long as was asked.
fn whole_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let more = u64::from(since.subsec_nanos() > 0);
    UNIX_EPOCH + Duration::from_secs(since.as_secs() + more)
}

const MOST_ID_BYTES: usize = 64;
const USUAL_GRACE: Duration = Duration::from_secs(24 * 3600);
const MOST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);
/// 2100-01-01T00:00:00Z, a few years before the 32-bit seconds of the key ring overflow.
const LATEST_END: Duration = Duration::from_secs(4_102_444_800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_durations_or_moments_in_whole_seconds() {
        let now = UNIX_EPOCH + Duration::from_millis(1_000_500);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(end("30s", now).ok(), Some(at(1031)));
        assert_eq!(end("1d", now).ok(), Some(at(87_401)));
        assert_eq!(end("2000-01-01T00:00:00Z", now).ok(), Some(at(946_684_800)));
        for wrong in
            ["", "soon", "0s", "-1d", "1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "1000y", "2030-01-01"]
        {
            assert!(matches!(end(wrong, now), Err(Problem::BadField("expires", _))), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_a_name_and_no_secret() {
        assert!(checked_id("acme-prod.2_x").is_ok());
        for wrong in ["", "a b", "a/b", "sk-dg-0123", "é", &"a".repeat(65)] {
            assert!(matches!(checked_id(wrong), Err(Problem::BadField("id", _))), "{wrong}");
        }
    }

    #[test]
    fn a_grace_may_be_nothing_and_not_for_ever() {
        assert_eq!(grace_period("0s").ok(), Some(Duration::ZERO));
        for wrong in ["", "1", "366d", "-1h"] {
            assert!(grace_period(wrong).is_err(), "{wrong}");
        }
    }
}
