//! Tenants: those of the configuration are listed, and others are made, changed and deleted at run time. A change is
//! durable, and in force here, before it is answered.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::Admin;
use super::audit::AuditEntry;
use super::body;
use super::name_page::{NamePage, PageQuery};
use super::problem::Problem;
use super::response::{AdminResponse, answer, moment};
use crate::config::{AsyncHeader, check_tenant};
use crate::dashscope::operation::Group;
use crate::proxy::{budgets_in_use, tenant_limits_in_use};
use crate::store::{Change, Outcome, TenantRecord};
use crate::tenant::directory::{Directory, Tenant};
use crate::tenant::keyring::KeyEnd;
use crate::tenant::runtime_tenants::{settings_of, shown_settings};

impl Admin {
    pub(super) fn list_tenants(&self, query: &str) -> Result<AdminResponse, Problem> {
        let query = PageQuery::parse(query, &[])?;
        let directory = self.shared.directory.load_full();
        let mut page = NamePage::new(query.limit);
        for tenant in directory.tenants().iter().filter(|tenant| *tenant.name > *query.after) {
            page.add(&tenant.name, || self.describe_tenant(&directory, tenant));
        }
        for record in self.shared.tenants.living() {
            if *record.name > *query.after && !directory.has_tenant(&record.name) {
                page.add(&record.name, || describe_invalid(&record));
            }
        }
        let (tenants, next) = page.finish();
        Ok(answer(StatusCode::OK, &json!({ "tenants": tenants, "next": next })))
    }

    pub(super) async fn show_tenant(&self, name: &str) -> Result<AdminResponse, Problem> {
        let mut shown = self.tenant_as_it_is(name)?;
        let directory = self.shared.directory.load_full();
        if let Some(tenant) = directory.tenant(name) {
            shown["budgets"] = budgets_in_use(tenant, &self.shared, SystemTime::now()).into();
            shown["holders"] = self.holders(&directory, tenant).await;
        }
        Ok(answer(StatusCode::OK, &shown))
    }

    fn tenant_as_it_is(&self, name: &str) -> Result<Value, Problem> {
        let directory = self.shared.directory.load_full();
        let found = directory.tenant(name).filter(|tenant| *tenant.name == *name);
        let Some(tenant) = found else {
            let record = self.shared.tenants.record(name).filter(|record| record.closed_at.is_none());
            return record
                .map(|record| describe_invalid(&record))
                .ok_or_else(|| Problem::NoSuchTenant(name.to_owned()));
        };
        let mut shown = self.describe_tenant(&directory, tenant);
        shown["use"] = tenant_limits_in_use(tenant, &self.shared.limits);
        shown["use"]["requests"] = tenant.running.count().into();
        Ok(shown)
    }

    pub(super) async fn create_tenant(
        &self,
        body: Result<Bytes, Problem>,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let mut settings: Map<String, Value> = body::parse(&body?)?;
        let name = match settings.remove("name") {
            Some(Value::String(name)) => name,
            Some(_) | None => {
                return Err(Problem::BadField("name", "must be the tenant's name, as text".into()));
            }
        };
        settings.retain(|_, value| !value.is_null());
        let _turn = self.changing.lock().await;
        self.check_settings(&name, &settings)?;
        entry.tenant = Some(name.clone());
        if self.shared.directory.load().tenant(&name).is_some() || self.shared.tenants.record(&name).is_some()
        {
            return Err(Problem::NameTaken(name));
        }
        let now = SystemTime::now();
        let record = TenantRecord {
            name: name.as_str().into(),
            version: 1,
            settings: Value::Object(settings).to_string().into(),
            created_at: now,
            changed_at: now,
            closed_at: None,
        };
        if self.put_tenant(record).await? == Outcome::NotMade {
            return Err(Problem::NameTaken(name));
        }
        Ok(answer(StatusCode::CREATED, &self.tenant_as_it_is(&name)?))
    }

    /// Changes the settings that the body names; null takes one back to its default.
    pub(super) async fn change_tenant(
        &self,
        name: &str,
        body: Result<Bytes, Problem>,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let changes: Map<String, Value> = body::parse(&body?)?;
        if changes.contains_key("name") {
            return Err(Problem::BadField("name", "can't be changed".into()));
        }
        let _turn = self.changing.lock().await;
        let before = self.made_at_run_time(name)?;
        entry.tenant = Some(name.to_owned());
        let mut settings = settings_of(&before);
        merge(&mut settings, changes);
        self.check_settings(name, &settings)?;
        let settings = Value::Object(settings).to_string().into();
        let after = TenantRecord { settings, ..next(&before) };
        if self.put_tenant(after).await? == Outcome::NotMade {
            return Err(Problem::ChangedMeanwhile(name.to_owned()));
        }
        Ok(answer(StatusCode::OK, &self.tenant_as_it_is(name)?))
    }

    /// Closes a tenant: its keys are revoked, its running tasks still settle, and its name is not used again.
    pub(super) async fn delete_tenant(
        &self,
        name: &str,
        entry: &mut AuditEntry,
    ) -> Result<AdminResponse, Problem> {
        let _turn = self.changing.lock().await;
        let before = self.made_at_run_time(name)?;
        entry.tenant = Some(name.to_owned());
        let now = SystemTime::now();
        let mut keys: Vec<Box<str>> = Vec::new();
        self.shared.keyring.each(|key| {
            if *self.tenant_of(key) == *name && key.ends() != KeyEnd::Revoked {
                keys.push(key.id.clone());
            }
        });
        // The keys go first: a tenant of the file that gets the name later must not get its keys.
        while !keys.is_empty() {
            let some = keys.split_off(keys.len().saturating_sub(REVOKED_AT_ONCE));
            let revoked =
                some.into_iter().map(|id| self.shared.store.commit(Change::RevokeKey { id, at: now }));
            for revoked in join_all(revoked).await {
                revoked.map_err(Problem::Unassured)?;
            }
        }
        let closed = TenantRecord { closed_at: Some(now), ..next(&before) };
        if self.put_tenant(closed).await? == Outcome::NotMade {
            return Err(Problem::ChangedMeanwhile(name.to_owned()));
        }
        Ok(answer(StatusCode::OK, &json!({ "name": name, "status": "deleted" })))
    }

    /// The record of a tenant that may be changed here.
    ///
    /// # Errors
    /// `ConfiguredTenant`, `NoSuchTenant`.
    fn made_at_run_time(&self, name: &str) -> Result<Arc<TenantRecord>, Problem> {
        self.living_record(name).ok_or_else(|| {
            let is_configured = self.shared.directory.load().has_tenant(name);
            let name = name.to_owned();
            if is_configured { Problem::ConfiguredTenant(name) } else { Problem::NoSuchTenant(name) }
        })
    }

    /// The record of a tenant that was made at run time and not deleted. `None` also for a name in the file: at a start
    /// the file counts, even if a tenant of this name was made at run time.
    fn living_record(&self, name: &str) -> Option<Arc<TenantRecord>> {
        let record = self.shared.tenants.record(name).filter(|record| record.closed_at.is_none())?;
        let config = self.shared.directories.config();
        let is_of_file = config.tenants.iter().any(|tenant| *tenant.name == *name);
        (!is_of_file).then_some(record)
    }

    fn check_settings(&self, name: &str, settings: &Map<String, Value>) -> Result<(), Problem> {
        let config = self.shared.directories.config();
        check_tenant(&config, name, settings).map(drop).map_err(Problem::BadTenant)
    }

    async fn put_tenant(&self, record: TenantRecord) -> Result<Outcome, Problem> {
        let put = self.shared.store.commit(Change::PutTenant(Arc::new(record))).await;
        let outcome = put.map_err(Problem::Unassured)?;
        self.shared.directories.take_tenants();
        Ok(outcome)
    }

    fn describe_tenant(&self, directory: &Directory, tenant: &Tenant) -> Value {
        let accounts: Vec<&str> = tenant.accounts.iter().map(|at| &*directory.accounts[*at].name).collect();
        let allowed = Group::ALL.iter().filter(|group| tenant.allow.contains(**group));
        let async_header = match tenant.async_header {
            AsyncHeader::Require => "require",
            AsyncHeader::Add => "add",
        };
        let record = self.living_record(&tenant.name);
        let record = record.as_deref();
        json!({
            "name": &*tenant.name,
            "source": if record.is_some() { "admin" } else { "config" },
            "enabled": tenant.enabled,
            "accounts": accounts,
            "allow": allowed.map(|group| group.name()).collect::<Vec<_>>(),
            "async_header": async_header,
            "settings": record.map(shown_settings),
            "created_at": record.map(|record| moment(record.created_at)),
            "changed_at": record.map(|record| moment(record.changed_at)),
        })
    }
}

/// Merges changes into settings (RFC 7396): null takes a key away, and a table changes key by key. A table that is not there
/// is not made for a key that is taken away, as an empty `tokens` allows tokens.
pub(super) fn merge(settings: &mut Map<String, Value>, changes: Map<String, Value>) {
    for (key, change) in changes {
        match change {
            Value::Null => {
                settings.remove(&key);
            }
            Value::Object(inner) => {
                let takes_away = !inner.is_empty() && inner.values().all(Value::is_null);
                if takes_away && !settings.contains_key(&key) {
                    continue;
                }
                let table = settings.entry(key).or_insert_with(|| Map::new().into());
                if !table.is_object() {
                    *table = Map::new().into();
                }
                merge(table.as_object_mut().unwrap_or(&mut Map::new()), inner);
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                settings.insert(key, change);
            }
        }
    }
}

/// Keys that one commit of a deleted tenant revokes: the queue of the store keeps room for others.
const REVOKED_AT_ONCE: usize = 256;

/// A tenant that the configuration in use does not allow: an account or a list of prices of it is gone.
fn describe_invalid(record: &TenantRecord) -> Value {
    json!({
        "name": &*record.name, "source": "admin", "enabled": false, "accounts": [], "allow": [],
        "async_header": null, "settings": shown_settings(record), "created_at": moment(record.created_at),
        "changed_at": moment(record.changed_at),
    })
}

fn next(before: &TenantRecord) -> TenantRecord {
    TenantRecord { version: before.version + 1, changed_at: SystemTime::now(), ..before.clone() }
}
