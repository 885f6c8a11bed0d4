//! Reloads of the configuration: on request, and when its files have changed. A good configuration replaces the
//! directory in one swap; a bad file changes nothing.
//!
//! Reloads run on a thread of their own, one after another, so that no worker ever waits for a disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use serde_json::json;
use tokio::sync::oneshot;

use super::config_view::{ConfigView, RefusedFile};
use super::renames;
use crate::config::{Changes, Config, Fault, FileStates, Files, Loaded, LostTasks, StartSettings};
use crate::proxy::Shared;
use crate::store::{AuditRecord, Change};
use crate::telemetry::diagnostics;
use crate::tenant::key_warnings;

/// Handle that requests reloads, and reads their counts. The thread ends with the last clone.
#[derive(Debug, Clone)]
pub struct ReloadHandle {
    asked: SyncSender<ReloadRequest>,
    counts: Arc<Counts>,
    view: Arc<ArcSwap<ConfigView>>,
}

/// Numbers of configurations that were taken and rejected.
#[derive(Debug, Default)]
pub struct Counts {
    pub ok: AtomicU64,
    pub rejected: AtomicU64,
    /// Hash of the files of the configuration in use.
    pub hash: AtomicU64,
}

/// Result of a reload.
pub type ReloadOutcome = Result<Reloaded, Vec<Fault>>;

/// A configuration that was taken.
#[derive(Debug)]
pub struct Reloaded {
    pub changes: Changes,
    /// Settings that take effect at the next start only.
    pub needs_restart: Vec<&'static str>,
    pub warnings: Vec<Fault>,
}

/// A request for a reload, answered with its result.
type ReloadRequest = oneshot::Sender<ReloadOutcome>;

impl ReloadHandle {
    /// Loads the configuration anew; `None` if too many requests wait already, or the reload panicked.
    pub async fn reload(&self) -> Option<ReloadOutcome> {
        let (reply, outcome) = oneshot::channel();
        self.asked.try_send(reply).ok()?;
        outcome.await.ok()
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The configuration in use, as operators see it.
    pub fn view(&self) -> Arc<ConfigView> {
        self.view.load_full()
    }
}

/// Loads new configurations, and compares them with the one in use.
pub struct Reloader {
    path: PathBuf,
    /// Files as last read, whether their configuration was taken or not.
    files: Files,
    /// State of the files at the last check.
    last: FileStates,
    fixed: StartSettings,
    config: Config,
    shared: Shared,
    counts: Arc<Counts>,
    view: Arc<ArcSwap<ConfigView>>,
    /// Time until the next check of the files.
    pause: Duration,
}

impl Reloader {
    /// A reloader of the configuration that was read from `files`; `None` if there are none.
    pub fn new(files: Files, loaded: &Loaded, shared: Shared) -> Option<Self> {
        let Loaded { config, warnings, written } = loaded;
        let path = files.path()?.to_owned();
        let counts = Counts { hash: files.hash().into(), ..Counts::default() };
        let view = ConfigView {
            file: path.clone(),
            loaded_at: SystemTime::now(),
            written: Arc::new(written.clone()),
            warnings: warnings.clone(),
            needs_restart: Vec::new(),
            refused: None,
        };
        Some(Self {
            path,
            last: files.when_read(),
            files,
            fixed: StartSettings::of(config),
            config: config.clone(),
            shared,
            counts: Arc::new(counts),
            view: Arc::new(ArcSwap::from_pointee(view)),
            pause: PERIOD,
        })
    }

    /// Starts the thread that checks the files and reloads them.
    ///
    /// # Errors
    /// Why there is no thread.
    pub fn start(self) -> io::Result<ReloadHandle> {
        let (asked, asks) = mpsc::sync_channel(MOST_WAITING);
        let (counts, view) = (Arc::clone(&self.counts), Arc::clone(&self.view));
        // The thread is not joined: it may hang in a file that can't be read, and has nothing to lose.
        thread::Builder::new().name("reload".to_owned()).spawn(move || self.run(&asks))?;
        Ok(ReloadHandle { asked, counts, view })
    }

    fn run(mut self, asks: &Receiver<ReloadRequest>) {
        loop {
            match asks.recv_timeout(self.pause) {
                Ok(reply) => {
                    let (files, loaded) = Config::load_with_files(&self.path);
                    let _ = reply.send(self.apply(files, loaded));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let began = Instant::now();
                    self.check();
                    self.pause = PERIOD.max(began.elapsed() * PAUSE_FACTOR);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.shared.directories.drop_retired();
        }
    }

    /// Loads changed files once two checks find them alike: a file that is being written is not whole yet.
    fn check(&mut self) {
        let now = self.files.now();
        let has_settled = now == self.last;
        let is_as_read = now == self.files.when_read();
        self.last = now;
        if is_as_read || !has_settled {
            return;
        }
        let (files, loaded) = Config::load_with_files(&self.path);
        if files.hold_the_same(&self.files) {
            self.note(files);
        } else {
            // The result is in the log.
            let _ = self.apply(files, loaded);
        }
    }

    fn note(&mut self, files: Files) {
        self.last = files.when_read();
        self.files = files;
    }

    fn apply(&mut self, files: Files, loaded: Result<Loaded, Vec<Fault>>) -> ReloadOutcome {
        self.note(files);
        // Nothing is renamed for a configuration that is refused.
        let fitting = loaded
            .and_then(|loaded| self.without_taken_ids(loaded))
            .and_then(|loaded| self.beside_tenants(loaded));
        let renamed = fitting.and_then(|loaded| {
            renames::make(&loaded.config, &self.shared.store)?;
            Ok(loaded)
        });
        match renamed {
            Ok(loaded) => Ok(self.swap_in(loaded)),
            Err(faults) => {
                self.counts.rejected.fetch_add(1, Ordering::Relaxed);
                self.log_faults(&faults);
                let told = faults.iter().take(MOST_SHOWN).cloned().collect();
                let refused = Some(RefusedFile { at: SystemTime::now(), faults: told });
                self.view.store(Arc::new(ConfigView { refused, ..(*self.view.load_full()).clone() }));
                Err(faults)
            }
        }
    }

    /// Refuses new keys whose ids other keys have that were made at run time: which of the two counts must not depend on
    /// the replica, whose file may be another for a while.
    fn without_taken_ids(&self, loaded: Loaded) -> Result<Loaded, Vec<Fault>> {
        let Shared { directory, keyring, .. } = &self.shared;
        let taken = key_warnings::taken_ids(&directory.load(), &loaded.config, keyring);
        if taken.is_empty() {
            return Ok(loaded);
        }
        let fault = |(id, problem)| Fault {
            position: None,
            path: "tenants.keys".to_owned(),
            problem,
            hint: format!(
                "revoke the latter with `dashgate keys revoke {id}`, or give the former another id"
            ),
        };
        Err(taken.into_iter().map(fault).collect())
    }

    /// Refuses a configuration beside which a tenant that was made at run time could not stand.
    fn beside_tenants(&self, loaded: Loaded) -> Result<Loaded, Vec<Fault>> {
        let faults = self.shared.tenants.faults_under(&loaded.config);
        if faults.is_empty() { Ok(loaded) } else { Err(faults) }
    }

    fn swap_in(&mut self, Loaded { mut config, warnings, written }: Loaded) -> Reloaded {
        config.succeed(&self.config);
        let changes = Changes::between(&self.config, &config);
        let needs_restart = self.fixed.needs_restart(&config);
        let Shared { directories, access_log, keyring, .. } = &self.shared;
        self.shared.store.charge_lost_tasks(config.settings.usage.lost == LostTasks::Hold);
        let next = directories.take_config(&config);
        key_warnings::warn(&next, keyring, SystemTime::now());
        access_log.retarget(&config.settings.log);
        diagnostics::write_as(config.settings.log.diagnostics);
        self.config = config;
        self.counts.ok.fetch_add(1, Ordering::Relaxed);
        self.counts.hash.store(self.files.hash(), Ordering::Relaxed);
        let path = self.path.display();
        tracing::info!("{path}: reloaded: {changes}");
        self.audit(&changes);
        if !needs_restart.is_empty() {
            let names = needs_restart.join(", ");
            tracing::warn!("{path}: takes effect at the next start only: {names}");
        }
        for warning in &warnings {
            tracing::warn!("{path}:{warning}");
        }
        self.view.store(Arc::new(ConfigView {
            file: self.path.clone(),
            loaded_at: SystemTime::now(),
            written: Arc::new(written),
            warnings: warnings.clone(),
            needs_restart: needs_restart.clone(),
            refused: None,
        }));
        Reloaded { changes, needs_restart, warnings }
    }

    /// Has the audit tell of a new configuration, whoever changed the file.
    fn audit(&self, changes: &Changes) {
        let store = &self.shared.store;
        let detail = json!({ "file": self.path.display().to_string(), "changes": changes.to_string() });
        let (action, object) = ("take_configuration", "config".to_owned());
        let record =
            AuditRecord::without_token(store.replica_name(), store.now(), action, object, detail.to_string());
        store.defer(Change::Audit(record.into()));
    }

    fn log_faults(&self, faults: &[Fault]) {
        let path = self.path.display();
        tracing::error!("{path}: not reloaded, and nothing changed: it has {} fault(s)", faults.len());
        for fault in faults.iter().take(MOST_LOGGED) {
            tracing::error!("{path}:{fault}");
        }
        if faults.len() > MOST_LOGGED {
            tracing::error!("{path}: `dashgate check` tells the rest");
        }
    }
}

/// Time between two checks of the files. The kernel could report changes, but not on every file system, and only of
/// folders that are watched; a check costs a few microseconds for each file, and misses nothing.
const PERIOD: Duration = Duration::from_millis(200);
/// The pause is at least this many times as long as a check, so checks of many files take a hundredth of the time at
/// most.
const PAUSE_FACTOR: u32 = 100;
/// Requests that may wait for a reload.
const MOST_WAITING: usize = 16;
/// Faults of one configuration that are logged.
const MOST_LOGGED: usize = 20;
/// Faults of one configuration that are kept for operators.
const MOST_SHOWN: usize = 100;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::Store;
    use tempfile::TempDir;

    const GOOD: &str = r#"
        accounts = [{ name = "main", base_url = "https://h", keys = [{ key_file = "upstream" }] }]
        tenants = [{ name = "one", keys = [{ id = "k", key = "0123456789abcdef" }] }]"#;

    fn reloader() -> (TempDir, Reloader) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("upstream"), "sk-1").expect("written");
        let path = folder.path().join("dashgate.toml");
        fs::write(&path, GOOD).expect("written");
        let (files, loaded) = Config::load_with_files(&path);
        let loaded = loaded.expect("a configuration");
        let store = Store::open(&folder.path().join("store.db")).expect("a store");
        let (shared, _) = Shared::load(&loaded.config, store).expect("loaded");
        (folder, Reloader::new(files, &loaded, shared).expect("a file"))
    }

    fn counts(reloader: &Reloader) -> (u64, u64) {
        let Counts { ok, rejected, hash: _ } = &*reloader.counts;
        (ok.load(Ordering::Relaxed), rejected.load(Ordering::Relaxed))
    }

    #[test]
    fn what_changed_is_loaded_when_it_has_settled_and_once() {
        let (folder, mut reloader) = reloader();
        reloader.check();
        for (name, text, expected) in [
            ("dashgate.toml", "", (0, 1)),
            ("dashgate.toml", GOOD, (1, 1)),
            ("upstream", "sk-2", (2, 1)),
            ("upstream", "sk 3", (2, 2)),
            ("upstream", "sk-4", (3, 2)),
        ] {
            let before = counts(&reloader);
            fs::write(folder.path().join(name), "[[ half of it").expect("written");
            reloader.check();
            fs::write(folder.path().join(name), text).expect("written");
            reloader.check();
            assert_eq!(counts(&reloader), before, "it was still being written");
            for _ in 0..3 {
                reloader.check();
                assert_eq!(counts(&reloader), expected, "{name}: {text}");
            }
        }
        assert_eq!(reloader.config.accounts[0].keys[0].expose(), "sk-4");
    }

    #[test]
    fn the_same_bytes_are_no_news() {
        let (folder, mut reloader) = reloader();
        for _ in 0..2 {
            let path = folder.path().join("dashgate.toml");
            fs::write(folder.path().join("new"), GOOD).expect("written");
            fs::rename(folder.path().join("new"), path).expect("renamed");
            (0..3).for_each(|_| reloader.check());
        }
        assert_eq!(counts(&reloader), (0, 0));
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_is_no_fault() {
        let (folder, mut reloader) = reloader();
        let path = folder.path().join("upstream");
        fs::remove_file(&path).expect("removed");
        reloader.check();
        fs::write(&path, "sk-1").expect("written");
        (0..3).for_each(|_| reloader.check());
        assert_eq!(counts(&reloader), (0, 0));
        fs::remove_file(&path).expect("removed");
        (0..3).for_each(|_| reloader.check());
        assert_eq!(counts(&reloader), (0, 1));
    }
}
