//! Fields of a task's record that change while the index, the poll hub and the store hold the record.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

use crate::dashscope::task::Status;

/// Last known status of a task: the only copy of it in memory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "Status", into = "Status")]
pub struct SharedStatus(AtomicU8);

impl SharedStatus {
    pub fn get(&self) -> Status {
        STATUSES[usize::from(self.0.load(Ordering::Acquire))]
    }

    /// Sets the status, and returns true if that changed it. A final status stays.
    pub fn advance(&self, status: Status) -> bool {
        let changes = |before: u8| {
            let is_final = STATUSES[usize::from(before)].is_final();
            (before != status as u8 && !is_final).then_some(status as u8)
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, changes).is_ok()
    }
}

/// A field that is set once.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub struct SharedFlag(AtomicBool);

impl SharedFlag {
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl From<Status> for SharedStatus {
    fn from(status: Status) -> Self {
        Self(AtomicU8::new(status as u8))
    }
}

impl From<SharedStatus> for Status {
    fn from(status: SharedStatus) -> Self {
        status.get()
    }
}

impl Clone for SharedStatus {
    fn clone(&self) -> Self {
        self.get().into()
    }
}

impl PartialEq for SharedStatus {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for SharedStatus {}

impl From<bool> for SharedFlag {
    fn from(is_set: bool) -> Self {
        Self(AtomicBool::new(is_set))
    }
}

impl From<SharedFlag> for bool {
    fn from(flag: SharedFlag) -> Self {
        flag.get()
    }
}

impl Clone for SharedFlag {
    fn clone(&self) -> Self {
        self.get().into()
    }
}

impl PartialEq for SharedFlag {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for SharedFlag {}

/// All statuses, in the order of their declaration.
const STATUSES: [Status; 8] = [
    Status::Pending,
    Status::Running,
    Status::Suspended,
    Status::Succeeded,
    Status::Failed,
    Status::Canceled,
    Status::Unknown,
    Status::Other,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_was_written_and_a_final_one_stays() {
        for status in STATUSES {
            assert_eq!(SharedStatus::from(status).get(), status);
        }
        let status = SharedStatus::from(Status::Pending);
        assert!(status.advance(Status::Running) && !status.advance(Status::Running));
        assert!(status.advance(Status::Failed) && !status.advance(Status::Running));
        assert_eq!(status.get(), Status::Failed);
    }
}
