//! A field of a task's record that changes while the index, the poll hub and the store hold the record.

use crossbeam_utils::atomic::AtomicCell;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dashscope::task::Status;

/// The only copy of a fact in memory: all holders of the record read its latest value.
#[derive(Debug, Default)]
pub struct SharedField<T: Copy>(AtomicCell<T>);

impl<T: Copy> SharedField<T> {
    pub fn get(&self) -> T {
        self.0.load()
    }

    pub fn set(&self, value: T) {
        self.0.store(value);
    }
}

impl SharedField<bool> {
    /// Sets the field to false, and returns its value before.
    pub fn take(&self) -> bool {
        self.0.swap(false)
    }
}

impl SharedField<Status> {
    /// Sets the status, and returns true if that changed it. A final status stays.
    pub fn advance(&self, status: Status) -> bool {
        let changes = |before: Status| (before != status && !before.is_final()).then_some(status);
        self.0.fetch_update(changes).is_ok()
    }
}

impl<T: Copy> From<T> for SharedField<T> {
    fn from(value: T) -> Self {
        Self(AtomicCell::new(value))
    }
}

impl<T: Copy> Clone for SharedField<T> {
    fn clone(&self) -> Self {
        self.get().into()
    }
}

impl<T: Copy + PartialEq> PartialEq for SharedField<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Copy + Eq> Eq for SharedField<T> {}

impl<T: Copy + Serialize> Serialize for SharedField<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de, T: Copy + Deserialize<'de>> Deserialize<'de> for SharedField<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_status_stays() {
        let status = SharedField::from(Status::Pending);
        assert!(status.advance(Status::Running) && !status.advance(Status::Running));
        assert!(status.advance(Status::Failed) && !status.advance(Status::Running));
        assert_eq!(status.get(), Status::Failed);
    }
}
