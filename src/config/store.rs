//! `[store]`: the file of an embedded store, or the database of a shared one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Secret;
use super::database_url::{self, DatabaseUrl};
use super::defaults::STORE_PATH;
use super::node::Node;
use super::reader::{ConfigReader, Located, Text, ValueFault};
use super::secret::{password_in_file, secret, why};
use super::tls;

/// Place of the durable state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreSettings {
    /// One file, for one gateway.
    Embedded { path: PathBuf },
    /// A database, for several gateways.
    Shared(SharedStoreSettings),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedStoreSettings {
    pub url: DatabaseUrl,
    /// The file in which a claim waits that the database can't take just now.
    pub spool: Option<PathBuf>,
    /// Time without the database after which run-time keys are refused; `None`: they are served as last known.
    pub refuse_stale_keys_after: Option<Duration>,
}

impl StoreSettings {
    /// The database; `None` for an embedded store.
    pub fn url(&self) -> Option<&DatabaseUrl> {
        match self {
            StoreSettings::Embedded { .. } => None,
            StoreSettings::Shared(shared) => Some(&shared.url),
        }
    }

    /// The file `path`: the store itself, or the spool beside a database.
    pub fn path(&self) -> Option<&Path> {
        match self {
            StoreSettings::Embedded { path } => Some(path),
            StoreSettings::Shared(shared) => shared.spool.as_deref(),
        }
    }

    /// Time without the database after which run-time keys are refused.
    pub fn refuse_stale_keys_after(&self) -> Option<Duration> {
        match self {
            StoreSettings::Embedded { .. } => None,
            StoreSettings::Shared(shared) => shared.refuse_stale_keys_after,
        }
    }

    /// Tells for each key of the table that is only read at a start whether the other settings differ in it.
    pub(super) fn differences(&self, other: &Self) -> [(&'static str, bool); 3] {
        let address =
            |settings: &Self| settings.url().map(|url| DatabaseUrl { password: None, ..url.clone() });
        let password = |settings: &Self| settings.url().and_then(|url| url.password.clone());
        let (url, other_url) = (address(self), address(other));
        let are_shared = url.is_some() && other_url.is_some();
        [
            ("store.url", url != other_url),
            ("store.password_file", are_shared && password(self) != password(other)),
            ("store.path", self.path() != other.path()),
        ]
    }
}

/// The table as written, with the file of its password read.
#[derive(Default)]
pub(super) struct RawStore {
    path: Option<Text>,
    url: Option<Located<Secret>>,
    /// `url` is written, readable or not.
    has_url: bool,
    password: Option<Located<Secret>>,
    refuse_stale_keys_after: Option<Text>,
}

pub(super) fn read(node: Node<'_>) -> Option<RawStore> {
    let mut table = node.table("write [store]")?;
    let file = RawStore {
        path: table.field("path").and_then(|node| node.string("write the path of a file")),
        has_url: table.has("url"),
        url: table.field("url").and_then(|node| secret(&node)),
        password: table.field("password_file").and_then(|node| password_in_file(&node)),
        refuse_stale_keys_after: table
            .field("refuse_stale_keys_after")
            .and_then(|node| node.string("write it like \"10m\"")),
    };
    if !file.has_url {
        for name in ["password_file", "refuse_stale_keys_after"] {
            if table.has(name) {
                table.missing(
                    &format!("has `{name}`, but no `url`"),
                    "give the database's `url`, or leave the key out: it is of a shared store only",
                );
            }
        }
    }
    table.finish();
    Some(file)
}

/// The checked table. A faulty one becomes the default: its fault is noted, so that no configuration comes of it.
pub(super) fn check(reader: &ConfigReader<'_>, file: &RawStore) -> StoreSettings {
    let path = file.path.as_ref().map(|path| PathBuf::from(&path.value));
    let after = file.refuse_stale_keys_after.as_ref().and_then(|written| reader.check(written, stale));
    match file.url.as_ref().and_then(|written| url(reader, file, written)) {
        Some(url) => {
            StoreSettings::Shared(SharedStoreSettings { url, spool: path, refuse_stale_keys_after: after })
        }
        None => StoreSettings::Embedded { path: path.unwrap_or_else(|| PathBuf::from(STORE_PATH)) },
    }
}

fn url(reader: &ConfigReader<'_>, file: &RawStore, written: &Located<Secret>) -> Option<DatabaseUrl> {
    let database_url::WrittenUrl { mut url, root_file } = reader.check(written, database_url::parse)?;
    if let Some(root_file) = root_file {
        url.root_certificates = Some(root_certificates(reader, written, &root_file)?);
    }
    match (&file.password, &url.password) {
        (Some(second), Some(_)) => {
            reader.fault(&second.location, "the URL has a password too", "keep one of them");
        }
        (Some(password), None) => url.password = Some(password.value.clone()),
        (None, _) => {}
    }
    if !url.is_local() && !url.tls.verifies() {
        let problem = "does not verify the database, so whoever stands between can read and change all state";
        let hint =
            "write sslmode=verify-full, with sslrootcert=FILE if a private authority signed its certificate";
        reader.warn(&written.location, problem, hint);
    }
    Some(url)
}

fn root_certificates(reader: &ConfigReader<'_>, written: &Located<Secret>, path: &str) -> Option<Arc<[u8]>> {
    let found = reader.files.borrow_mut().read(&reader.directory.join(path), MAX_ROOT_FILE_BYTES);
    let pem = found.map_err(|error| {
        let problem = format!("the file of its sslrootcert cannot be read: {}", why(&error));
        reader.fault(&written.location, problem, "a relative path starts at this file's directory");
    });
    let pem = Located { value: pem.ok()?, location: written.location.clone() };
    let checked = |pem: &Vec<u8>| match tls::authorities(pem) {
        Ok(_) => Ok(pem.as_slice().into()),
        Err(ValueFault { problem, hint }) => {
            Err(ValueFault::new(format!("the file of its sslrootcert {problem}"), hint))
        }
    };
    reader.check(&pem, checked)
}

/// Time without the database. One that is shorter than the discovery of a fail-over would refuse keys at each.
fn stale(text: &str) -> Result<Duration, ValueFault> {
    let hint = "write it like \"10m\"; without it keys are served as last known";
    let duration = humantime::parse_duration(text).map_err(|_| ValueFault::new("is not a duration", hint))?;
    if (SHORTEST_STALE..=LONGEST_STALE).contains(&duration) {
        Ok(duration)
    } else {
        Err(ValueFault::new("must be from 5s to 30d", hint))
    }
}

const MAX_ROOT_FILE_BYTES: u64 = 4 * 1024 * 1024;
const SHORTEST_STALE: Duration = Duration::from_secs(5);
const LONGEST_STALE: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Config, Fault, TlsMode};

    const REST: &str = "accounts = [{ name = 'a', base_url = 'https://h', keys = ['sk-1'] }]\n\
                        tenants = [{ name = 't', keys = [{ id = 'k', key = '0123456789abcdef' }] }]";

    fn load(folder: &Path, table: &str) -> Result<(StoreSettings, Vec<String>), Vec<String>> {
        let said = |faults: Vec<Fault>| {
            faults.iter().map(|fault| format!("{}: {}", fault.path, fault.problem)).collect()
        };
        let loaded = Config::parse(&format!("store = {{ {table} }}\n{REST}"), folder, &|_| None);
        let loaded = loaded.map_err(said)?;
        Ok((loaded.config.settings.store, said(loaded.warnings)))
    }

    #[test]
    fn a_password_is_a_line_with_blanks_and_any_letters() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = "url = 'postgres://me@localhost/db', password_file = 'p'";
        for (text, expected) in
            [(" a b/é ", " a b/é "), ("x\r\n", "x"), ("\"q\"\n", "\"q\""), ("$HOME", "$HOME")]
        {
            fs::write(folder.path().join("p"), text).expect("written");
            let (store, _) = load(folder.path(), table).unwrap_or_else(|faults| panic!("{faults:?}"));
            let password = store.url().and_then(|url| url.password.clone()).expect("a password");
            assert_eq!(password.expose(), expected);
        }
        for (text, problem) in [
            ("one\ntwo\n", "the file p has more than one line, or a control character"),
            ("\n", "the file p is empty"),
        ] {
            fs::write(folder.path().join("p"), text).expect("written");
            let faults = load(folder.path(), table).expect_err("a fault");
            assert_eq!(faults, [format!("store.password_file: {problem}")]);
        }
        fs::write(folder.path().join("p"), "x").expect("written");
        let faults = load(folder.path(), &table.replace("me@", "me:x@")).expect_err("a fault");
        assert_eq!(faults, ["store.password_file: the URL has a password too"]);
    }

    #[test]
    fn authorities_are_read_from_the_configuration_s_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = "url = 'postgres://me@db/db?sslrootcert=ca.pem'";
        let faults = load(folder.path(), table).expect_err("a fault");
        assert_eq!(faults, ["store.url: the file of its sslrootcert cannot be read: there is no such file"]);
        fs::write(folder.path().join("ca.pem"), "no PEM").expect("written");
        let faults = load(folder.path(), table).expect_err("a fault");
        assert_eq!(faults, ["store.url: the file of its sslrootcert has no certificate in it"]);
        let issued = rcgen::generate_simple_self_signed(["db".to_owned()]).expect("a certificate");
        let pem = issued.cert.pem();
        fs::write(folder.path().join("ca.pem"), &pem).expect("written");
        let (store, warnings) = load(folder.path(), table).unwrap_or_else(|faults| panic!("{faults:?}"));
        let url = store.url().expect("a URL");
        assert_eq!((url.root_certificates.as_deref(), url.tls), (Some(pem.as_bytes()), TlsMode::VerifyFull));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn a_database_elsewhere_that_is_not_verified_is_warned_of() {
        let folder = tempfile::tempdir().expect("a folder");
        for (url, is_warned) in [
            ("postgres://me@db/db", false),
            ("postgres://me@127.0.0.1/db", false),
            ("postgres://me@db/db?sslmode=verify-ca", false),
            ("postgres://me@db/db?sslmode=require", true),
            ("postgres://me@db/db?sslmode=disable", true),
        ] {
            let (_, warnings) = load(folder.path(), &format!("url = '{url}'")).expect("settings");
            assert_eq!(warnings.len(), usize::from(is_warned), "{url}: {warnings:?}");
        }
    }

    #[test]
    fn the_age_of_keys_is_longer_than_a_fail_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = |age: &str| format!("url = 'postgres://me@db/db', refuse_stale_keys_after = '{age}'");
        let (store, _) = load(folder.path(), &table("10m")).expect("settings");
        assert_eq!(store.refuse_stale_keys_after(), Some(Duration::from_secs(600)));
        for wrong in ["4s", "31d", "soon", "0s"] {
            load(folder.path(), &table(wrong)).expect_err("a fault");
        }
    }
}
