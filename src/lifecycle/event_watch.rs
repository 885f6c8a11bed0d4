//! Watch over events that are no task's end, for tenants with webhooks: budgets and prepaid balances that run out, and keys
//! that expire soon. The store tells each event once, whoever else sees it, and after a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::budget_watch::LOW;
use crate::proxy::Shared;
use crate::store::{Announcement, BudgetEvent, Change, DeliveryChange, TenantEvent};
use crate::tenant::directory::{Directory, Tenant};
use crate::tenant::keyring::KeyEnd;
use crate::usage::Amount;

/// Events that this process has told the store of, each until it is over.
#[derive(Debug)]
pub(super) struct EventWatch {
    told: HashMap<Box<str>, SystemTime>,
    next_look_at_keys: Instant,
}

impl EventWatch {
    pub(super) fn new(now: Instant) -> Self {
        Self { told: HashMap::new(), next_look_at_keys: now }
    }

    /// Tells the store of what has come up since the last look.
    pub(super) fn look(&mut self, shared: &Shared, clock: SystemTime, now: Instant) {
        let directory = shared.directory.load();
        let has_webhooks = |tenant: &&Tenant| !tenant.webhooks.endpoints.is_empty();
        let mut found: Vec<Announcement> = Vec::new();
        for tenant in directory.tenants().iter().filter(has_webhooks) {
            found.extend(budgets(shared, tenant, clock));
        }
        if now >= self.next_look_at_keys && directory.tenants().iter().any(|tenant| has_webhooks(&tenant)) {
            self.next_look_at_keys = now + KEY_PERIOD;
            self.told.retain(|_, until| *until > clock);
            found.extend(keys(shared, &directory, clock));
        }
        found.retain(|announcement| !self.told.contains_key(&announcement.name));
        // The others are found again at the next look.
        for announcement in found.into_iter().take(MOST_AT_ONCE) {
            self.told.insert(announcement.name.clone(), announcement.until);
            shared.store.defer(Change::Deliver(DeliveryChange::Announce(announcement)));
        }
    }
}

/// Levels of a tenant's budgets and of its balance that are passed.
fn budgets(shared: &Shared, tenant: &Tenant, now: SystemTime) -> Vec<Announcement> {
    let mut passed = Vec::new();
    let mut note = |event: BudgetEvent, until: SystemTime| {
        let level = if event.is_spent { "spent" } else { "warning" };
        let (name, period, amount) = (&tenant.name, &event.period, event.amount.nanos());
        let end = event.renews_at.map(since_1970);
        passed.push(Announcement {
            name: format!("budget.{level} {name} {period} {amount} {end:?}").into(),
            until,
            tenant: Arc::clone(&tenant.name),
            event: TenantEvent::Budget(event),
        });
    };
    for standing in shared.budgets(tenant, now) {
        let used = standing.used_ratio();
        // A budget that is used up at once has passed both levels.
        for (_, is_spent) in [(LOW, false), (1.0, true)].into_iter().filter(|(level, _)| used >= *level) {
            let event = BudgetEvent {
                is_spent,
                period: standing.period.label().into(),
                amount: standing.amount,
                spent: standing.spent,
                held: standing.held,
                renews_at: standing.renews_at,
                at: now,
            };
            note(event, standing.renews_at.unwrap_or(now + FOREVER) + DAY);
        }
    }
    if let Some(standing) = shared.prepaid(tenant).filter(|standing| standing.balance() <= Amount::ZERO) {
        let event = BudgetEvent {
            is_spent: true,
            period: "prepaid".into(),
            amount: standing.credits,
            spent: standing.total_spent(),
            held: standing.held,
            renews_at: None,
            at: now,
        };
        note(event, now + FOREVER);
    }
    passed
}

/// Keys that expire soon, those of the configuration and those made at run time.
fn keys(shared: &Shared, directory: &Directory, now: SystemTime) -> Vec<Announcement> {
    let mut soon = Vec::new();
    let mut note = |id: &str, tenant: Option<&Tenant>, expires: SystemTime, notice: Duration| {
        let left = expires.duration_since(now).ok();
        let Some(tenant) = tenant.filter(|_| left.is_some_and(|left| left <= notice)) else { return };
        if tenant.webhooks.endpoints.is_empty() {
            return;
        }
        soon.push(Announcement {
            name: format!("key.expiring {id} {}", since_1970(expires)).into(),
            until: expires + DAY,
            tenant: Arc::clone(&tenant.name),
            event: TenantEvent::KeyExpiring { key_id: id.into(), expires, at: now },
        });
    };
    for (key, tenant) in directory.keys() {
        if let Some(expires) = key.expires {
            note(&key.id, Some(tenant), expires, NOTICE);
        }
    }
    shared.keyring.each(|key| {
        if let KeyEnd::At(expires) = key.ends() {
            // A key of a short life is no news from its first day on.
            let life = expires.duration_since(key.created()).unwrap_or_default();
            note(&key.id, directory.tenant(&key.tenant), expires, NOTICE.min(life / 4));
        }
    });
    soon
}

fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Time between two looks at all keys: a million takes some 50 ms.
const KEY_PERIOD: Duration = Duration::from_secs(60);
/// Longest time before a key's end at which its tenant is told.
const NOTICE: Duration = Duration::from_secs(7 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Time for which an event is remembered that can't come again.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Events that one look tells the store of.
const MOST_AT_ONCE: usize = 1_000;
