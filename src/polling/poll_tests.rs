use std::path::Path;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::super::account_poller::{AccountPoller, NextCall};
use super::super::task_ended::TaskEndSubscribers;
use super::*;
use crate::account::AccountRegistry;
use crate::config::{Config, Rates};
use crate::dashscope::task::{LIFETIME, Status};
use crate::store::TaskRecord;
use crate::tasks::index::TaskIndex;
use crate::telemetry::metrics::Metrics;
use crate::tenant::directory::Directory;

const CONFIG: &str = r#"
    accounts = [{ name = "main", base_url = "https://h", keys = ["sk-1"] }]
    tenants = [{ name = "one", keys = [{ id = "key", key = "0123456789abcdef" }] }]"#;

/// A hub that follows these tasks, and asks nobody: its querier is the test.
fn hub(tasks: impl IntoIterator<Item = TaskRecord>) -> PollHub {
    let config = Config::parse(CONFIG, Path::new("."), &|_| None).expect("a configuration").config;
    let (metrics, index) = (Arc::<Metrics>::default(), Arc::<TaskIndex>::default());
    let directory = Directory::build(&config, &AccountRegistry::new(Instant::now()), &metrics);
    tasks.into_iter().for_each(|task| index.remember(task));
    let ends = TaskEndSubscribers::new(index, metrics, Arc::new(ArcSwap::from_pointee(directory)));
    PollHub::new(ends, mpsc::unbounded_channel().0, Instant::now())
}

fn poller(hub: &PollHub) -> Arc<AccountPoller> {
    let poller = hub.account_poller(&"main".into());
    poller.configure(Some(Rates { query: 100_000, ..Rates::default() }));
    poller
}

const MAX_AGE: Duration = Duration::from_secs(60);

fn tracked(hub: &PollHub, id: &str) -> Arc<TrackedTask> {
    hub.tracked_task(id, "one", Instant::now(), SystemTime::now()).expect("a task")
}

/// After a restart too: a status that is known from the store alone may be as old as its task.
#[tokio::test(start_paused = true)]
async fn an_answer_without_news_is_as_old_as_the_tasks_claim() {
    let hour = Duration::from_secs(3600);
    for status in [Status::Pending, Status::Running] {
        let task = TaskRecord::sample("a", SystemTime::now() - hour);
        let hub = hub([TaskRecord { status: status.into(), ..task }]);
        let polled = hub.poll(&tracked(&hub, "a"), None, Duration::from_secs(2), Instant::now()).await;
        let PollAnswer { age, served, .. } = polled.expect("an answer");
        assert_eq!(served, PollServed::Stale);
        assert!((hour..2 * hour).contains(&age), "{age:?}");
    }
}

#[tokio::test]
async fn nothing_is_asked_of_an_account_that_is_gone_until_it_is_back() {
    let hub = hub([TaskRecord::sample("a", SystemTime::now())]);
    let (poller, later) = (poller(&hub), Instant::now() + Duration::from_secs(100));
    hub.want(&tracked(&hub, "a"), Instant::now());
    poller.configure(None);
    poller.query_news().await;
    assert!(matches!(poller.next_query(MAX_AGE, |_| 1, later), NextCall::Nothing));
    assert_eq!(hub.count(Status::Pending), 0);
    poller.configure(Some(Rates::default()));
    poller.query_news().await;
    assert!(matches!(poller.next_query(MAX_AGE, |_| 1, later), NextCall::Ask(..)));
    assert_eq!(hub.count(Status::Pending), 1);
}

#[tokio::test]
async fn what_no_answer_can_tell_of_is_dropped() {
    for (rates, kept) in [(None, 0), (Some(Rates::default()), 1)] {
        let (hub, hour) = (hub([TaskRecord::sample("a", SystemTime::now())]), Duration::from_secs(3600));
        let (poller, now) = (poller(&hub), Instant::now());
        poller.configure(rates);
        hub.drop_lost_tasks(&poller, now + LIFETIME - hour);
        assert!(hub.known_answer("a").is_some());
        hub.drop_lost_tasks(&poller, now + LIFETIME + hour);
        assert_eq!(hub.known_answer("a").is_some(), kept == 1);
        poller.configure(Some(Rates::default()));
        assert_eq!(hub.count(Status::Pending), kept);
    }
}
