//! Differences between two configurations. They name keys and never show values, which may be secrets.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{
    AdminSettings, Config, GlobalSettings, KeySettings, ServerSettings, StoreSettings, SubmitSettings,
    TenantSettings, TraceSettings, UsageSettings,
};
use crate::usage::Zone;

/// Differences that a reload applies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Tenants with a difference beside their keys.
    pub tenants: Difference,
    /// Virtual keys, by id.
    pub keys: Difference,
    pub accounts: Difference,
    /// By prefix.
    pub mounts: Difference,
    /// Other settings, by their names in the file.
    pub settings: Vec<&'static str>,
}

/// Names in the order of the configuration that has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    pub added: Vec<Arc<str>>,
    pub removed: Vec<Arc<str>>,
    pub changed: Vec<Arc<str>>,
}

impl Changes {
    pub fn between(old: &Config, new: &Config) -> Self {
        let tenant = |config: &Config, tenant: &TenantSettings| {
            let accounts: Vec<Arc<str>> =
                tenant.accounts.iter().map(|at| Arc::clone(&config.accounts[*at].name)).collect();
            // Accounts are compared by name: the index changes with the order in the file.
            let rest = TenantSettings { keys: Vec::new(), accounts: Vec::new(), ..tenant.clone() };
            (Arc::clone(&tenant.name), (rest, accounts))
        };
        let tenants = |config: &Config| config.tenants.iter().map(|one| tenant(config, one)).collect();
        let keys = |config: &Config| {
            let of_tenant = |tenant: &TenantSettings| {
                let key = |key: &KeySettings| (Arc::clone(&key.id), (key.clone(), Arc::clone(&tenant.name)));
                tenant.keys.iter().map(key).collect::<Vec<_>>()
            };
            config.tenants.iter().flat_map(of_tenant).collect()
        };
        let accounts = |config: &Config| {
            config.accounts.iter().map(|one| (Arc::clone(&one.name), one.clone())).collect()
        };
        let mounts = |config: &Config| {
            config.mounts.iter().map(|one| (Arc::clone(&one.prefix), one.clone())).collect()
        };
        // Destructured in full: a new setting does not compile until it stands here or in `StartSettings`.
        let Config { settings, accounts: _, mounts: _, tenants: _, prices: _, sidecar: _ } = new;
        let GlobalSettings { server, admin, store, submit, poll, log, usage, traces, proxies: _ } = settings;
        let ServerSettings {
            listen: _,
            workers: _,
            max_body_bytes,
            min_body_bytes_per_second,
            auth_failures_per_second,
            trusted_proxies,
            proxy_protocol,
            timeouts,
            tls: server_tls,
        } = server;
        let AdminSettings { listen: _, token, tokens, tls: admin_tls } = admin;
        let SubmitSettings { max_wait } = submit;
        let TraceSettings { propagate } = traces;
        let UsageSettings { currency, zone: _, keep: _, lost, strict } = usage;
        let before = &old.settings;
        let settings = [
            ("submit.max_wait", before.submit.max_wait != *max_wait),
            ("poll", before.poll != *poll),
            ("log", before.log != *log),
            ("admin.token", before.admin.token != *token),
            ("admin.tokens", before.admin.tokens != *tokens),
            ("admin.tls", before.admin.tls != *admin_tls),
            ("server.tls", before.server.tls != *server_tls),
            (
                "store.refuse_stale_keys_after",
                // The first `url` itself waits for a start.
                store.url().is_some()
                    && before.store.url().is_some()
                    && before.store.refuse_stale_keys_after() != store.refuse_stale_keys_after(),
            ),
            ("usage.currency", before.usage.currency != *currency),
            ("usage.lost", before.usage.lost != *lost),
            ("usage.strict", before.usage.strict != *strict),
            ("traces.propagate", before.traces.propagate != *propagate),
            (
                "server.auth_failures_per_second",
                before.server.auth_failures_per_second != *auth_failures_per_second,
            ),
            ("server.max_body_bytes", before.server.max_body_bytes != *max_body_bytes),
            (
                "server.min_body_bytes_per_second",
                before.server.min_body_bytes_per_second != *min_body_bytes_per_second,
            ),
            ("server.trusted_proxies", before.server.trusted_proxies != *trusted_proxies),
            ("server.proxy_protocol", before.server.proxy_protocol != *proxy_protocol),
            ("server.timeouts", before.server.timeouts != *timeouts),
        ];
        Self {
            tenants: Difference::between(tenants(old), tenants(new)),
            keys: Difference::between(keys(old), keys(new)),
            accounts: Difference::between(accounts(old), accounts(new)),
            mounts: Difference::between(mounts(old), mounts(new)),
            settings: named(&settings),
        }
    }
}

/// Settings that are only read at a start.
#[derive(Debug, Clone)]
pub struct StartSettings {
    listen: SocketAddr,
    workers: usize,
    admin: SocketAddr,
    store: StoreSettings,
    zone: Zone,
    keep: Duration,
}

impl StartSettings {
    pub fn of(config: &Config) -> Self {
        let ServerSettings {
            listen,
            workers,
            max_body_bytes: _,
            min_body_bytes_per_second: _,
            auth_failures_per_second: _,
            trusted_proxies: _,
            proxy_protocol: _,
            timeouts: _,
            tls: _,
        } = &config.settings.server;
        let AdminSettings { listen: admin, token: _, tokens: _, tls: _ } = &config.settings.admin;
        let UsageSettings { currency: _, zone, keep, lost: _, strict: _ } = config.settings.usage;
        let store = config.settings.store.clone();
        Self { listen: *listen, workers: *workers, admin: *admin, store, zone, keep }
    }

    /// Names of the settings that a restart with the new configuration would change.
    pub fn needs_restart(&self, new: &Config) -> Vec<&'static str> {
        let new = Self::of(new);
        let [url, password, path] = self.store.differences(&new.store);
        named(&[
            ("server.listen", self.listen != new.listen),
            ("server.workers", self.workers != new.workers),
            ("admin.listen", self.admin != new.admin),
            url,
            password,
            path,
            ("usage.zone", self.zone != new.zone),
            ("usage.keep", self.keep != new.keep),
        ])
    }
}

fn named(settings: &[(&'static str, bool)]) -> Vec<&'static str> {
    settings.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect()
}

impl Difference {
    fn between<T: PartialEq>(old: Vec<(Arc<str>, T)>, new: Vec<(Arc<str>, T)>) -> Self {
        let mut before: HashMap<&Arc<str>, &T> = old.iter().map(|(name, item)| (name, item)).collect();
        let mut difference = Self::default();
        for (name, item) in &new {
            match before.remove(name) {
                None => difference.added.push(Arc::clone(name)),
                Some(before) if before != item => difference.changed.push(Arc::clone(name)),
                Some(_) => {}
            }
        }
        let gone = old.iter().filter(|(name, _)| before.contains_key(name));
        difference.removed = gone.map(|(name, _)| Arc::clone(name)).collect();
        difference
    }
}

/// One line: `tenants +new -gone ~changed; keys ...`.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("tenants", &self.tenants),
            ("keys", &self.keys),
            ("accounts", &self.accounts),
            ("mounts", &self.mounts),
        ];
        let mut parts: Vec<String> = Vec::new();
        for (kind, Difference { added, removed, changed }) in kinds {
            let signs = [('+', added), ('-', removed), ('~', changed)];
            let names =
                signs.into_iter().flat_map(|(sign, names)| names.iter().map(move |name| (sign, name)));
            let names: Vec<String> = names.map(|(sign, name)| format!("{sign}{name}")).collect();
            let more = names.len().saturating_sub(MOST_SHOWN);
            let shown = names[..names.len() - more].join(" ");
            match (names.len(), more) {
                (0, _) => {}
                (_, 0) => parts.push(format!("{kind} {shown}")),
                (_, more) => parts.push(format!("{kind} {shown} and {more} more")),
            }
        }
        parts.extend(self.settings.iter().map(|name| (*name).to_owned()));
        f.write_str(&if parts.is_empty() { "nothing changed".to_owned() } else { parts.join("; ") })
    }
}

/// Names of one kind in a line of the log.
const MOST_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("."), &|_| None).expect("a configuration").config
    }

    const OLD: &str = r#"
        admin = { token = "old-token-0123456789" }
        mounts = [{ prefix = "/" }, { prefix = "/wan" }]
        accounts = [{ name = "east", base_url = "https://e", keys = ["sk-e"] },
                    { name = "west", base_url = "https://w", keys = ["sk-w"] }]
        tenants = [{ name = "one", keys = [{ id = "k1", key = "0123456789abcdef1" }], accounts = ["west"] },
                   { name = "two", keys = [{ id = "k2", key = "0123456789abcdef2" }] },
                   { name = "three", keys = [{ id = "k3", key = "0123456789abcdef3" }] }]"#;

    #[test]
    fn what_changed_is_named_and_no_value_is_shown() {
        let new = r#"
            admin = { token = "new-token-0123456789", listen = "127.0.0.1:9" }
            store = { path = "elsewhere" }
            server = { timeouts = { idle = "1s" } }
            mounts = [{ prefix = "/" }, { prefix = "/all" }]
            accounts = [{ name = "west", base_url = "https://w", keys = ["sk-w"] },
                        { name = "east", base_url = "https://e", keys = ["sk-e2"] }]
            tenants = [{ name = "one", keys = [{ id = "k1", key = "0123456789abcdef9" }], accounts = ["west"] },
                       { name = "two", keys = [{ id = "k4", key = "0123456789abcdef2" }], async_header = "add" },
                       { name = "four", keys = [{ id = "k3", key = "0123456789abcdef3" }] }]"#;
        let (old, new) = (config(OLD), config(new));
        assert_eq!(
            Changes::between(&old, &new).to_string(),
            "tenants +four -three ~two; keys +k4 -k2 ~k1 ~k3; accounts ~east; mounts +/all -/wan; \
             admin.token; server.timeouts"
        );
        assert_eq!(StartSettings::of(&old).needs_restart(&new), ["admin.listen", "store.path"]);
    }

    #[test]
    fn a_database_waits_for_a_start_and_the_age_of_keys_does_not() {
        let store = |table: &str| config(&format!("store = {{ {table} }}\n{OLD}"));
        let old = "url = 'postgres://me:one@db/db', path = 'spool.db'";
        for (table, restart, settings) in [
            (old, vec![], vec![]),
            ("url = 'postgres://me:two@db/db', path = 'spool.db'", vec!["store.password_file"], vec![]),
            ("url = 'postgres://me:one@db/db'", vec!["store.path"], vec![]),
            ("url = 'postgres://you:one@db/db', path = 'spool.db'", vec!["store.url"], vec![]),
            ("path = 'spool.db'", vec!["store.url"], vec![]),
            (
                "url = 'postgres://me:one@db/db', path = 'spool.db', refuse_stale_keys_after = '1h'",
                vec![],
                vec!["store.refuse_stale_keys_after"],
            ),
        ] {
            let (old, new) = (store(old), store(table));
            assert_eq!(StartSettings::of(&old).needs_restart(&new), restart, "{table}");
            assert_eq!(Changes::between(&old, &new).settings, settings, "{table}");
        }
    }

    #[test]
    fn the_order_of_accounts_is_no_change() {
        let accounts = |text: &str| {
            let tenants = r#"tenants = [{ name = "one", keys = [], accounts = ["west"] }]"#;
            config(&format!("accounts = [{text}]\n{tenants}"))
        };
        let east = r#"{ name = "east", base_url = "https://e", keys = ["sk-e"] }"#;
        let west = r#"{ name = "west", base_url = "https://w", keys = ["sk-w"] }"#;
        let changes = |old: &str, new: &str| Changes::between(&accounts(old), &accounts(new)).to_string();
        assert_eq!(changes(&format!("{east}, {west}"), &format!("{west}, {east}")), "nothing changed");
        assert_eq!(changes(&format!("{east}, {west}"), west), "accounts -east");
    }

    #[test]
    fn a_line_names_only_so_many() {
        let many: String = (0..30)
            .map(|number| format!("{{ name = \"t{number}\", keys = [{{ id = \"i{number}\", key = \"0123456789abcde-{number}\" }}] }},"))
            .collect();
        let new = config(&OLD.replace("tenants = [", &format!("tenants = [{many}")));
        let line = Changes::between(&config(OLD), &new).to_string();
        assert!(line.contains("+t19 and 10 more") && !line.contains("+t20"), "{line}");
    }
}
