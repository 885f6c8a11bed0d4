//! Tenants that were made at run time. The store's records are mirrored here, and checked against the configuration in
//! use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::config::{Config, Fault, TenantSettings, check_tenant};
use crate::store::{Change, Mirror, Store, StoreFault, TenantRecord};

/// All tenants that were made at run time, deleted ones too, by name.
#[derive(Debug, Default)]
pub struct RuntimeTenants {
    records: Mutex<BTreeMap<Arc<str>, Arc<TenantRecord>>>,
    /// Number of changes since the start.
    generation: AtomicU64,
    /// Told of each change.
    pub changed: Notify,
    checked: Mutex<CheckedTenants>,
}

/// Settings as the check of the latest configuration gave them. The check of a thousand tenants takes some ten
/// milliseconds, so each is made once.
#[derive(Debug, Default)]
struct CheckedTenants {
    config: Option<Arc<Config>>,
    by_name: BTreeMap<Arc<str>, CheckedTenant>,
}

#[derive(Debug)]
struct CheckedTenant {
    version: u64,
    settings: Result<Arc<TenantSettings>, Arc<[Fault]>>,
}

impl Mirror for RuntimeTenants {
    fn apply(&self, change: &Change) {
        match change {
            Change::PutTenant(record) => self.put(Arc::clone(record)),
            Change::Claim { .. }
            | Change::Reserve(_)
            | Change::Free { .. }
            | Change::LoseHold { .. }
            | Change::Begin(_)
            | Change::Release(_)
            | Change::Lose(_)
            | Change::Adopt(_)
            | Change::Settle { .. }
            | Change::Deliver(_)
            | Change::ChangeKey { .. }
            | Change::NoteUses(_)
            | Change::KeepSecret { .. }
            | Change::Audit(_)
            | Change::Enter(_)
            | Change::Hide { .. }
            | Change::KeepUpload { .. }
            | Change::CreateKey(_)
            | Change::RotateKey { .. }
            | Change::RevokeKey { .. }
            | Change::Rename { .. } => {}
        }
    }
}

impl RuntimeTenants {
    /// Reads the records of the store. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn load(store: &Store) -> Result<Self, StoreFault> {
        let tenants = Self::default();
        store.tenants(|record| tenants.put(record.into()))?;
        Ok(tenants)
    }

    fn put(&self, record: Arc<TenantRecord>) {
        let mut records = self.records.lock();
        // `load` may have read it from the store already.
        if records.get(&record.name).is_some_and(|known| known.version >= record.version) {
            return;
        }
        records.insert(Arc::clone(&record.name), record);
        drop(records);
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// Number of changes since the start.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The record of a tenant, which may be deleted.
    pub fn record(&self, name: &str) -> Option<Arc<TenantRecord>> {
        self.records.lock().get(name).cloned()
    }

    /// The tenants that are not deleted, by name.
    pub fn living(&self) -> Vec<Arc<TenantRecord>> {
        self.records.lock().values().filter(|record| record.closed_at.is_none()).cloned().collect()
    }

    /// The settings of all living tenants that are valid by the configuration, in the order of their names. Others are
    /// logged, once.
    pub fn settings(&self, config: &Arc<Config>) -> Vec<Arc<TenantSettings>> {
        let living = self.living();
        let mut checked = self.checked.lock();
        if !checked.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config)) {
            *checked = CheckedTenants { config: Some(Arc::clone(config)), by_name: BTreeMap::new() };
        }
        let mut settings = Vec::with_capacity(living.len());
        for record in &living {
            let known = checked.by_name.get(&record.name).filter(|known| known.version == record.version);
            if known.is_none() {
                let found = check(config, record);
                if let Err(faults) = &found {
                    let problem = faults.first().map(ToString::to_string).unwrap_or_default();
                    let tenant = &*record.name;
                    tracing::error!(
                        tenant,
                        problem,
                        "a tenant made at run time is not valid any more: its calls are refused"
                    );
                }
                let found = CheckedTenant { version: record.version, settings: found };
                checked.by_name.insert(Arc::clone(&record.name), found);
            }
            let known = checked.by_name.get(&record.name);
            settings.extend(known.and_then(|known| known.settings.as_ref().ok().cloned()));
        }
        if checked.by_name.len() > living.len() {
            checked.by_name.retain(|name, _| living.iter().any(|record| record.name == *name));
        }
        settings
    }

    /// Faults of the tenants that would not be valid, or not be told from one of the file, under another configuration.
    pub fn faults_under(&self, config: &Config) -> Vec<Fault> {
        let fault = |problem: String, hint: String| Fault {
            position: None,
            path: "tenants".to_owned(),
            problem,
            hint,
        };
        let mut faults = Vec::new();
        for tenant in &config.tenants {
            if self.record(&tenant.name).is_some() {
                let name = &tenant.name;
                faults.push(fault(
                    format!("the tenant `{name}` was made at run time"),
                    "choose another name: a deleted tenant's is not used again either".to_owned(),
                ));
            }
        }
        for record in self.living() {
            if let Err(found) = check(config, &record)
                && let Some(first) = found.first()
            {
                let name = &record.name;
                faults.push(fault(
                    format!(
                        "the tenant `{name}`, made at run time, would not be valid: {}: {}",
                        first.path, first.problem
                    ),
                    format!("change it first with `dashgate tenants set {name}`"),
                ));
            }
        }
        faults
    }
}

/// The settings as the API takes them.
pub fn settings_of(record: &TenantRecord) -> Map<String, Value> {
    serde_json::from_str(&record.settings).unwrap_or_default()
}

/// The settings without the secrets of webhooks; the query of an endpoint's URL may be one too.
pub fn shown_settings(record: &TenantRecord) -> Map<String, Value> {
    let mut settings = settings_of(record);
    let webhooks = settings.get_mut("webhooks").and_then(Value::as_array_mut);
    for endpoint in webhooks.into_iter().flatten().filter_map(Value::as_object_mut) {
        endpoint.remove("secrets");
        if let Some(Value::String(url)) = endpoint.get_mut("url") {
            url.truncate(url.find('?').unwrap_or(url.len()));
        }
    }
    settings
}

fn check(config: &Config, record: &TenantRecord) -> Result<Arc<TenantSettings>, Arc<[Fault]>> {
    if config.tenants.iter().any(|tenant| tenant.name == record.name) {
        let problem = "a tenant of the file has the name too".to_owned();
        let fault = Fault { position: None, path: "name".to_owned(), problem, hint: String::new() };
        return Err([fault].into());
    }
    check_tenant(config, &record.name, &settings_of(record)).map(Arc::new).map_err(Arc::from)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;

    fn config(tenant: &str, account: &str) -> Arc<Config> {
        let text = format!(
            r#"accounts = [{{ name = "{account}", base_url = "https://h", keys = ["sk-upstream-1"] }}]
               tenants = [{{ name = "{tenant}", keys = [{{ id = "k", key = "0123456789abcdef" }}] }}]"#
        );
        Config::parse(&text, Path::new(""), &|_| None).expect("a configuration").config.into()
    }

    fn record(name: &str, version: u64, settings: &str) -> Arc<TenantRecord> {
        let at = SystemTime::UNIX_EPOCH;
        let (name, settings) = (name.into(), settings.into());
        TenantRecord { name, version, settings, created_at: at, changed_at: at, closed_at: None }.into()
    }

    #[test]
    fn the_latest_record_counts_and_each_is_checked_by_the_configuration_in_use() {
        let tenants = RuntimeTenants::default();
        tenants.apply(&Change::PutTenant(record("b", 2, r#"{"weight":7,"accounts":["main"]}"#)));
        tenants.apply(&Change::PutTenant(record("b", 1, "{}")));
        tenants.apply(&Change::PutTenant(record("a", 1, "{}")));
        assert_eq!(tenants.generation(), 2);
        let shown = |config: &Arc<Config>| -> Vec<(String, u32)> {
            let settings = tenants.settings(config);
            settings.iter().map(|tenant| (tenant.name.to_string(), tenant.weight)).collect()
        };
        assert_eq!(shown(&config("one", "main")), [("a".into(), 1), ("b".into(), 7)]);
        // The account of `b` is gone, and the name of `a` stands in the file.
        assert_eq!(shown(&config("a", "spare")), []);
        assert_eq!(tenants.faults_under(&config("a", "spare")).len(), 3);
        assert!(tenants.faults_under(&config("one", "main")).is_empty());
        let closed = TenantRecord { closed_at: Some(SystemTime::now()), ..(*record("a", 2, "{}")).clone() };
        tenants.apply(&Change::PutTenant(closed.into()));
        assert_eq!(shown(&config("one", "main")), [("b".into(), 7)]);
        assert_eq!(tenants.faults_under(&config("a", "main")).len(), 1, "the name is not used again");
    }
}
