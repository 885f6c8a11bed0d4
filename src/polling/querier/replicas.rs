//! The querier's part among other replicas: it keeps the leases of accounts, gossips, and reads answers from the store.

use std::convert::Infallible;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hyper::header::HeaderValue;
use tokio::time::{sleep, sleep_until};

use super::Querier;
use crate::dashscope::headers::COST;
use crate::dashscope::task::NamedTask;
use crate::polling::lease::{Lease, LeaseStep};
use crate::polling::{AccountPoller, TaskAnswer, TrackedTask, end_answer};
use crate::store::{Replica, Store};

impl Querier {
    fn shared_store(&self) -> Option<Store> {
        self.hub.task_index().shared_store().cloned()
    }

    /// Takes and keeps the lease of an account, if it can be had. A process that drains gives it back.
    pub(super) async fn lead(self: Rc<Self>, poller: Arc<AccountPoller>) -> Infallible {
        let Some((store, me)) =
            self.shared_store().and_then(|store| Some((store.clone(), store.exchange().replica()?)))
        else {
            return pending().await;
        };
        let (exchange, account) = (store.exchange(), &**poller.account());
        let cell = format!("leader/{account}");
        let mut lease = Lease::new(me, exchange.starts_alone(), Instant::now());
        let (mut has_led, mut was_leader) = (false, false);
        loop {
            let now = Instant::now();
            if !poller.is_configured() || self.hub.released.is_cancelled() {
                let held = lease.give_back(now);
                poller.set_lease(None, now);
                if let Some(seen) = held {
                    // Without an answer the lease ends by itself.
                    let _ = exchange.swap(&cell, seen, Bytes::new()).await;
                }
                note_leader(account, &mut has_led, false);
                sleep(LOOK_AGAIN).await;
                continue;
            }
            let (step, at) = lease.next();
            tokio::select! {
                () = sleep_until(at.into()) => {}
                () = self.hub.released.cancelled() => continue,
            }
            let asked = Instant::now();
            match step {
                LeaseStep::Read => match exchange.cell(&cell).await {
                    Ok(read) => lease.take_read(&read, Instant::now()),
                    Err(_) => lease.failed(Instant::now()),
                },
                LeaseStep::Swap(seen) => match exchange.swap(&cell, seen, name(me)).await {
                    Ok(swap) => lease.take_swap(&swap, asked, Instant::now()),
                    Err(_) => lease.failed(Instant::now()),
                },
            }
            let (now, held) = (Instant::now(), lease.held());
            if held.is_some() && !has_led && std::mem::replace(&mut was_leader, true) {
                self.hub.note_cut_off(SystemTime::now());
            }
            poller.set_lease(held, now);
            note_leader(account, &mut has_led, held.is_some_and(|held| now < held.until));
        }
    }

    /// Tells other replicas what clients here want, and what this replica knows.
    pub(super) async fn gossip(self: Rc<Self>, poller: Arc<AccountPoller>) -> Infallible {
        let Some(store) = self.shared_store() else { return pending().await };
        loop {
            let max_age = self.directory.load().settings.poll.max_age;
            for piece in self.hub.take_gossip(&poller, max_age, Instant::now()) {
                store.gossip(&piece);
            }
            // News that comes meanwhile goes with it.
            sleep(GATHERED).await;
            let next = poller.elsewhere.lock().next_told();
            let again = async {
                match next {
                    Some(next) => sleep_until(next.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = poller.signals.gossip.notified() => {}
                () = again => {}
            }
        }
    }

    /// Reads the answer of a task that has ended from the store, or keeps it there again.
    pub(super) async fn fetch(self: Rc<Self>, task: Arc<TrackedTask>) {
        let Some(store) = self.shared_store() else { return };
        if task.is_final() {
            let named = NamedTask { task_id: task.id().into(), status: task.status(), ended: None };
            self.keep_end(&task, &named, task.answer().as_deref(), None, SystemTime::now()).await;
            return self.hub.tell_elsewhere(&task, Instant::now());
        }
        match store.exchange().end_answer(&task.id()).await {
            Ok(found) => self.hub.take_end_answer(&task, found, Instant::now()),
            Err(_) => {
                sleep(AFTER_FAULT).await;
                self.hub.end_answer_failed(&task);
            }
        }
    }

    /// Keeps the answer that tells a task's end, with what the task costs, for other replicas. The first one stays.
    pub(super) async fn keep_end(
        &self,
        task: &TrackedTask,
        named: &NamedTask,
        answer: Option<&TaskAnswer>,
        cost: Option<&HeaderValue>,
        now: SystemTime,
    ) {
        let Some(store) = self.shared_store().filter(|_| named.status.is_final()) else { return };
        let mut answer = answer.cloned();
        if let Some((answer, cost)) = answer.as_mut().zip(cost) {
            answer.headers.insert(COST, cost.clone());
        }
        let kept = end_answer::kept(answer.as_ref(), named.status, now);
        if let Err(fault) = store.exchange().keep_end_answer(&task.id(), &kept).await {
            tracing::debug!(task_id = &*task.id(), %fault, "the answer of a task is not kept for other replicas");
        }
    }
}

fn name(replica: Replica) -> Bytes {
    replica.to_string().into()
}

fn note_leader(account: &str, has_led: &mut bool, leads: bool) {
    if std::mem::replace(has_led, leads) == leads {
        return;
    }
    if leads {
        tracing::info!(account, "this replica leads the account: it asks for the account's tasks");
    } else {
        tracing::info!(account, "this replica leads the account no longer");
    }
}

/// Time between two looks while an account is not to be led.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Gossip of this time goes together.
const GATHERED: Duration = Duration::from_millis(20);
const AFTER_FAULT: Duration = Duration::from_millis(250);
