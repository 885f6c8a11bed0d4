//! The start of a store.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::access::Access;
use super::embedded::engine::EmbeddedEngine;
use super::embedded::file::LockedFile;
use super::engine::Engine;
use super::exchange::Exchange;
use super::fault::{StoreCause, StoreFault, WHAT_IS_REFUSED};
use super::shared::connect::DatabaseAddress;
use super::shared::engine::{EngineSetting, SharedEngine};
use super::shared::kept_commits::WrittenCommit;
use super::shared::readers::Readers;
use super::shared::spool::{Spool, task_of};
use super::shared::{follower, log, schema, writers};
use super::sql::apply::apply;
use super::sql::database::Database;
use super::sql::fault::Result as SqlResult;
use super::sql::ledger::LedgerWriter;
use super::sql::{entry_rows, holds, idempotency, sums};
use super::state::StoreState;
use super::writer::StoreWriter;
use super::{Store, StoreBounds};
use crate::config::{DatabaseUrl, SharedStoreSettings};
use crate::usage::{Period, Zone};

impl Store {
    /// Opens the file or creates it, migrates it to this version, and checks that it can be written. Blocks. On a full
    /// disk a file of this version is opened to be read; it is written as soon as there is space.
    ///
    /// # Errors
    /// The problem with the file, and what to do about it.
    pub fn open(path: &Path) -> Result<Self, StoreFault> {
        Self::open_with(path, StoreBounds::default())
    }

    /// [`Store::open`] with other bounds.
    ///
    /// # Errors
    /// The problem with the file, and what to do about it.
    pub fn open_with(path: &Path, bounds: StoreBounds) -> Result<Self, StoreFault> {
        Self::open_file(path, LockedFile::acquire(path), bounds)
    }

    /// Opens the file beside another process that has it open, with that process's lock. Blocks.
    ///
    /// # Errors
    /// The problem with the file, and what to do about it; also a lock that belongs to another file.
    pub fn inherit(path: &Path, lock: File, bounds: StoreBounds) -> Result<Self, StoreFault> {
        Self::open_file(path, LockedFile::inherit(path, lock), bounds)
    }

    /// [`Store::open_shared`], with a spool beside the database where the settings name one.
    ///
    /// # Errors
    /// The problem with the database or with the file of the spool, and what to do about it.
    pub fn open_replica(
        settings: &SharedStoreSettings,
        replica: &str,
        bounds: StoreBounds,
    ) -> Result<Self, StoreFault> {
        let spool = settings.spool.as_deref().map(|path| {
            Spool::open(path).map_err(|cause| StoreFault { store: path.into(), cause }).map(Arc::new)
        });
        Self::open_database(&settings.url, replica, bounds, spool.transpose()?)
    }

    /// Opens a database that replicas share, and migrates it to this version. `replica` names this one. Blocks.
    ///
    /// # Errors
    /// The problem with the database, and what to do about it.
    pub fn open_shared(url: &DatabaseUrl, replica: &str, bounds: StoreBounds) -> Result<Self, StoreFault> {
        Self::open_database(url, replica, bounds, None)
    }

    fn open_database(
        url: &DatabaseUrl,
        replica: &str,
        bounds: StoreBounds,
        spool: Option<Arc<Spool>>,
    ) -> Result<Self, StoreFault> {
        let path: Arc<Path> = Path::new(&url.to_string()).into();
        let address =
            DatabaseAddress::of(url).map_err(|fault| StoreCause::Unreachable(fault.to_string().into()));
        let opened = address.and_then(|address| Self::run_shared(&address, replica, bounds, spool, &path));
        opened.map_err(|cause| StoreFault { store: path, cause })
    }

    fn open_file(
        path: &Path,
        file: Result<LockedFile, StoreCause>,
        bounds: StoreBounds,
    ) -> Result<Self, StoreFault> {
        let opened = file.and_then(|file| Self::run_embedded(file, bounds));
        opened.map_err(|cause| StoreFault { store: path.into(), cause })
    }

    fn run_embedded(file: LockedFile, bounds: StoreBounds) -> Result<Self, StoreCause> {
        let is_shared = file.is_shared();
        let (path, opening) = (Arc::clone(&file.path), Arc::default());
        let access = Access::Embedded { path: Arc::clone(&path), opening: Arc::clone(&opening) };
        let state = Arc::new(StoreState::new(path, access, Some(file.lock()?)));
        let engine = EmbeddedEngine::open(file, opening)?;
        let mut has_money = false;
        if let Some(database) = engine.database() {
            if !is_shared {
                idempotency::lose_all(database, "TRUE", SystemTime::now())?;
                holds::lose_all(database, "TRUE", SystemTime::now())?;
                recover_sums(database, &state.path)?;
            }
            has_money = read_standings(database, &state, bounds.zone)?;
            state.mirrors.names.set(entry_rows::former_names(database)?);
        } else {
            state.mirrors.names.set(state.access.read(true, entry_rows::former_names)?);
        }
        if !engine.has_reserve() {
            let fault = state.because(StoreCause::Full);
            tracing::error!("{fault}; {WHAT_IS_REFUSED}");
            state.set_fault(fault.cause);
        }
        state.days.start(
            Arc::clone(&state.path),
            bounds.zone,
            bounds.entries_kept,
            Arc::clone(&state.moved),
        )?;
        if has_money && !is_shared {
            compare_sums(Arc::clone(&state), bounds.zone)?;
        }
        Self::start(state, Engine::Embedded(engine), Exchange::local(), bounds)
    }

    fn run_shared(
        address: &DatabaseAddress,
        replica: &str,
        bounds: StoreBounds,
        spool: Option<Arc<Spool>>,
        path: &Arc<Path>,
    ) -> Result<Self, StoreCause> {
        schema::migrate(address)?;
        let readers = Readers::new(address.clone());
        let access = Access::Shared { readers, follower: OnceLock::new(), spool };
        let state = Arc::new(StoreState::new(Arc::clone(path), access, None));
        let setting = EngineSetting {
            followed: Arc::clone(&state.followed),
            zone: bounds.zone,
            closing: state.closing.clone(),
        };
        let mut engine = SharedEngine::open(address.clone(), replica, setting)?;
        let _ = state.replica_name.set(format!("{replica}/{}", engine.writer).trim_start_matches('/').into());
        let zone = bounds.zone;
        if let Some(spool) = state.access.spool() {
            commit_spooled(&mut engine, spool, zone)?;
        }
        let mut look_around = || {
            engine.transact(|database| {
                writers::lock_all_money(database)?;
                writers::lose_of_dead(database, &[], SystemTime::now())?;
                recover_sums(database, path)?;
                state.mirrors.names.set(entry_rows::former_names(database)?);
                let started = (log::positions(database)?, read_standings(database, &state, zone)?);
                Ok((started, WrittenCommit::default()))
            })
        };
        let (positions, has_money) = match look_around() {
            // Another replica's commit has got the locks, and ends by itself.
            Err(StoreCause::Deadlock) => look_around(),
            started => started,
        }?;
        // The mirrors are loaded after this, so that they hold all up to these positions, and perhaps more.
        state.positions.lock().replace(follower::FollowerStart {
            address: address.clone(),
            writer: engine.writer,
            positions,
        });
        if has_money {
            compare_sums(Arc::clone(&state), zone)?;
        }
        let exchange = Exchange::over(address.clone(), engine.writer, engine.starts_alone)?;
        Self::start(state, Engine::Shared(engine), exchange, bounds)
    }

    fn start(
        state: Arc<StoreState>,
        engine: Engine,
        exchange: Exchange,
        bounds: StoreBounds,
    ) -> Result<Self, StoreCause> {
        let (queue, changes) = mpsc::channel(bounds.most_waiting);
        let writer = StoreWriter::new(Arc::clone(&state), engine, exchange.clone(), changes, bounds);
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let (alive, ended) = std::sync::mpsc::channel();
        let work = move || {
            let _alive = alive;
            writer.run(&runtime);
        };
        thread::Builder::new().name("store".to_owned()).spawn(work)?;
        Ok(Self {
            state,
            queue,
            exchange,
            patience: bounds.patience,
            zone: bounds.zone,
            ended: Arc::new(Mutex::new(ended)),
        })
    }
}

/// Commits the claims that an earlier process has left in the spool.
fn commit_spooled(engine: &mut SharedEngine, spool: &Spool, zone: Zone) -> Result<(), StoreCause> {
    let mut ledger = LedgerWriter::new(zone);
    let mut written = Vec::new();
    for claim in spool.claims()? {
        let done = engine.transact(|database| {
            ledger.begin(false);
            apply(database, &mut ledger, &claim, None)?;
            let mut commit = WrittenCommit::default();
            commit.rows.changes.push(claim.clone());
            commit.log.note_changes(&commit.rows.changes);
            Ok(((), commit))
        });
        let task_id = task_of(&claim).unwrap_or_default();
        match done {
            Ok(()) => {
                tracing::info!(task_id = &*task_id, "a task's owner that waited in the spool is recorded")
            }
            Err(cause @ StoreCause::Refused(_)) => {
                ledger.clear();
                tracing::error!(task_id = &*task_id, ?cause, "a task's owner in the spool can't be recorded");
            }
            Err(cause) => return Err(cause),
        }
        written.push(task_id);
    }
    spool.remove(&written);
    Ok(())
}

/// Reads the money of all tenants; false where there is none.
fn read_standings(database: Database<'_>, state: &StoreState, zone: Zone) -> SqlResult<bool> {
    let today = LedgerWriter::new(zone).today(database, state.now())?;
    let tenants = sums::tenants(database)?;
    let has_money = !tenants.is_empty();
    let standings = sums::standings(database, today, &tenants)?;
    state.set_standings(tenants.into_iter().zip(standings).collect());
    Ok(has_money)
}

/// Sets sums right that are not those of their rows.
fn recover_sums(database: Database<'_>, path: &Path) -> SqlResult<()> {
    for tenant in sums::recover(database)? {
        let path = path.display();
        tracing::error!(
            tenant = &*tenant,
            "{path}: the sums of this tenant's money were not those of their rows, and are set right"
        );
    }
    Ok(())
}

/// Compares what the sums of this month say with its entries, on a thread of its own, as a ledger may be large.
fn compare_sums(state: Arc<StoreState>, zone: Zone) -> io::Result<()> {
    let compare = move || {
        let first = Period::Month.days(zone.day(SystemTime::now())).start;
        let differing = state.access.read(false, |database| sums::differing_days(database, zone, first));
        for (tenant, day) in differing.unwrap_or_default() {
            tracing::error!(
                tenant = &*tenant,
                day = zone.date(zone.begins(day)),
                "{}: what the tenant spent on this day is not what its entries add up to",
                state.path.display()
            );
        }
    };
    thread::Builder::new().name("sums".to_owned()).spawn(compare).map(drop)
}
