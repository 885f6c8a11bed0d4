//! Rotation: a new secret for a key that was made at run time. The old secret works for a while beside it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::key::MintedKey;
use super::keyring::IssuedKey;
use crate::store::{Change, KeyRecord};

/// A new secret of a key, not yet stored.
#[derive(Debug)]
pub struct Rotation {
    pub secret: MintedKey,
    /// The change that brings it.
    pub change: Change,
    /// End of the key, whatever its secret.
    pub expires: Option<SystemTime>,
    /// Until then the old secret works.
    pub old_until: SystemTime,
}

impl Rotation {
    /// `tenant`: the name that the key's tenant has now.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn of(
        key: &IssuedKey,
        tenant: &Arc<str>,
        grace: Duration,
        now: SystemTime,
    ) -> Result<Self, getrandom::Error> {
        let secret = MintedKey::mint()?;
        let old_until = if grace.is_zero() { now } else { whole_second(now + grace) };
        let expires = key.ends().moment();
        let successor = KeyRecord {
            id: (&*key.id).into(),
            tenant: Arc::clone(tenant),
            sha256: secret.digest(),
            created_at: now,
            expires,
            revoked_at: None,
            retires_at: None,
            details: key.details(),
        };
        let change = Change::RotateKey { successor, old_until };
        let old_until = expires.map_or(old_until, |expires| expires.min(old_until));
        Ok(Self { secret, change, expires, old_until })
    }
}

/// The time for which an old secret works on, as a caller writes it; `None` if it can't be read or is too long.
pub fn grace(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|grace| *grace <= MOST_GRACE)
}

/// Rounds up to a whole second, so that a key lives at least as long as was asked.
pub fn whole_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let more = u64::from(since.subsec_nanos() > 0);
    UNIX_EPOCH + Duration::from_secs(since.as_secs() + more)
}

/// The grace where a caller names none.
pub const USUAL_GRACE: Duration = Duration::from_secs(24 * 3600);
const MOST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_may_be_nothing_and_not_for_ever() {
        assert_eq!(grace("0s"), Some(Duration::ZERO));
        for wrong in ["", "1", "366d", "-1h"] {
            assert!(grace(wrong).is_none(), "{wrong}");
        }
    }
}
