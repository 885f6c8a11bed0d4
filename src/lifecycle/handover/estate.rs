//! What a process hands over, and what both keep alike while one drains.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::account::uploads::UploadDirectories;
use crate::polling::hub::PollHub;
use crate::store::{Change, KeyRecord, Store};
use crate::tenant::keyring::{KeyEnd, Keyring, NewKey};

/// All copies are of the same things.
#[derive(Debug, Clone)]
pub struct Estate {
    pub store: Store,
    pub hub: Arc<PollHub>,
    pub keyring: Arc<Keyring>,
    pub uploads: Arc<UploadDirectories>,
    pub sockets: Arc<Mutex<Option<Sockets>>>,
}

/// Copies of the listening sockets, until this process accepts nothing more.
#[derive(Debug)]
pub struct Sockets {
    /// Of clients.
    pub listeners: Vec<TcpListener>,
    /// Of the operator.
    pub admin: Option<TcpListener>,
}

impl Estate {
    /// Takes in a change that the other process made; it is in the store already.
    pub fn take_in(&self, change: &Change) {
        match change {
            Change::Claim(task) => self.hub.adopt(task, Instant::now()),
            Change::Hide { id, claimed_at: _ } => self.hub.task_index().note_hidden(id),
            Change::KeepUpload { upload, .. } => self.uploads.remember(upload.clone()),
            Change::CreateKey(KeyRecord { id, tenant, sha256, created_at, expires, .. }) => {
                if self.keyring.find(sha256).is_none() {
                    let ends = expires.map_or(KeyEnd::Never, KeyEnd::At);
                    let (digest, created) = (*sha256, *created_at);
                    self.keyring.insert(&NewKey { id, tenant, digest, created, ends, retired: false });
                }
            }
            Change::RotateKey { successor, old_until } => {
                // What was read from the store has it already.
                if self.keyring.find(&successor.sha256).is_none() {
                    let now = SystemTime::now();
                    self.keyring.rotate(&successor.id, successor.sha256, *old_until, now);
                }
            }
            Change::RevokeKey { id, .. } => self.keyring.revoke(id),
        }
    }

    /// This process accepts nothing more, and has nothing to hand over.
    pub fn give_up_sockets(&self) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
