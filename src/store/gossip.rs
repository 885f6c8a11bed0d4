//! Gossip: what replicas tell each other often, and may lose.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::doubt_report::DoubtReport;
use super::limit_use::LimitReport;
use super::replica::Replica;
use crate::dashscope::task::Status;

/// One piece of gossip. A piece that takes more than [`MOST_GOSSIP_BYTES`] as JSON is not sent. A replica of another version
/// ignores what it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gossip {
    /// Tasks of an account of which the sender's clients want news. The account's leader asks for them.
    Wanted {
        account: Arc<str>,
        /// A poll is held for each of them.
        #[serde(default)]
        held: Vec<Arc<str>>,
        #[serde(default)]
        polled: Vec<Arc<str>>,
    },
    /// Statuses that the account's leader knows of tasks that others want, each with its age in milliseconds. Ends come
    /// with the log.
    Known { account: Arc<str>, tasks: Vec<(Arc<str>, Status, u64)> },
    /// Queries of the account that the sender, who does not lead it, has sent for its clients.
    Asked { account: Arc<str>, queries: u32 },
    /// Use of the limits of some callers.
    Limits(LimitReport),
    /// The database has all that the sender told its clients. The exchange keeps this piece to itself.
    Settled,
    /// The answer to a submit to the account was lost.
    LostSubmit { account: Arc<str> },
    /// Asks each replica for its submits that are in doubt, as far as they were sent before `sent_before`.
    AskDoubts { question: u64, sent_before: SystemTime },
    /// The answer to such a question, or a part of it.
    Doubts(DoubtReport),
}

/// Takes in what other replicas tell. Called on the thread of the exchange, and so must not wait.
pub trait GossipListener: Send + Sync {
    /// Takes in a message of another replica; a heartbeat is empty.
    fn hear(&self, from: Replica, gossip: &[Gossip]);
}

/// The limit of PostgreSQL for a message is 8,000 bytes; the number of the replica and a line's end are in it too.
pub const MOST_GOSSIP_BYTES: usize = 7_900;
