//! The use of limits as a transaction knows it: the money of tenants, and the slots for tasks. It is read at once, and kept up
//! with what the transaction writes: the submits of a commit, however many, cost two round trips to a database.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::database::Database;
use super::fault::Result;
use super::sums;
use super::value::values;
use crate::dashscope::task;
use crate::store::hold::{Hold, Standing, TakenSlots};
use crate::store::timestamp::milliseconds;
use crate::usage::{Amount, Period};

#[derive(Debug, Default)]
pub(in crate::store) struct KnownUse {
    standings: HashMap<Arc<str>, Standing, RandomState>,
    /// Slots that are taken, by tenant and by key.
    of_tenants: HashMap<Arc<str>, i64, RandomState>,
    of_keys: HashMap<Arc<str>, i64, RandomState>,
    /// Holds that were made from this time on, in milliseconds since 1970, take a slot. DashScope has forgotten the tasks of
    /// older ones.
    since: Option<i64>,
}

impl KnownUse {
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Reads what these holds need, as of a day; at the beginning of a transaction, before it has changed any sum.
    pub(super) fn read<'h>(
        &mut self,
        database: Database<'_>,
        day: i64,
        holds: impl Iterator<Item = &'h Hold> + Clone,
    ) -> Result<()> {
        let limited = holds.clone().filter(|hold| hold.limits.are_some());
        let mut tenants: Vec<Arc<str>> = limited.map(|hold| Arc::clone(&hold.tenant)).collect();
        tenants.sort_unstable();
        tenants.dedup();
        self.read_standings(database, day, &tenants)?;
        // One process counts its tasks itself.
        if database.is_shared() { self.read_slots(database, holds) } else { Ok(()) }
    }

    /// Reads the money of tenants, with what this transaction has written. Sums that it has changed and not written yet are
    /// not in it: the caller writes them before.
    pub(super) fn read_standings(
        &mut self,
        database: Database<'_>,
        day: i64,
        tenants: &[Arc<str>],
    ) -> Result<()> {
        let is_unknown =
            |tenant: &&Arc<str>| self.standings.get(*tenant).is_none_or(|known| known.day != day);
        let unknown: Vec<Arc<str>> = tenants.iter().filter(is_unknown).cloned().collect();
        let read = sums::standings(database, day, &unknown)?;
        self.standings.extend(unknown.into_iter().zip(read));
        Ok(())
    }

    /// The money of a tenant as of a day, where it is known.
    pub(super) fn standing(&self, tenant: &str, day: i64) -> Option<Standing> {
        self.standings.get(tenant).filter(|standing| standing.day == day).copied()
    }

    fn read_slots<'h>(
        &mut self,
        database: Database<'_>,
        holds: impl Iterator<Item = &'h Hold> + Clone,
    ) -> Result<()> {
        let Some(first) = holds.clone().map(|hold| milliseconds(hold.made_at)).min() else { return Ok(()) };
        let since = *self.since.get_or_insert(first.saturating_sub(task::LIFETIME.as_millis() as i64));
        let mut unknown: Vec<(&str, &Arc<str>)> = Vec::new();
        for hold in holds {
            if hold.tasks.key.is_some() && !self.of_keys.contains_key(&hold.key_id) {
                unknown.push((OF_KEY, &hold.key_id));
            }
            if hold.tasks.tenant.is_some() && !self.of_tenants.contains_key(&hold.tenant) {
                unknown.push((OF_TENANT, &hold.tenant));
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        let queries: Vec<_> =
            unknown.iter().map(|(select, name)| (*select, values![*name, since].to_vec())).collect();
        database.read_at_once(&queries, |number, row| {
            let (select, name) = unknown[number];
            let counts = if select == OF_KEY { &mut self.of_keys } else { &mut self.of_tenants };
            counts.insert(Arc::clone(name), row.integer(0)?);
            Ok(())
        })
    }

    /// The limit of tasks in flight that is reached. A submit's hold is a slot too, from before it is sent until its task's
    /// end is settled, or DashScope has forgotten the task. The lock of the tenant's money keeps other replicas from
    /// counting meanwhile.
    pub(super) fn taken_slots(&mut self, database: Database<'_>, hold: &Hold) -> Result<Option<TakenSlots>> {
        if !database.is_shared() {
            return Ok(None);
        }
        self.read_slots(database, std::iter::once(hold))?;
        let taken_of = |most: Option<u32>, taken: Option<&i64>| {
            most.filter(|most| taken.is_none_or(|taken| *taken >= i64::from(*most)))
        };
        let of_key = taken_of(hold.tasks.key, self.of_keys.get(&hold.key_id))
            .map(|most| TakenSlots { is_tenants: false, most });
        let of_tenant = taken_of(hold.tasks.tenant, self.of_tenants.get(&hold.tenant))
            .map(|most| TakenSlots { is_tenants: true, most });
        Ok(of_key.or(of_tenant))
    }

    /// Counts a hold that was made, or, with -1, one that has ended.
    pub(super) fn add_slot(&mut self, tenant: &str, key_id: &str, made_at: i64, count: i64) {
        if self.since.is_some_and(|since| made_at >= since) {
            let counts = [self.of_tenants.get_mut(tenant), self.of_keys.get_mut(key_id)];
            counts.into_iter().flatten().for_each(|taken| *taken += count);
        }
    }

    pub(super) fn add_held(&mut self, tenant: &str, amount: Amount) {
        if let Some(standing) = self.standings.get_mut(tenant) {
            standing.held = standing.held.saturating_add(amount);
        }
    }

    pub(super) fn add_credits(&mut self, tenant: &str, amount: Amount) {
        if let Some(standing) = self.standings.get_mut(tenant) {
            standing.credits = standing.credits.saturating_add(amount);
        }
    }

    pub(super) fn add_spent(&mut self, tenant: &str, day: i64, amount: Amount) {
        if let Some(standing) = self.standings.get_mut(tenant) {
            standing.add_spent(day, amount);
            let total = &mut standing.spent[Period::Total as usize];
            *total = total.saturating_add(amount);
        }
    }
}

const OF_KEY: &str = "SELECT count(*) FROM holds WHERE key_id = ?1 AND made_at >= ?2";
const OF_TENANT: &str = "SELECT count(*) FROM holds WHERE tenant = ?1 AND made_at >= ?2";
