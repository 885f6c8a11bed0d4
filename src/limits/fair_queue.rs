//! A fair queue: each tenant that waits gets its share by weight, however much the others wait for. Start-time fair
//! queueing (Goyal, Vin, Cheng 1996): each turn that a tenant is given moves its next turn back in virtual time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

/// Waiting items by tenant; those of one tenant are served in the order of their keys.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    lines: HashMap<Arc<str>, TenantLine<K, T>, RandomState>,
    length: usize,
    /// Most items that may wait.
    capacity: usize,
    /// Latest virtual start of a turn that was given.
    given: u64,
    /// Number of lines at which those that are of no use are looked for.
    purge_at: usize,
}

#[derive(Debug)]
struct TenantLine<K, T> {
    waiting: BTreeMap<K, T>,
    /// 0: not known yet.
    weight: u32,
    /// Virtual start of the tenant's next turn.
    begins: u64,
    /// Time that was promised to the tenant's last refused item.
    promised: Option<Instant>,
}

/// The queue is full, and no tenant's line is longer than one's own.
#[derive(Debug, PartialEq, Eq)]
pub struct QueueFull;

impl<K, T> Default for FairQueue<K, T> {
    /// A queue that takes everything.
    fn default() -> Self {
        Self { lines: HashMap::default(), length: 0, capacity: usize::MAX, given: 0, purge_at: MOST_LINES }
    }
}

impl<K: Ord + Copy, T> FairQueue<K, T> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    pub fn length(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds an item to the tenant's line; [`FairQueue::next`] looks a weight of 0 up. In a full queue the item
    /// displaces the last item of the longest line, which is returned.
    ///
    /// # Errors
    /// [`QueueFull`] if the longest line is the tenant's own.
    pub fn push(
        &mut self,
        tenant: &Arc<str>,
        weight: u32,
        key: K,
        item: T,
        now: Instant,
    ) -> Result<Option<T>, QueueFull> {
        let displaced = if self.length < self.capacity { None } else { Some(self.displace(tenant, weight)?) };
        let given = self.given;
        let line = self.line(tenant, weight, now);
        if line.waiting.is_empty() {
            line.begins = line.begins.max(given);
        }
        line.waiting.insert(key, item);
        self.length += 1;
        Ok(displaced)
    }

    /// Gives the next turn to a tenant whose first item is due, and returns that item's key. The item stays until it is
    /// removed. An item whose turn has come, but for which `put_off` says a later key that is not due, gets that key.
    /// `weight` says a tenant's weight, by its name and its last one; it is called when the tenant's first item is due,
    /// and at each turn.
    pub fn next(
        &mut self,
        is_due: impl Fn(&K) -> bool,
        mut put_off: impl FnMut(&K) -> Option<K>,
        weight: impl Fn(&str, u32) -> u32,
    ) -> Option<(Arc<str>, K)> {
        let (given, mut first) = (self.given, None::<((u64, K), Arc<str>)>);
        self.lines.retain(|name, line| {
            while let Some(key) = line.waiting.keys().next().copied().filter(&is_due) {
                if line.weight == 0 {
                    line.weight = weight(name, 0);
                }
                // A line without due items saves no turns up. A line that has some all the time is never more than one
                // turn behind the latest start.
                line.begins = line.begins.max(given.saturating_sub(step(line.weight)));
                let turn = (line.turn(1), key);
                if first.as_ref().is_some_and(|(before, _)| *before <= turn) {
                    break;
                }
                let Some(later) = put_off(&key) else {
                    first = Some((turn, Arc::clone(name)));
                    break;
                };
                let item = line.waiting.remove(&key);
                line.waiting.extend(item.map(|item| (later, item)));
            }
            line.is_of_use(given)
        });
        let ((_, key), name) = first?;
        let line = self.lines.get_mut(&name)?;
        self.given = given.max(line.begins);
        line.weight = weight(&name, line.weight);
        line.begins = line.turn(1);
        Some((name, key))
    }

    /// Removes the item of the next turn, whatever its key.
    pub fn pop(&mut self) -> Option<T> {
        let (tenant, key) = self.next(|_| true, |_| None, |_, weight| weight)?;
        self.remove(&tenant, &key)
    }

    /// Removes an item; that costs its tenant no turn.
    pub fn remove(&mut self, tenant: &str, key: &K) -> Option<T> {
        let line = self.lines.get_mut(tenant)?;
        let item = line.waiting.remove(key)?;
        self.length -= 1;
        if self.length == 0 {
            // A tenant that was just served has nobody to let go first.
            self.lines.retain(|_, line| line.promised.is_some());
        } else if !line.is_of_use(self.given) {
            self.lines.remove(tenant);
        }
        Some(item)
    }

    /// The keys of a tenant's items, in their order.
    pub fn keys(&self, tenant: &str) -> impl Iterator<Item = &K> {
        self.lines.get(tenant).into_iter().flat_map(|line| line.waiting.keys())
    }

    /// The smallest key of all.
    pub fn first_key(&self) -> Option<K> {
        self.lines.values().filter_map(|line| line.waiting.keys().next()).min().copied()
    }

    /// Number of items whose turns would come before that of an item which this tenant adds now.
    pub fn before(&self, tenant: &str, weight: u32) -> usize {
        let own = self.lines.get(tenant);
        let length = own.map_or(0, |line| line.waiting.len());
        let begins = match own {
            Some(line) if length > 0 => line.begins,
            Some(line) => line.begins.max(self.given),
            None => self.given,
        };
        let turn = begins + step(weight) * (length as u64 + 1);
        let others = self.lines.iter().filter(|(name, _)| ***name != *tenant).map(|(_, line)| {
            let turns = turn.saturating_sub(line.begins) / step(line.weight);
            line.waiting.len().min(usize::try_from(turns).unwrap_or(usize::MAX))
        });
        length + others.sum::<usize>()
    }

    /// Time at which a refused item may come again: its turn as it looks now, but a share of the time later than the
    /// tenant's refused item before it, so that they do not all come at once.
    pub fn promise(
        &mut self,
        tenant: &Arc<str>,
        weight: u32,
        turn: Instant,
        interval: Duration,
        now: Instant,
    ) -> Instant {
        let others = self.lines.iter().filter(|(name, line)| **name != *tenant && !line.waiting.is_empty());
        let all: u64 = others.map(|(_, line)| u64::from(line.weight)).sum::<u64>() + u64::from(weight);
        let shares = u32::try_from(all.div_ceil(u64::from(weight.max(1)))).unwrap_or(u32::MAX);
        let line = self.line(tenant, weight, now);
        let after = line.promised.map_or(turn, |before| before + interval.saturating_mul(shares));
        let promised = turn.max(after.min(now + LATEST_PROMISE));
        line.promised = Some(promised);
        promised
    }

    fn line(&mut self, tenant: &Arc<str>, weight: u32, now: Instant) -> &mut TenantLine<K, T> {
        if self.lines.len() >= self.purge_at && !self.lines.contains_key(tenant) {
            // Past so many, a tenant that was just served loses the memory of it. A promise is kept until its time.
            self.lines.retain(|_, line| !line.waiting.is_empty() || line.promised.is_some_and(|at| at > now));
            self.purge_at = MOST_LINES.max(2 * self.lines.len());
        }
        let new = || TenantLine { waiting: BTreeMap::new(), weight, begins: 0, promised: None };
        let line = self.lines.entry(Arc::clone(tenant)).or_insert_with(new);
        line.weight = if weight > 0 { weight } else { line.weight };
        line
    }

    fn displace(&mut self, tenant: &str, weight: u32) -> Result<T, QueueFull> {
        let own = self.lines.get(tenant).map_or(0, |line| line.waiting.len() as u64);
        let longest = self.lines.values_mut().max_by_key(|line| line.length());
        let longest = longest.filter(|line| line.length() > (own + 1) * step(weight)).ok_or(QueueFull)?;
        let (_, item) = longest.waiting.pop_last().ok_or(QueueFull)?;
        self.length -= 1;
        Ok(item)
    }
}

impl<K, T> TenantLine<K, T> {
    /// Virtual end of the first, second... turn from now on.
    fn turn(&self, number: u64) -> u64 {
        self.begins + step(self.weight) * number
    }

    /// Length in virtual time.
    fn length(&self) -> u64 {
        step(self.weight) * self.waiting.len() as u64
    }

    fn is_of_use(&self, given: u64) -> bool {
        !self.waiting.is_empty() || self.begins > given || self.promised.is_some()
    }
}

/// Virtual time that one turn takes.
fn step(weight: u32) -> u64 {
    ONE / u64::from(weight.max(1))
}

const ONE: u64 = 1_000_000;
/// Lines of tenants that wait, were just served, or were promised a time. Beyond, those who were just served are
/// forgotten whenever the lines have doubled.
const MOST_LINES: usize = 2048;
/// A rate recovers in about a minute (protocol 6.1), and not all refused submits come again.
const LATEST_PROMISE: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "fair_queue_tests.rs"]
mod tests;
