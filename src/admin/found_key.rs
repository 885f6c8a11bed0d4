//! The owner of a secret that an operator has found somewhere. The secret is never shown or logged.

use std::time::SystemTime;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::Admin;
use super::body;
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::tenant::found_key::{FoundKey, KeyOwner, find};
use crate::tenant::key::VirtualKey;

impl Admin {
    /// Tells who owns the secret in the body.
    pub(super) fn find_key(&self, body: Result<Bytes, Problem>) -> Result<AdminResponse, Problem> {
        // The body is read as any JSON: the fault of a typed body would quote the secret in its message.
        let asked: Value = body::parse(&body?)?;
        let wrong = || {
            Problem::BadField("secret", "must be the secret as text, and the only field of an object".into())
        };
        let fields = asked.as_object().filter(|fields| fields.len() == 1).ok_or_else(wrong)?;
        let secret = fields.get("secret").and_then(Value::as_str).map(str::trim).unwrap_or_default();
        if secret.is_empty() {
            return Err(wrong());
        }
        let secret = VirtualKey::new(secret.as_bytes());
        let (directory, now) = (self.shared.directory.load_full(), SystemTime::now());
        let Some(FoundKey { owner, token_ends }) = find(&directory, &self.shared.keyring, secret, now) else {
            return Err(Problem::UnknownSecret { is_mistyped: secret.is_mistyped() });
        };
        let (id, tenant, source, status, ends) = match &owner {
            KeyOwner::Configured(key, tenant) => {
                let status =
                    if key.expires.is_some_and(|expires| expires <= now) { "expired" } else { "live" };
                (&*key.id, tenant.name.clone(), "config", status, key.expires)
            }
            KeyOwner::Issued(key) => {
                let newest = self.shared.keyring.named(&key.id);
                let is_newest = newest.is_some_and(|newest| newest.digest() == key.digest());
                let status = match self.status(&directory, key, now) {
                    "live" if !is_newest => "grace",
                    status => status,
                };
                (&*key.id, self.tenant_of(key), "admin", status, key.ends().moment())
            }
        };
        let is_valid = status == "live" || status == "grace";
        let status = if is_valid && token_ends.is_some_and(|ends| ends <= now) { "expired" } else { status };
        let kind = if token_ends.is_some() { "browser_token" } else { "key" };
        let ends = token_ends.map_or(ends, |token| Some(ends.map_or(token, |key| key.min(token))));
        let found = json!({
            "id": id, "tenant": &*tenant, "source": source, "status": status, "secret": kind,
            "expires_at": ends.map(moment),
        });
        Ok(answer(StatusCode::OK, &found))
    }
}
