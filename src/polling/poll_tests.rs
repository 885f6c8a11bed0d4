use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::sync::mpsc;

use super::super::account_poller::{AccountPoller, NextCall, TaskEndpoint};
use super::super::hub::QueryOutcome;
use super::super::task_ended::TaskEndSubscribers;
use super::*;
use crate::account::AccountRegistry;
use crate::config::{Config, Rates};
use crate::dashscope::task::{LIFETIME, NamedTask, Status};
use crate::store::{TaskFields, TaskRecord};
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
    let directory =
        Directory::build(&config, &[], &AccountRegistry::new(Instant::now()), &metrics, &Default::default());
    tasks.into_iter().for_each(|task| index.remember(task));
    let ends = TaskEndSubscribers::new(index, metrics, Arc::new(ArcSwap::from_pointee(directory)));
    PollHub::new(ends, mpsc::unbounded_channel().0, Instant::now())
}

fn poller(hub: &PollHub) -> Arc<AccountPoller> {
    let poller = hub.account_poller(&"main".into());
    poller.configure(Some(Rates { query: 100_000, ..Rates::default() }));
    poller
}

/// Ten tasks of the key `a`, and ten of the key `b`.
fn of_two_keys() -> PollHub {
    let task = |key: &str, number: usize| TaskFields {
        key_id: key.into(),
        ..TaskFields::sample(&format!("{key}{number}"), SystemTime::now())
    };
    let hub = hub([]);
    for task in (0..10).flat_map(|number| [task("a", number), task("b", number)]) {
        let id = Arc::clone(&task.id);
        hub.task_index().remember(TaskRecord::from(task));
        // Nobody asks for it within a minute, unless a client wants it.
        tracked(&hub, &id);
    }
    hub
}

/// Asks as the querier does. `asked` gets the ids, and `ended` says which of the tasks have ended.
async fn query(hub: &PollHub, asked: &RefCell<Vec<String>>, ended: impl Fn(&str) -> bool) -> Infallible {
    let poller = poller(hub);
    loop {
        match poller.next_query(MAX_AGE, |_| 1, Instant::now()) {
            NextCall::Ask(task, number) => {
                let now = Instant::now();
                asked.borrow_mut().push(task.id().to_string());
                let status = if ended(&task.id()) { Status::Succeeded } else { Status::Running };
                let named = NamedTask { task_id: task.id().into(), status, ended: None };
                let answer =
                    TaskAnswer { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::new() };
                poller.call_ended(TaskEndpoint::Query, number, now);
                hub.take_outcome(
                    &task,
                    QueryOutcome::Known(named, Some(answer)),
                    now,
                    now,
                    SystemTime::now(),
                );
            }
            NextCall::At(time) => tokio::select! {
                () = tokio::time::sleep_until(time.into()) => {}
                () = poller.query_news() => {}
            },
            NextCall::Nothing => poller.query_news().await,
        }
    }
}

const MAX_AGE: Duration = Duration::from_secs(60);
const KEY_A: SlotHolder<'_> = SlotHolder { tenant: "one", key_id: Some("a") };

fn tracked(hub: &PollHub, id: &str) -> Arc<TrackedTask> {
    hub.tracked_task(id, "one", Instant::now(), SystemTime::now()).expect("a task")
}

/// After a restart too: a status that is known from the store alone may be as old as its task.
#[tokio::test(start_paused = true)]
async fn an_answer_without_news_is_as_old_as_the_tasks_claim() {
    let hour = Duration::from_secs(3600);
    for status in [Status::Pending, Status::Running] {
        let task = TaskFields::sample("a", SystemTime::now() - hour);
        let hub = hub([TaskFields { status, ..task }.into()]);
        let polled = hub.poll(&tracked(&hub, "a"), None, Duration::from_secs(2), Instant::now()).await;
        let PollAnswer { age, served, .. } = polled.expect("an answer");
        assert_eq!(served, PollServed::Stale);
        assert!((hour..2 * hour).contains(&age), "{age:?}");
    }
}

#[tokio::test]
async fn a_search_asks_for_a_keys_tasks_until_one_has_ended() {
    let (hub, asked) = (of_two_keys(), RefCell::default());
    let searches = async {
        let mut results = Vec::new();
        for _ in 0..5 {
            results.push(hub.find_end(KEY_A, MAX_AGE, Instant::now()).await);
        }
        results
    };
    let results = tokio::select! {
        results = searches => results,
        never = query(&hub, &asked, |_| false) => match never {},
    };
    assert_eq!(results, [false; 5]);
    // Each of the key's tasks was asked for once, as the news of it is fresh then; none of another key's was.
    let mut asked = asked.into_inner();
    asked.sort_unstable();
    assert_eq!(asked, (0..10).map(|number| format!("a{number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_search_for_a_tenant_is_among_all_its_keys() {
    let (hub, asked) = (of_two_keys(), RefCell::default());
    let holder = SlotHolder { key_id: None, ..KEY_A };
    let mut found = 0;
    tokio::select! {
        () = async {
            for _ in 0..5 {
                found += usize::from(hub.find_end(holder, MAX_AGE, Instant::now()).await);
            }
        } => {}
        never = query(&hub, &asked, |id| id.ends_with('7')) => match never {},
    }
    // A tenant's limit counts the tasks of all its keys. One search may find both ends.
    assert!((1..=2).contains(&found), "{found}");
    let once: BTreeSet<String> = asked.borrow().iter().cloned().collect();
    assert_eq!(once.len(), asked.borrow().len(), "none is asked for twice");
}

#[tokio::test]
async fn one_search_at_a_time_asks_and_it_ends_without_an_answer() {
    let hub = of_two_keys();
    let began = Instant::now();
    let (first, second) =
        tokio::join!(hub.find_end(KEY_A, MAX_AGE, began), hub.find_end(KEY_A, MAX_AGE, began));
    assert_eq!((first, second), (false, false));
    let poller = poller(&hub);
    let due = std::iter::from_fn(|| match poller.next_query(MAX_AGE, |_| 1, Instant::now()) {
        NextCall::Ask(task, _) => Some(task),
        NextCall::At(_) | NextCall::Nothing => None,
    });
    // A pause between two queries ends the count early, but never late.
    assert!(due.take(20).count() <= MOST_SOUGHT);
}

/// A page's tasks are asked for together, and each once.
#[tokio::test]
async fn a_page_is_polled_as_one() {
    let (hub, asked) = (of_two_keys(), RefCell::default());
    let tasks: Vec<_> = ["a1", "b2", "a3"].map(|id| tracked(&hub, id)).into();
    tokio::select! {
        () = async {
            for _ in 0..2 {
                hub.poll_page(&tasks, MAX_AGE, Instant::now()).await;
            }
        } => {}
        never = query(&hub, &asked, |id| id == "b2") => match never {},
    }
    assert_eq!(
        asked.borrow().iter().cloned().collect::<BTreeSet<_>>(),
        ["a1", "a3", "b2"].map(String::from).into()
    );
    assert_eq!(asked.borrow().len(), 3);
    assert_eq!([0, 1, 2].map(|index| tasks[index].is_final()), [false, true, false]);
}

#[tokio::test]
async fn nothing_is_asked_of_an_account_that_is_gone_until_it_is_back() {
    let hub = hub([TaskRecord::sample("a", SystemTime::now())]);
    let (poller, later) = (poller(&hub), Instant::now() + Duration::from_secs(100));
    hub.want(&tracked(&hub, "a"), Instant::now(), Instant::now());
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
