//! Secrets that sign browser tokens. All replicas have them, so each takes the tokens of the others.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// A secret that signs browser tokens. It is kept in clear, as a signature can't be checked by a digest of it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSecret {
    /// Random bytes.
    pub bytes: [u8; 32],
    pub made_at: SystemTime,
    /// End of the time in which what it has signed counts beside the signatures of its successor; `None` for the one that
    /// signs.
    pub retires_at: Option<SystemTime>,
}

/// Effect of a new secret on the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EarlierSecrets {
    /// Where there is one, no new one is made.
    Stay,
    /// Tokens that they have signed count for as long as a token lives.
    Retire,
    /// Tokens that they have signed count no more.
    End,
}

impl TokenSecret {
    /// # Errors
    /// The system gives no random bytes.
    pub fn make(now: SystemTime) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self { bytes, made_at: now, retires_at: None })
    }

    /// True if signatures of the secret count at `now`.
    pub fn counts(&self, now: SystemTime) -> bool {
        self.retires_at.is_none_or(|retires_at| now < retires_at)
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Longest life of a browser token, so that no token ends sooner for a new secret.
pub const LONGEST_TOKEN: Duration = Duration::from_secs(1_800);
/// Secrets that are kept, with the one that signs: each makes the check of a token dearer.
pub const MOST_TOKEN_SECRETS: usize = 8;
