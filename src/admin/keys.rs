//! Virtual keys created, listed, rotated and revoked at run time. A change is durable before it is answered.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::Admin;
use super::audit::AuditEntry;
use super::body;
use super::name_page::{NamePage, PageQuery};
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use super::tenants::merge;
use crate::config::KeyLimits;
use crate::dashscope::secret_look::looks_like_secret;
use crate::net::networks::{Network, Networks};
use crate::store::{Change, KeyDetails, KeyRecord, Outcome};
use crate::tenant::directory::Directory;
use crate::tenant::key::{CredentialFault, MintedKey, mint_id};
use crate::tenant::keyring::IssuedKey;
use crate::tenant::rotation::{self, Rotation, USUAL_GRACE, whole_second};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    tenant: String,
    id: Option<String>,
    /// Duration from now, or a time.
    expires: Option<String>,
    addresses: Option<Vec<String>>,
    note: Option<String>,
    /// The keys of a tenant's `limits`.
    limits: Option<Map<String, Value>>,
}

/// New settings of a key; what is left out stays, and what is null ends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default, deserialize_with = "written")]
    expires: Option<Option<String>>,
    #[serde(default, deserialize_with = "written")]
    addresses: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "written")]
    note: Option<Option<String>>,
    /// Limits that change, each by itself.
    #[serde(default, deserialize_with = "written")]
    limits: Option<Option<Map<String, Value>>>,
}

/// A field that is written, if only as null.
fn written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
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
        let Create { tenant, id, expires, addresses, note, limits } = body::parse(&body?)?;
        let limits = checked_limits(limits.unwrap_or_default())?;
        let details = KeyDetails { addresses: networks(addresses)?, note: checked_note(note)?, limits };
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
        let record = KeyRecord {
            id: id.as_str().into(),
            tenant: tenant.as_str().into(),
            sha256: secret.digest(),
            created_at: now,
            expires,
            revoked_at: None,
            retires_at: None,
            details: details.shared(),
        };
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
        let wrong =
            || Problem::BadField("grace", "must be a duration from \"0s\" to \"365d\", like \"24h\"".into());
        let grace = grace.map_or(Some(USUAL_GRACE), |text| rotation::grace(&text)).ok_or_else(wrong)?;
        let _turn = self.changing.lock().await;
        let now = SystemTime::now();
        let key = self.issued(id)?;
        if key.fault(now).is_some() {
            return Err(Problem::Ended(id.to_owned()));
        }
        let (directory, tenant) = (self.shared.directory.load_full(), self.tenant_of(&key));
        entry.tenant = Some((*tenant).to_owned());
        if let Some(problem) = configured(&directory, id) {
            return Err(problem);
        }
        if !directory.has_tenant(&tenant) {
            return Err(Problem::UnknownTenant((*tenant).to_owned()));
        }
        let Rotation { secret, change, expires, old_until } = Rotation::of(&key, &tenant, grace, now)?;
        if self.shared.store.commit(change).await.map_err(Problem::Unconfirmed)? == Outcome::NotMade {
            return Err(Problem::Ended(id.to_owned()));
        }
        let (until, expires) = (moment(old_until), expires.map(moment));
        entry.until = Some(until.clone());
        Ok(answer(
            StatusCode::OK,
            &json!({
                "id": id, "tenant": &*tenant, "key": secret.expose(),
                "created_at": moment(now), "expires_at": expires, "old_until": until,
            }),
        ))
    }

    /// Gives a key another end, other addresses or another note. Its secrets stay.
    pub(super) async fn change_key(
        &self,
        id: &str,
        body: Result<Bytes, Problem>,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let id = checked_id(id)?;
        entry.key_id = Some(id.to_owned());
        let Settings { expires, addresses, note, limits } = body::parse(&body?)?;
        let now = SystemTime::now();
        let expires = expires.map(|text| text.map(|text| end(&text, now)).transpose()).transpose()?;
        let (addresses, note) = (addresses.map(networks).transpose()?, note.map(checked_note).transpose()?);
        let _turn = self.changing.lock().await;
        let key = self.issued(id)?;
        if key.fault(now).is_some() {
            return Err(Problem::Ended(id.to_owned()));
        }
        let tenant = self.tenant_of(&key);
        entry.tenant = Some((*tenant).to_owned());
        let expires = expires.unwrap_or_else(|| key.ends().moment());
        let mut details = key.details().as_deref().cloned().unwrap_or_default();
        details.addresses = addresses.unwrap_or(details.addresses);
        details.note = note.unwrap_or(details.note);
        if let Some(changes) = limits {
            let before = details.limits.as_ref().map(|limits| limits.written().clone());
            let merged = changes.map(|changes| {
                let mut limits = before.unwrap_or_default();
                merge(&mut limits, changes);
                limits
            });
            details.limits = checked_limits(merged.unwrap_or_default())?;
        }
        let change = Change::ChangeKey { id: id.into(), expires, details: details.shared() };
        if self.shared.store.commit(change).await.map_err(Problem::Unassured)? == Outcome::NotMade {
            return Err(Problem::Ended(id.to_owned()));
        }
        entry.until = expires.map(moment);
        Ok(answer(StatusCode::OK, &self.describe(&self.shared.directory.load_full(), &key, now)))
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
            configured(&self.shared.directory.load(), id).unwrap_or_else(|| Problem::NoSuchKey(id.to_owned()))
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
                    "expires_at": key.expires.map(moment), "addresses": texts(key.addresses()), "note": null,
                    "limits": null, "last_used_at": key.last_use.at().map(moment),
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

    /// State of a secret that was made at run time.
    pub(super) fn status(&self, directory: &Directory, key: &IssuedKey, now: SystemTime) -> &'static str {
        match key.fault(now) {
            Some(CredentialFault::Expired) => "expired",
            Some(
                CredentialFault::Revoked
                | CredentialFault::Unknown
                | CredentialFault::Mistyped
                | CredentialFault::NoCertificate
                | CredentialFault::OtherCertificate,
            ) => "revoked",
            None if directory.key_named(&key.id).is_some() => "shadowed",
            None if !directory.has_tenant(&self.tenant_of(key)) => "no_tenant",
            None => "live",
        }
    }

    fn describe(&self, directory: &Directory, key: &IssuedKey, now: SystemTime) -> Value {
        let tenant = &*self.tenant_of(key);
        let expires = key.ends().moment().map(moment);
        let details = key.details().as_deref().cloned().unwrap_or_default();
        let status = self.status(directory, key, now);
        let old_until: Vec<String> =
            self.shared.keyring.retiring(&key.id, now).into_iter().map(moment).collect();
        json!({
            "id": &*key.id, "tenant": tenant, "source": "admin", "status": status,
            "created_at": moment(key.created()), "expires_at": expires, "old_until": old_until,
            "addresses": texts(&details.addresses), "note": details.note,
            "limits": details.limits.map(|limits| limits.written().clone()),
            "last_used_at": self.shared.keyring.last_use(&key.id).map(moment),
        })
    }
}

/// The problem with a key of the configuration, which must be changed there; `None` if it has no key of the id.
fn configured(directory: &Directory, id: &str) -> Option<Problem> {
    let (key, tenant) = directory.key_named(id)?;
    Some(Problem::Configured { id: key.id.to_string(), tenant: tenant.name.to_string() })
}

fn taken(id: &str, tenant: &str) -> String {
    format!("there is a key `{id}`, of the tenant `{tenant}`: choose another id, or rotate that one")
}

fn texts(networks: &Networks) -> Vec<String> {
    networks.iter().map(Network::to_string).collect()
}

/// Checks the networks from where a key is to be good; none stand for its tenant's.
fn networks(texts: Option<Vec<String>>) -> Result<Networks, Problem> {
    let texts = texts.unwrap_or_default();
    let read: Option<Networks> = texts.iter().map(|text| text.parse().ok()).collect();
    let problem =
        format!("must be up to {MOST_NETWORKS} networks like \"203.0.113.0/24\" or \"203.0.113.7\"");
    read.filter(|_| texts.len() <= MOST_NETWORKS).ok_or(Problem::BadField("addresses", problem.into()))
}

/// Checks a note; an empty one is none.
fn checked_note(note: Option<String>) -> Result<Option<Box<str>>, Problem> {
    let note = note.filter(|note| !note.is_empty());
    let is_fine = |note: &String| note.len() <= MOST_NOTE_BYTES && !note.chars().any(char::is_control);
    if note.as_ref().is_some_and(|note| !is_fine(note) || looks_like_secret(note)) {
        let problem = format!("must be up to {MOST_NOTE_BYTES} bytes of plain text, without a secret in it");
        return Err(Problem::BadField("note", problem.into()));
    }
    Ok(note.map(String::into_boxed_str))
}

/// Checks the limits of a key's own; an empty table is none.
fn checked_limits(written: Map<String, Value>) -> Result<Option<Box<KeyLimits>>, Problem> {
    let limits = KeyLimits::check(written).map_err(|faults| {
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Problem::BadField("limits", format!("can't be taken: {}", told.join("; ")).into())
    })?;
    if String::from(limits.clone()).len() > MOST_LIMITS_BYTES {
        let problem = format!("must be up to {MOST_LIMITS_BYTES} bytes of JSON");
        return Err(Problem::BadField("limits", problem.into()));
    }
    Ok((!limits.is_empty()).then(|| Box::new(limits)))
}

/// Checks a key's id. Logs show the id, so it must not be a secret.
fn checked_id(id: &str) -> Result<&str, Problem> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !(1..=MOST_ID_BYTES).contains(&id.len()) || !id.bytes().all(fine) {
        let problem = "must be 1 to 64 letters, digits, dots, underscores and hyphens";
        return Err(Problem::BadField("id", problem.into()));
    }
    if id.starts_with("sk-") {
        let problem = "looks like a secret; give the key's id, which `dashgate keys list` shows";
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

const MOST_ID_BYTES: usize = 64;
const MOST_NETWORKS: usize = 32;
const MOST_NOTE_BYTES: usize = 256;
const MOST_LIMITS_BYTES: usize = 2048;
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
}
