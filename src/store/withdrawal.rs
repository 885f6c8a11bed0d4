//! Withdrawal of a change: its caller can take the change back until the writer takes it. From then on the caller waits
//! for the outcome. A caller that gives up has the writer undo the change, should it have been made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Change, KeyRecord};

/// Stage of one change, shared by its caller and the writer.
#[derive(Debug, Clone, Default)]
pub(super) struct ChangeStage(Arc<AtomicU8>);

/// Truth about a change when its caller gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// The change was not made, and will not be.
    Withdrawn,
    /// The writer is making the change, and undoes it then.
    Unclear,
    /// The change has an outcome, which is on its way.
    Ended,
}

impl ChangeStage {
    /// Takes the change for a commit; false if its caller has withdrawn it.
    pub(super) fn take(&self) -> bool {
        self.0.compare_exchange(QUEUED, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Puts the change back after a commit that failed.
    pub(super) fn put_back(&self) {
        // A change that was withdrawn meanwhile stays so.
        let _ = self.0.compare_exchange(TAKEN, QUEUED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Ends the change, which has an outcome; false if its caller has given up, so that it must be undone.
    pub(super) fn end(&self) -> bool {
        self.0.compare_exchange(TAKEN, ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    #[cfg(test)]
    pub(super) fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire) == TAKEN
    }

    /// Takes the change back; false if the writer has taken it.
    pub(super) fn withdraw(&self) -> bool {
        self.0.compare_exchange(QUEUED, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Waits no longer for the outcome.
    pub(super) fn give_up(&self) -> GivenUp {
        let withdrawn = |stage| (stage != ENDED).then_some(WITHDRAWN);
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, withdrawn) {
            Ok(TAKEN) => GivenUp::Unclear,
            Ok(_) => GivenUp::Withdrawn,
            Err(_) => GivenUp::Ended,
        }
    }
}

/// A change whose caller waits for its outcome. Dropped without one, as at a stop, it gives the change up: nobody has
/// seen its secret.
#[derive(Debug)]
pub(super) struct AwaitedChange {
    pub(super) stage: ChangeStage,
    pub(super) key_id: Arc<str>,
    pub(super) has_outcome: bool,
}

impl AwaitedChange {
    pub(super) fn new(key_id: Arc<str>) -> Self {
        Self { stage: ChangeStage::default(), key_id, has_outcome: false }
    }
}

impl Drop for AwaitedChange {
    fn drop(&mut self) {
        if !self.has_outcome && self.stage.give_up() == GivenUp::Ended {
            tracing::error!(
                key_id = &*self.key_id,
                "a change of this key was made, and its caller was not told"
            );
        }
    }
}

/// Part of a change that its caller may take back: how far it is, and what undoes it.
#[derive(Debug)]
pub(super) struct Withdrawable {
    pub(super) stage: ChangeStage,
    /// Older secrets of the key with their retirements, before the change.
    pub(super) retirements: Vec<([u8; 32], Option<i64>)>,
}

impl Withdrawable {
    pub(super) fn new(stage: ChangeStage) -> Self {
        Self { stage, retirements: Vec::new() }
    }
}

/// A committed change whose caller has given up.
#[derive(Debug, Clone)]
pub(super) struct KeyUndo {
    pub(super) key_id: Arc<str>,
    pub(super) secret: [u8; 32],
    pub(super) retirements: Vec<([u8; 32], Option<i64>)>,
}

impl KeyUndo {
    /// Undoes a change that brings a secret; `None` for any other.
    pub(super) fn of(change: &Change, retirements: Vec<([u8; 32], Option<i64>)>) -> Option<Self> {
        let undo = |key: &KeyRecord| Self { key_id: Arc::clone(&key.id), secret: key.sha256, retirements };
        match change {
            Change::CreateKey(key) | Change::RotateKey { successor: key, .. } => Some(undo(key)),
            Change::Claim { .. }
            | Change::Reserve(_)
            | Change::Free { .. }
            | Change::LoseHold { .. }
            | Change::Begin(_)
            | Change::Release(_)
            | Change::Lose(_)
            | Change::Adopt(_)
            | Change::Settle { .. }
            | Change::Enter(_)
            | Change::Deliver(_)
            | Change::Hide { .. }
            | Change::KeepUpload { .. }
            | Change::RevokeKey { .. }
            | Change::PutTenant(_)
            | Change::NoteUses(_)
            | Change::KeepSecret { .. }
            | Change::ChangeKey { .. }
            | Change::Rename { .. }
            | Change::Audit(_) => None,
        }
    }
}

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const ENDED: u8 = 2;
const WITHDRAWN: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_withdrawn_until_it_is_taken() {
        let stage = ChangeStage::default();
        assert!(stage.withdraw() && !stage.take());
        let stage = ChangeStage::default();
        assert!(stage.take() && !stage.withdraw());
        assert!(stage.end());
        assert_eq!(stage.give_up(), GivenUp::Ended);
    }

    #[test]
    fn a_change_that_failed_to_be_written_can_be_withdrawn_again() {
        let stage = ChangeStage::default();
        assert!(stage.take());
        stage.put_back();
        assert!(stage.withdraw() && !stage.take());
    }

    #[test]
    fn a_change_whose_caller_gave_up_is_to_be_undone() {
        let stage = ChangeStage::default();
        assert!(stage.take());
        assert_eq!(stage.give_up(), GivenUp::Unclear);
        assert!(!stage.end());
        stage.put_back();
        assert!(!stage.take());
        assert_eq!(ChangeStage::default().give_up(), GivenUp::Withdrawn);
    }
}
