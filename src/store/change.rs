//! Changes of durable state.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::audit_record::AuditRecord;
use super::delivery::{Delivery, DeliveryChange};
use super::hold::{Exhausted, Hold, TakenSlots};
use super::keyed_submit::{EarlierSubmit, FirstAnswer, KeyedSubmit};
use super::lost_submit::{Adoption, LostSubmit};
use super::record::{MOST_ID_BYTES, RequestIds};
use super::tenant_event::EndReport;
use super::{
    EarlierSecrets, Entry, KeyDetails, KeyRecord, KeyUse, TaskRecord, TenantRecord, TokenSecret, UploadRecord,
};
use crate::usage::Terms;

/// One change of durable state; the other process of a hand-over gets it as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    /// Names the owner of a new task. Where an id is claimed twice, the first claim counts: a file takes the second one
    /// too, and a shared store refuses one for another owner. Replayed even if it can't be written: the account pays for
    /// the task, so its client must be able to poll it.
    Claim {
        task: Arc<TaskRecord>,
        /// The answer, where the submit may be repeated.
        answer: Option<Arc<FirstAnswer>>,
        /// The hold of the submit, which becomes the task's.
        #[serde(default)]
        hold: Option<Arc<str>>,
        /// Ids of the submit, by which operators find the task.
        #[serde(default)]
        request: Option<Box<RequestIds>>,
    },
    /// Holds money and a slot for a submit; not made where the tenant's limits leave no room for it.
    Reserve(Arc<Hold>),
    /// Frees the money of a submit that has surely made no task.
    Free { hold: Arc<str>, tenant: Arc<str> },
    /// Notes that the answer to a submit is lost, for which money is held.
    LoseHold { hold: Arc<str>, at: SystemTime },
    /// Begins a submit that may be repeated; an earlier one with its key is told instead.
    Begin(Arc<KeyedSubmit>),
    /// Frees the key of a submit that has surely made no task.
    Release(Arc<KeyedSubmit>),
    /// Notes that the answer to a submit is lost.
    Lose(Arc<LostSubmit>),
    /// Gives a task that no client was told of to a tenant; not made where the task has an owner, or the submit that the
    /// answer is for has an answer or is released.
    Adopt(Arc<Adoption>),
    /// Records the end of a task that was claimed at `entry.submitted_at`, with its entry; not made where the end has an
    /// entry already, or there is no such task. Webhooks are told in the same transaction.
    Settle {
        entry: Arc<Entry>,
        /// Facts that webhooks tell beside the entry. No other process needs them.
        #[serde(skip)]
        report: Option<Arc<EndReport>>,
    },
    /// Writes the entry of a call, a credit or a correction; not made where there is a credit or a correction of its id.
    Enter(Arc<Entry>),
    /// Changes deliveries to webhooks.
    Deliver(DeliveryChange),
    /// Hides a task from the unified dialect; not made where there is no such task.
    Hide { id: Box<str>, claimed_at: SystemTime },
    /// Records the owner of an upload directory.
    KeepUpload {
        upload: UploadRecord,
        /// An older directory of the tenant, which is deleted to make room.
        displaced: Option<Arc<str>>,
    },
    /// Adds a key; not made where the id or the secret exists already.
    CreateKey(KeyRecord),
    /// Adds a secret under the id of a living key of the tenant, whose older secrets work until `old_until`; not made
    /// where there is no such key, or the secret exists already.
    RotateKey { successor: KeyRecord, old_until: SystemTime },
    /// Gives a living key another end and other details; not made where there is no such key. Secrets with a successor end
    /// no later for it.
    ChangeKey { id: Box<str>, expires: Option<SystemTime>, details: Option<Arc<KeyDetails>> },
    /// Revokes all secrets of a key; not made where no living key has the id. Replayed at once, because a leaked key must
    /// not work until a disk answers.
    RevokeKey { id: Box<str>, at: SystemTime },
    /// Makes a tenant, or changes or closes one that was made at run time; not made where the record that stands is not the
    /// predecessor of this one.
    PutTenant(Arc<TenantRecord>),
    /// Adds a secret that signs browser tokens from now on; not made where there is one that is to stay, or one that was not
    /// made before this one.
    KeepSecret { secret: TokenSecret, earlier: EarlierSecrets },
    /// Notes when keys were used last; a later use that stands already stays.
    NoteUses(Arc<[KeyUse]>),
    /// Gives all that a tenant has to its new name; not made where the former name leads elsewhere already, or the new name
    /// is a former name of another tenant.
    Rename { former: Arc<str>, name: Arc<str> },
    /// Notes that somebody asked for a change, and how that ended.
    Audit(Arc<AuditRecord>),
}

/// Outcome of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The change is durable.
    Made,
    /// What stands in the store does not allow the change, and nothing was changed.
    NotMade,
    /// An earlier submit has the key, and nothing was changed.
    Earlier(Arc<EarlierSubmit>),
    /// The limit that leaves no room; nothing was changed.
    Exhausted(Exhausted),
    /// The limit of tasks in flight that is reached; nothing was changed.
    NoSlot(TakenSlots),
    /// The deliveries that were leased.
    Leased(Vec<Delivery>),
}

/// When a change is replayed in the process that makes it. Other processes replay what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replayed {
    /// Before it is written.
    AtOnce,
    /// Once it is written.
    WhenWritten,
    /// After the try to write it, however that ended.
    InAnyCase,
}

impl Outcome {
    /// `Made` if rows were changed.
    pub(super) fn of(is_made: bool) -> Self {
        if is_made { Self::Made } else { Self::NotMade }
    }
}

impl Change {
    /// The tenant whose money the change may move.
    pub(super) fn payer(&self) -> Option<&Arc<str>> {
        match self {
            Self::Settle { entry, report: _ } => Some(&entry.tenant),
            Self::Enter(entry) => entry.charge.amount.is_some().then_some(&entry.tenant),
            Self::Reserve(hold) => Some(&hold.tenant),
            Self::Free { tenant, .. } => Some(tenant),
            Self::Rename { former: _, name } => Some(name),
            Self::Claim { .. }
            | Self::LoseHold { .. }
            | Self::Begin(_)
            | Self::Release(_)
            | Self::Lose(_)
            | Self::Adopt(_)
            | Self::Deliver(_)
            | Self::Hide { .. }
            | Self::KeepUpload { .. }
            | Self::CreateKey(_)
            | Self::RotateKey { .. }
            | Self::RevokeKey { .. }
            | Self::PutTenant(_)
            | Self::ChangeKey { .. }
            | Self::KeepSecret { .. }
            | Self::NoteUses(_)
            | Self::Audit(_) => None,
        }
    }

    /// True for an end without a price, which moves money only where some is held.
    pub(super) fn is_free(&self) -> bool {
        matches!(self, Self::Settle { entry, report: _ } if entry.charge.amount.is_none())
    }

    /// The hold that the change is to make.
    pub(super) fn hold(&self) -> Option<&Hold> {
        if let Self::Reserve(hold) = self { Some(hold) } else { None }
    }

    /// The entry that the change is to write.
    pub(super) fn entry(&self) -> Option<&Entry> {
        if let Self::Enter(entry) | Self::Settle { entry, .. } = self { Some(entry) } else { None }
    }

    /// The prices of the task that the change gives an owner.
    pub(super) fn terms(&self) -> Option<&Terms> {
        let task = if let Self::Claim { task, .. } = self {
            task
        } else if let Self::Adopt(adoption) = self {
            &adoption.task
        } else {
            return None;
        };
        task.facts.terms.as_deref()
    }

    /// True if the change needs the ledger, or the keys, in one order with those of other replicas.
    pub(super) fn is_in_order(&self) -> bool {
        match self {
            Self::Settle { .. }
            | Self::Enter(_)
            | Self::CreateKey(_)
            | Self::RotateKey { .. }
            | Self::RevokeKey { .. }
            | Self::PutTenant(_)
            | Self::ChangeKey { .. }
            | Self::KeepSecret { .. }
            | Self::Rename { .. } => true,
            Self::Claim { .. }
            | Self::Reserve(_)
            | Self::Free { .. }
            | Self::LoseHold { .. }
            | Self::Begin(_)
            | Self::Release(_)
            | Self::Lose(_)
            | Self::Adopt(_)
            | Self::Deliver(_)
            | Self::Hide { .. }
            | Self::KeepUpload { .. }
            | Self::NoteUses(_)
            | Self::Audit(_) => false,
        }
    }

    /// True if mirrors hold a part of the change.
    pub(super) fn is_mirrored(&self) -> bool {
        match self {
            Self::Claim { .. }
            | Self::Adopt(_)
            | Self::Settle { .. }
            | Self::Hide { .. }
            | Self::KeepUpload { .. }
            | Self::CreateKey(_)
            | Self::RotateKey { .. }
            | Self::RevokeKey { .. }
            | Self::PutTenant(_)
            | Self::ChangeKey { .. }
            | Self::KeepSecret { .. }
            | Self::NoteUses(_)
            | Self::Rename { .. } => true,
            Self::Reserve(_)
            | Self::Free { .. }
            | Self::LoseHold { .. }
            | Self::Begin(_)
            | Self::Release(_)
            | Self::Lose(_)
            | Self::Enter(_)
            | Self::Deliver(_)
            | Self::Audit(_) => false,
        }
    }

    /// True if the change gives a tenant another name. No other replica may write under the former name meanwhile.
    pub(super) fn is_rename(&self) -> bool {
        matches!(self, Self::Rename { .. })
    }

    pub(super) fn replayed(&self) -> Replayed {
        match self {
            Self::Hide { .. } | Self::RevokeKey { .. } => Replayed::AtOnce,
            Self::Settle { .. }
            | Self::Enter(_)
            | Self::Reserve(_)
            | Self::Free { .. }
            | Self::LoseHold { .. }
            | Self::Begin(_)
            | Self::Release(_)
            | Self::Lose(_)
            | Self::Adopt(_)
            | Self::Deliver(_)
            | Self::KeepUpload { .. }
            | Self::CreateKey(_)
            | Self::RotateKey { .. }
            | Self::PutTenant(_)
            | Self::ChangeKey { .. }
            | Self::KeepSecret { .. }
            | Self::NoteUses(_)
            | Self::Audit(_)
            | Self::Rename { .. } => Replayed::WhenWritten,
            Self::Claim { .. } => Replayed::InAnyCase,
        }
    }

    /// True if the change is worth its wait for a database that is away; of the rest nothing has happened yet, and whoever
    /// asks for it may come again.
    pub(super) fn outlasts_outage(&self) -> bool {
        match self {
            Self::Deliver(change) => change.outlasts_outage(),
            Self::Begin(_)
            | Self::Reserve(_)
            | Self::KeepUpload { .. }
            | Self::CreateKey(_)
            | Self::RotateKey { .. }
            | Self::PutTenant(_)
            | Self::ChangeKey { .. }
            | Self::KeepSecret { .. }
            | Self::NoteUses(_)
            | Self::Rename { .. } => false,
            Self::Claim { .. }
            | Self::Free { .. }
            | Self::LoseHold { .. }
            | Self::Release(_)
            | Self::Lose(_)
            | Self::Adopt(_)
            | Self::Settle { .. }
            | Self::Enter(_)
            | Self::Hide { .. }
            | Self::RevokeKey { .. }
            | Self::Audit(_) => true,
        }
    }

    /// The id of the key whose new secret the change brings. Such a change is taken back if its caller does not hear of
    /// it: no secret may work that nobody saw.
    pub(super) fn secret_of(&self) -> Option<&Arc<str>> {
        match self {
            Self::CreateKey(key) | Self::RotateKey { successor: key, .. } => Some(&key.id),
            Self::Claim { .. }
            | Self::Reserve(_)
            | Self::Free { .. }
            | Self::LoseHold { .. }
            | Self::Begin(_)
            | Self::Release(_)
            | Self::Lose(_)
            | Self::Adopt(_)
            | Self::Settle { .. }
            | Self::Enter(_)
            | Self::Deliver(_)
            | Self::Hide { .. }
            | Self::KeepUpload { .. }
            | Self::RevokeKey { .. }
            | Self::PutTenant(_)
            | Self::ChangeKey { .. }
            | Self::KeepSecret { .. }
            | Self::NoteUses(_)
            | Self::Audit(_)
            | Self::Rename { .. } => None,
        }
    }

    /// The change as other replicas hear of it: without what stands in the store alone.
    pub(super) fn to_be_logged(&self) -> Self {
        let mut logged = self.clone();
        if let Self::Claim { request, .. } = &mut logged {
            *request = None;
        }
        logged
    }

    /// Cuts what a client chooses to its longest length; false if an id is too long to be stored.
    pub(super) fn fit(&mut self) -> bool {
        match self {
            Self::Adopt(adoption) => {
                if adoption.task.is_long() {
                    Arc::make_mut(&mut Arc::make_mut(adoption).task).shorten();
                }
                adoption.task.id().len() <= MOST_ID_BYTES
            }
            Self::Claim { task, .. } => {
                if task.is_long() {
                    Arc::make_mut(task).shorten();
                }
                task.id().len() <= MOST_ID_BYTES
            }
            Self::Settle { entry, report: _ } | Self::Enter(entry) => {
                if entry.is_long() {
                    Arc::make_mut(entry).shorten();
                }
                true
            }
            Self::KeepUpload { upload, .. } => {
                upload.shorten();
                upload.directory.len() <= MOST_ID_BYTES
            }
            Self::Begin(_)
            | Self::Release(_)
            | Self::Lose(_)
            | Self::Reserve(_)
            | Self::Free { .. }
            | Self::LoseHold { .. }
            | Self::Deliver(_)
            | Self::Hide { .. }
            | Self::CreateKey(_)
            | Self::RotateKey { .. }
            | Self::RevokeKey { .. }
            | Self::PutTenant(_)
            | Self::ChangeKey { .. }
            | Self::KeepSecret { .. }
            | Self::NoteUses(_)
            | Self::Audit(_)
            | Self::Rename { .. } => true,
        }
    }
}
