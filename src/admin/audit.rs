//! Audit: a line of the log for each change, and for each refused sign-in, with the target `audit`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::problem::Problem;
use super::response::AdminResponse;
use super::token::TokenHolder;

/// One requested change, logged when it is dropped, however it ended.
pub(super) struct AuditEntry {
    action: &'static str,
    peer: SocketAddr,
    holder: TokenHolder,
    /// The key's id, set once the text is known to be an id and not a secret.
    pub key_id: Option<String>,
    /// The tenant, set once the text is known to be a tenant's name.
    pub tenant: Option<String>,
    /// Account and id of a task, set once it is known to be one.
    pub task: Option<String>,
    /// The id of a webhook's delivery, set once it is known to be one.
    pub delivery: Option<String>,
    /// End of the key, or of its old secret.
    pub until: Option<String>,
    /// The label of the entry.
    pub entry: Option<String>,
    pub amount: Option<String>,
    /// Nothing was to be changed.
    pub is_dry_run: bool,
    outcome: &'static str,
    /// The change may have been made all the same.
    is_unclear: bool,
}

impl AuditEntry {
    pub(super) fn new(action: &'static str, peer: SocketAddr, holder: TokenHolder) -> Self {
        Self {
            action,
            peer,
            holder,
            key_id: None,
            tenant: None,
            task: None,
            delivery: None,
            until: None,
            entry: None,
            amount: None,
            is_dry_run: false,
            outcome: "failed inside",
            is_unclear: true,
        }
    }

    /// Sets the outcome, and passes the result on.
    pub(super) fn end(mut self, result: Result<AdminResponse, Problem>) -> Result<AdminResponse, Problem> {
        self.outcome = result.as_ref().map_or_else(Problem::code, |_| "done");
        self.is_unclear = result.as_ref().is_err_and(Problem::is_unclear);
        result
    }
}

impl Drop for AuditEntry {
    fn drop(&mut self) {
        let Self {
            action,
            peer,
            holder,
            key_id,
            tenant,
            task,
            delivery,
            until,
            entry,
            amount,
            is_dry_run,
            outcome,
            is_unclear,
        } = self;
        let (by, token) = (holder.name.as_deref(), &*holder.token);
        let (key_id, tenant, until) = (key_id.as_deref(), tenant.as_deref(), until.as_deref());
        let (task, delivery) = (task.as_deref(), delivery.as_deref());
        let (entry, amount) = (entry.as_deref(), amount.as_deref());
        let told = if *is_dry_run {
            "tried"
        } else if *outcome == "done" {
            "changed"
        } else if *is_unclear {
            "perhaps changed"
        } else {
            "not changed"
        };
        if *outcome == "done" {
            tracing::info!(
                target: "audit", action, key_id, tenant, task, delivery, until, entry, amount, outcome, by, %peer, token, "{told}"
            );
        } else {
            tracing::warn!(
                target: "audit", action, key_id, tenant, task, delivery, until, entry, amount, outcome, by, %peer, token, "{told}"
            );
        }
    }
}

/// Refused sign-ins, by token or certificate: logged while they are few, counted while they are many.
#[derive(Debug)]
pub struct Refusals(RefCell<RefusalWindow>);

#[derive(Debug)]
struct RefusalWindow {
    left: u32,
    since: Option<Instant>,
    silenced: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self(RefCell::new(RefusalWindow { left: MOST_LOGGED, since: None, silenced: 0 }))
    }
}

impl Refusals {
    pub(super) fn log(&self, peer: SocketAddr, problem: &Problem, now: Instant) {
        if self.0.borrow_mut().take(now) {
            tracing::warn!(target: "audit", action = "sign_in", outcome = problem.code(), %peer, "refused");
        }
    }

    /// Logs the number of refusals that were not logged, once a period is over. To be called once a second.
    pub(super) fn log_silenced(&self, now: Instant) {
        let silenced = self.0.borrow_mut().renew(now);
        if silenced > 0 {
            tracing::warn!(target: "audit", action = "sign_in", silenced, "more were refused than are told here");
        }
    }
}

impl RefusalWindow {
    fn take(&mut self, now: Instant) -> bool {
        self.since.get_or_insert(now);
        if self.left == 0 {
            self.silenced += 1;
            return false;
        }
        self.left -= 1;
        true
    }

    /// The number of refusals that were not logged in a period that is over.
    fn renew(&mut self, now: Instant) -> u64 {
        if self.since.is_none_or(|since| now.duration_since(since) < PERIOD) {
            return 0;
        }
        (self.left, self.since) = (MOST_LOGGED, None);
        std::mem::take(&mut self.silenced)
    }
}

/// Refusals logged in one period.
const MOST_LOGGED: u32 = 10;
const PERIOD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_by_its_number() {
        let refusals = Refusals::default();
        let mut window = refusals.0.borrow_mut();
        let began = Instant::now();
        assert_eq!((0..1000).filter(|_| window.take(began)).count(), MOST_LOGGED as usize);
        assert_eq!(window.renew(began + PERIOD / 2), 0);
        let next = began + PERIOD;
        assert_eq!(window.renew(next), 1000 - u64::from(MOST_LOGGED));
        assert_eq!(window.renew(next), 0);
        assert!(window.take(next));
        assert_eq!(window.renew(next + PERIOD), 0, "none was silenced");
    }
}
