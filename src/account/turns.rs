//! Whose turn it is: a line for each tenant, and of those that wait, each gets its share by weight, however many
//! of the others wait. Start-time fair queueing: what a tenant is given moves its next turn back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

/// What waits, by tenant.
#[derive(Debug)]
pub(super) struct Turns<T> {
    lines: HashMap<Arc<str>, Line<T>, RandomState>,
    waiting: usize,
    number: u64,
    /// In virtual time, as all turns: the latest that was given.
    given: u64,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<(u64, T)>,
    weight: u32,
    /// From when on the first of it counts, in virtual time.
    begins: u64,
    /// What the last one was told that was refused.
    promised: Option<Instant>,
}

/// Nobody's line is longer than one's own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { lines: HashMap::default(), waiting: 0, number: 0, given: 0 }
    }
}

impl<T> Turns<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Takes a place at the end of the tenant's line, and says its number. Where all places are taken, the last
    /// one of the longest line is put out for it.
    ///
    /// # Errors
    /// [`Full`] if that would be one's own.
    pub(super) fn push(
        &mut self,
        tenant: &Arc<str>,
        weight: u32,
        item: T,
        now: Instant,
    ) -> Result<(u64, Option<T>), Full> {
        let out = if self.waiting < MOST_WAITING { None } else { Some(self.put_out(tenant, weight)?) };
        self.number += 1;
        let number = self.number;
        let given = self.given;
        let line = self.line(tenant, weight, now);
        if line.waiting.is_empty() {
            line.begins = line.begins.max(given);
        }
        line.waiting.push_back((number, item));
        self.waiting += 1;
        Ok((number, out))
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<T> {
        let waiting = self.lines.values_mut().filter(|line| !line.waiting.is_empty());
        let line =
            waiting.min_by_key(|line| (line.turn(1), line.waiting.front().map(|(number, _)| *number)))?;
        self.given = self.given.max(line.begins);
        line.begins = line.turn(1);
        self.waiting -= 1;
        line.waiting.pop_front().map(|(_, item)| item)
    }

    /// Gives a place up; it costs its tenant no turn.
    pub(super) fn remove(&mut self, tenant: &str, number: u64) -> Option<T> {
        let line = self.lines.get_mut(tenant)?;
        let at = line.waiting.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.waiting -= 1;
        line.waiting.remove(at).map(|(_, item)| item)
    }

    /// How many would have their turn before one of this tenant that came now.
    pub(super) fn before(&self, tenant: &str, weight: u32) -> usize {
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

    /// When one that is refused may come again: at its turn as it looks now, but a share of the time later than
    /// the one that was refused before it, so that they do not all come at once.
    pub(super) fn promise(
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
        let promised = turn.max(after.min(now + LATEST));
        line.promised = Some(promised);
        promised
    }

    fn line(&mut self, tenant: &Arc<str>, weight: u32, now: Instant) -> &mut Line<T> {
        if self.lines.len() >= MOST_LINES {
            let given = self.given;
            self.lines.retain(|_, line| line.is_of_use(given, now));
            // Past so many, one that was just served may be so again.
            if self.lines.len() >= MOST_LINES {
                self.lines.retain(|_, line| !line.waiting.is_empty());
            }
        }
        let new = || Line { waiting: VecDeque::new(), weight, begins: 0, promised: None };
        let line = self.lines.entry(Arc::clone(tenant)).or_insert_with(new);
        line.weight = weight;
        line
    }

    fn put_out(&mut self, tenant: &str, weight: u32) -> Result<T, Full> {
        let own = self.lines.get(tenant).map_or(0, |line| line.waiting.len() as u64);
        let longest = self.lines.values_mut().max_by_key(|line| line.length());
        let longest = longest.filter(|line| line.length() > (own + 1) * step(weight)).ok_or(Full)?;
        let (_, item) = longest.waiting.pop_back().ok_or(Full)?;
        self.waiting -= 1;
        Ok(item)
    }
}

impl<T> Line<T> {
    /// The turn of the first, second...
    fn turn(&self, place: u64) -> u64 {
        self.begins + step(self.weight) * place
    }

    /// In virtual time.
    fn length(&self) -> u64 {
        step(self.weight) * self.waiting.len() as u64
    }

    fn is_of_use(&self, given: u64, now: Instant) -> bool {
        !self.waiting.is_empty() || self.begins > given || self.promised.is_some_and(|at| at > now)
    }
}

/// What one turn costs.
fn step(weight: u32) -> u64 {
    ONE / u64::from(weight.max(1))
}

const ONE: u64 = 1_000_000;
const MOST_WAITING: usize = 1024;
/// Of tenants that wait, were just served, or were told when to come again.
const MOST_LINES: usize = 2 * MOST_WAITING;
/// A rate recovers in about a minute (protocol 6.1), and of those that were refused not all come again.
const LATEST: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
