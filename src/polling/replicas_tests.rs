use std::path::Path;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use tempfile::TempDir;

use super::super::account_poller::NextCall;
use super::super::hub::QueryOutcome;
use super::super::task_ended::TaskEndSubscribers;
use super::super::tracked_task::TaskAnswer;
use super::*;
use crate::account::AccountRegistry;
use crate::config::Config;
use crate::dashscope::task::{NamedTask, status_answer};
use crate::polling::settlement;
use crate::store::Store;
use crate::store::{Change, Exchange, Mirror, TaskRecord};
use crate::tasks::index::TaskIndex;
use crate::telemetry::metrics::Metrics;
use crate::tenant::directory::Directory;

const MAX_AGE: Duration = Duration::from_secs(1);

/// The hub of one of several replicas, with the task `t` of one account. Its database can't be reached: the test is the
/// querier, and the other replicas.
struct ReplicaFixture {
    hub: PollHub,
    poller: Arc<AccountPoller>,
    task: Arc<TrackedTask>,
    fetches: mpsc::UnboundedReceiver<Arc<TrackedTask>>,
    now: Instant,
    date: SystemTime,
    _opened: mpsc::UnboundedReceiver<Arc<AccountPoller>>,
    _folder: TempDir,
}

fn replica() -> ReplicaFixture {
    let (now, date) = (Instant::now(), SystemTime::now());
    let text = "accounts = [{ name = \"main\", base_url = \"http://127.0.0.1\", keys = [\"sk-1\"] }]\n\
                tenants = [{ name = \"one\", keys = [{ id = \"key\", key = \"0123456789abcdef\" }] }]";
    let config = Config::parse(text, Path::new("."), &|_| None).expect("a config").config;
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = "postgres://dashgate@127.0.0.1:1/dashgate".parse().expect("a URL");
    let exchange = Exchange::start(nowhere, 1).expect("a thread");
    let store = Store::open(&folder.path().join("store.db")).expect("a store").with_exchange(exchange);
    let index = TaskIndex::load(store, Arc::default()).expect("an index");
    let metrics = Arc::<Metrics>::default();
    let directory = Directory::build(&config, &[], &AccountRegistry::new(now), &metrics, &Default::default());
    let subscribers =
        TaskEndSubscribers::new(Arc::new(index), metrics, Arc::new(ArcSwap::from_pointee(directory)));
    let (opening, opened) = mpsc::unbounded_channel();
    let hub = PollHub::new(subscribers, opening, now);
    hub.apply(&Change::Claim {
        task: Arc::new(TaskRecord::sample("t", date)),
        answer: None,
        hold: None,
        request: None,
    });
    let task = hub.tracked_task("t", "one", now, date).expect("the task");
    let poller = hub.account_poller(task.account());
    let fetches = hub.take_fetches().expect("the first call");
    ReplicaFixture { hub, poller, task, fetches, now, date, _opened: opened, _folder: folder }
}

impl ReplicaFixture {
    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    fn lead(&mut self) {
        let until = self.now + Duration::from_secs(3_600);
        self.poller.set_lease(Some(HeldLease { from: self.now, until }), self.now);
        // Times are rounded to the time that is surely the leader's.
        self.pass(2);
    }

    fn poll(&self) {
        self.hub.note_poll(&self.task, self.now);
        self.hub.want(&self.task, self.now, self.now);
    }

    fn next(&self) -> NextCall<Arc<TrackedTask>> {
        self.poller.next_query(MAX_AGE, |_| 1, self.now)
    }

    fn is_asked_for(&self) -> bool {
        matches!(self.next(), NextCall::Ask(..))
    }

    fn gossip(&self) -> Vec<Gossip> {
        self.hub.take_gossip(&self.poller, MAX_AGE, self.now)
    }

    fn take(&self, outcome: QueryOutcome) {
        self.hub.take_outcome(&self.task, outcome, self.now, self.now, self.date);
    }

    fn hear(&self, gossip: Gossip) {
        self.hub.hear(2, &[gossip]);
    }

    /// Hears from the leader that the task has this status.
    fn hear_status(&self, status: Status, age: u64) {
        let tasks = [("t".into(), status, age)];
        self.hub.hear_known("main", &tasks, self.now);
    }

    /// The end of the task, as another replica has settled it.
    fn settled(&self, status: Status) -> Arc<Entry> {
        let named = NamedTask { task_id: "t".into(), status, ended: None };
        let record = TaskRecord::sample("t", self.date);
        settlement::entry(&record, &named, Some(&answer(status)), false, self.date).expect("an entry")
    }

    fn fetched(&mut self) -> usize {
        std::iter::from_fn(|| self.fetches.try_recv().ok()).count()
    }
}

fn answer(status: Status) -> TaskAnswer {
    let body = status_answer("t", status, SystemTime::UNIX_EPOCH, "r");
    TaskAnswer { status: StatusCode::OK, headers: HeaderMap::new(), body }
}

fn known(status: Status) -> QueryOutcome {
    let named = NamedTask { task_id: "t".into(), status, ended: None };
    QueryOutcome::Known(named, Some(answer(status)))
}

fn wanted(held: &[&str], polled: &[&str]) -> Gossip {
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).into()).collect();
    Gossip::Wanted { account: "main".into(), held: ids(held), polled: ids(polled) }
}

#[test]
fn a_replica_that_does_not_lead_asks_the_leader_and_not_dashscope() {
    let mut replica = replica();
    replica.pass(60_000);
    replica.poll();
    assert!(matches!(replica.next(), NextCall::Nothing));
    assert_eq!(replica.gossip(), [wanted(&[], &["t"])]);
    assert_eq!(replica.gossip(), []);
    replica.poller.signals.set_bulk(true);
    assert!(matches!(replica.poller.next_page(MAX_AGE, replica.now), NextCall::Nothing));
    let times = crate::config::OrphanTimes::default();
    let page = replica.hub.next_orphan_page(&replica.poller, &times, replica.now, replica.date);
    assert!(matches!(page, NextCall::Nothing));
    // As the leader it asks for what was wanted, after the second in which the last leader's queries count.
    let from = replica.now + Duration::from_secs(1);
    replica.poller.set_lease(Some(HeldLease { from, until: from + Duration::from_secs(1) }), replica.now);
    assert!(matches!(replica.next(), NextCall::At(time) if time >= from));
    assert_eq!(replica.gossip(), []);
    replica.pass(1_002);
    assert!(replica.is_asked_for());
    replica.take(known(Status::Running));
    replica.pass(998);
    replica.poll();
    assert!(matches!(replica.next(), NextCall::Nothing), "the lease is over");
}

#[test]
fn a_leader_asks_for_what_another_replica_wants_and_tells_it() {
    let mut replica = replica();
    replica.lead();
    replica.hear(wanted(&[], &["t", "of nobody"]));
    assert_eq!(replica.gossip(), []);
    assert!(replica.is_asked_for());
    replica.take(known(Status::Running));
    replica.pass(30);
    let told =
        |age| vec![Gossip::Known { account: "main".into(), tasks: vec![("t".into(), Status::Running, age)] }];
    assert_eq!(replica.gossip(), told(30));
    // Fresh news is told at once.
    replica.pass(470);
    replica.hear(wanted(&[], &["t"]));
    assert_eq!(replica.gossip(), told(500));
    replica.pass(501);
    replica.hear(wanted(&[], &["t"]));
    assert_eq!(replica.gossip(), []);
    assert!(replica.is_asked_for());
    // A poll that is held there is as one that is held here.
    replica.take(known(Status::Running));
    replica.hear(wanted(&["t"], &[]));
    replica.gossip();
    for _ in 0..5 {
        replica.pass(150);
        assert!(replica.is_asked_for());
        replica.take(known(Status::Running));
    }
    replica.pass(2_000);
    replica.poller.choose_mode(replica.now);
    assert!(!replica.task.is_held(), "nobody has said so again");
}

#[test]
fn what_the_leader_tells_is_known_and_wakes_those_who_wait() {
    let mut replica = replica();
    replica.pass(60_000);
    let heard = replica.task.heard();
    replica.hear_status(Status::Running, 100);
    assert_eq!((replica.task.status(), replica.task.heard()), (Status::Running, heard + 1));
    assert_eq!(replica.task.as_of(), Some(replica.task.signals.time(replica.task.seen())));
    replica.hear_status(Status::Running, 100);
    assert_eq!(replica.task.heard(), heard + 1, "that is no news");
    replica.pass(500);
    replica.hear_status(Status::Running, 0);
    assert_eq!(replica.task.heard(), heard + 2);
    // Gossip may come late, and the log does.
    replica.hear_status(Status::Pending, 5_000);
    replica.hub.take_logged("t", Status::Pending, replica.now);
    assert_eq!(replica.task.status(), Status::Running);
    replica.pass(10_000);
    replica.hub.take_logged("t", Status::Suspended, replica.now);
    assert_eq!(replica.task.status(), Status::Suspended);
}

#[test]
fn an_end_that_another_replica_has_settled_frees_its_slot_and_brings_its_answer() {
    let mut replica = replica();
    let running = |replica: &ReplicaFixture| {
        replica.hub.task_index().running(&"main".into(), "wan2.7-i2v", replica.date)
    };
    replica.poll();
    assert_eq!(running(&replica), 1);
    replica.hub.apply(&Change::Settle { entry: replica.settled(Status::Succeeded), report: None });
    assert_eq!((running(&replica), replica.task.status()), (0, Status::Succeeded));
    assert!(!replica.task.is_final(), "an end counts once its answer is here");
    assert_eq!(replica.fetched(), 1);
    replica.hub.apply(&Change::Settle { entry: replica.settled(Status::Succeeded), report: None });
    replica.poll();
    assert_eq!(replica.fetched(), 0, "it is on its way");
    let kept = end_answer::kept(Some(&answer(Status::Succeeded)), Status::Succeeded, replica.date);
    let heard = replica.task.heard();
    replica.hub.take_end_answer(&replica.task, Some(kept), replica.now);
    assert!(replica.task.is_final() && replica.task.heard() > heard);
    assert_eq!(replica.task.answer().as_deref(), Some(&answer(Status::Succeeded)));
    assert_eq!(replica.poller.state().schedule.length(), 0);
}

#[test]
fn an_answer_that_is_not_in_the_store_is_asked_for_by_the_leader() {
    let mut replica = replica();
    replica.hub.apply(&Change::Settle { entry: replica.settled(Status::Failed), report: None });
    assert_eq!(replica.fetched(), 0, "nobody polls");
    replica.poll();
    assert_eq!(replica.fetched(), 1);
    replica.hub.take_end_answer(&replica.task, None, replica.now);
    assert_eq!(replica.gossip(), [wanted(&[], &["t"])]);
    // The leader has asked once more, and has kept the answer.
    replica.hear_status(Status::Failed, 0);
    assert_eq!(replica.fetched(), 1);
    // Without a client it is not asked for for ever.
    replica.pass(60_000);
    replica.hub.take_end_answer(&replica.task, None, replica.now);
    assert_eq!(replica.gossip(), []);
    // A leader without the answer asks DashScope.
    replica.lead();
    replica.poll();
    assert_eq!(replica.fetched(), 1);
    replica.hub.take_end_answer(&replica.task, None, replica.now);
    assert!(replica.is_asked_for());
    replica.take(known(Status::Failed));
    assert!(replica.task.is_final());
    // Another replica has not found the answer: it is kept again.
    replica.hear(wanted(&[], &["t"]));
    assert_eq!(replica.gossip(), []);
    assert_eq!(replica.fetched(), 1);
}

/// A replica that has lost the lease may have a query under way when the next leader settles the task's end.
#[test]
fn an_end_that_comes_during_a_query_of_this_replica_counts_if_the_query_fails() {
    let mut replica = replica();
    replica.lead();
    replica.poll();
    assert!(replica.is_asked_for());
    replica.hub.apply(&Change::Settle { entry: replica.settled(Status::Canceled), report: None });
    assert_eq!(replica.task.status(), Status::Pending, "the query may tell it too, with its answer");
    replica.take(QueryOutcome::Throttled(None));
    assert_eq!(replica.task.status(), Status::Canceled);
    assert_eq!(replica.fetched(), 1);
}

#[test]
fn a_task_that_was_lost_elsewhere_is_followed_no_longer() {
    let replica = replica();
    let lost = Entry { status: LOST.into(), ..Entry::clone(&replica.settled(Status::Failed)) };
    replica.hub.apply(&Change::Settle { entry: Arc::new(lost), report: None });
    assert_eq!(replica.poller.state().schedule.length(), 0);
    assert_eq!(replica.hub.task_index().running(&"main".into(), "wan2.7-i2v", replica.date), 0);
}

#[test]
fn an_answer_that_was_lost_here_is_searched_for_by_the_leader() {
    let mut replica = replica();
    replica.poller.note_lost_submit(replica.now);
    assert_eq!(replica.gossip(), [Gossip::LostSubmit { account: "main".into() }]);
    // News that is heard is not told on.
    replica.hear(Gossip::LostSubmit { account: "main".into() });
    assert_eq!(replica.gossip(), []);
    replica.lead();
    replica.poller.note_lost_submit(replica.now);
    assert_eq!(replica.gossip(), []);
}

#[test]
fn a_leader_leaves_room_for_the_queries_of_others() {
    let mut replica = replica();
    replica.lead();
    replica.poll();
    replica.hear(Gossip::Asked { account: "main".into(), queries: 20 });
    assert!(matches!(replica.next(), NextCall::At(time) if time > replica.now));
}
