use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::account::AccountRegistry;
use crate::config::{Config, OrphanTimes};
use crate::dashscope::listed_task::ListedTask;
use crate::dashscope::task::status_answer;
use crate::dashscope::task_list::{TaskPage, TaskRow};
use crate::polling::orphan::MOST_ORPHANS;
use crate::polling::orphan_search::AnswerClock;
use crate::polling::{NextCall, PacedCall, PageRequest, TaskEndpoint};
use crate::telemetry::metrics::Metrics;
use crate::tenant::directory::Directory;

/// A hub that follows the task `t` of one account, and the time.
struct HubFixture {
    hub: PollHub,
    poller: Arc<AccountPoller>,
    task: Arc<TrackedTask>,
    now: Instant,
    date: SystemTime,
    _opened: mpsc::UnboundedReceiver<Arc<AccountPoller>>,
}

fn world() -> HubFixture {
    let (now, date) = (Instant::now(), SystemTime::now());
    let text = "accounts = [{ name = \"main\", base_url = \"http://127.0.0.1\", keys = [\"sk-1\"] }]\n\
                tenants = [{ name = \"one\", keys = [{ id = \"key\", key = \"0123456789abcdef\" }] }]";
    let config = Config::parse(text, Path::new("."), &|_| None).expect("a config").config;
    let metrics = Arc::<Metrics>::default();
    let directory = Directory::build(&config, &[], &AccountRegistry::new(now), &metrics, &Default::default());
    let subscribers =
        TaskEndSubscribers::new(Arc::default(), metrics, Arc::new(ArcSwap::from_pointee(directory)));
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
    HubFixture { hub, poller, task, now, date, _opened: opened }
}

fn answer(status: Status) -> TaskAnswer {
    let body = status_answer("t", status, SystemTime::UNIX_EPOCH, "r");
    TaskAnswer { status: StatusCode::OK, headers: HeaderMap::new(), body }
}

fn known(status: Status) -> QueryOutcome {
    let named = NamedTask { task_id: "t".into(), status, ended: None };
    QueryOutcome::Known(named, Some(answer(status)))
}

fn odd() -> QueryOutcome {
    QueryOutcome::Failed(QueryFault::Odd(StatusCode::METHOD_NOT_ALLOWED, None))
}

impl HubFixture {
    fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
    }

    fn is_asked_for(&self) -> bool {
        matches!(self.poller.next_query(Duration::ZERO, |_| 1, self.now), NextCall::Ask(..))
    }

    /// The time until the task is asked for again, although a client polls it.
    fn pause(&mut self) -> Duration {
        let began = self.now;
        // The budget has room for another query.
        self.pass(500);
        self.poll();
        match self.poller.next_query(Duration::ZERO, |_| 1, self.now) {
            NextCall::At(time) => time - began,
            other @ (NextCall::Ask(..) | NextCall::Nothing) => panic!("{other:?}"),
        }
    }

    fn poll(&self) {
        self.hub.note_poll(&self.task, self.now);
        self.hub.want(&self.task, self.now, self.now);
    }

    fn take(&self, outcome: QueryOutcome, asked: Instant) {
        self.hub.take_outcome(&self.task, outcome, asked, self.now, self.date);
    }

    fn take_page(&self, request: PageRequest, rows: &[Status], asked: Instant) {
        let data: Vec<TaskRow> =
            rows.iter().map(|status| TaskRow { task_id: "t".into(), status: *status }).collect();
        let page = TaskPage { total: data.len(), page_size: request.size, data };
        self.hub.take_page(&self.poller, request, &page, asked, self.now);
    }

    /// The body of the answer to a poll.
    fn told(&self) -> Option<Bytes> {
        self.task.answer().map(|answer| answer.body.clone())
    }
}

/// The answer of a query came after a row of a list that was asked for later, and was dropped; the task stayed RUNNING
/// for its client.
#[test]
fn an_end_counts_though_a_list_row_that_was_asked_for_later_came_first() {
    let mut world = world();
    world.poll();
    assert!(world.is_asked_for());
    let asked = world.now;
    world.pass(100);
    let request = PageRequest { status: Status::Running, number: 1, size: 100, began: world.now };
    world.take_page(request, &[Status::Running], world.now);
    assert_eq!(world.task.status(), Status::Running);
    world.pass(900);
    world.take(known(Status::Succeeded), asked);
    assert!(world.task.is_final());
    assert_eq!(world.told(), Some(answer(Status::Succeeded).body));
}

#[test]
fn an_odd_answer_tells_the_last_known_state() {
    let mut world = world();
    for outcome in [odd(), known(Status::Running), odd()] {
        world.poll();
        world.pass(70_000);
        assert!(world.is_asked_for());
        world.take(outcome, world.now);
        assert!(!world.task.is_final() && world.told().is_some());
    }
    assert_eq!(world.told(), Some(answer(Status::Running).body));
}

/// The pause after answers of no use grows, is not ended by polls, and ends with a good answer.
#[test]
fn answers_of_no_use_are_followed_by_pauses() {
    let mut world = world();
    for seconds in [1, 2, 4, 8, 15, 15] {
        world.pass(70_000);
        world.poll();
        assert!(world.is_asked_for());
        world.take(odd(), world.now);
        assert_eq!(world.pause().as_secs(), seconds);
    }
    world.pass(15_100);
    assert!(world.is_asked_for());
    world.take(known(Status::Running), world.now);
    world.pass(1_000);
    world.poll();
    assert!(world.is_asked_for());
}

/// The end of a task was known from before a restart, its result was not, and an odd answer was then taken for it.
#[test]
fn an_end_is_not_told_without_its_result() {
    let world = world();
    world.hub.task_index().learn(&world.task.record, Status::Succeeded);
    world.poll();
    assert!(world.is_asked_for());
    world.take(odd(), world.now);
    assert_eq!((world.task.is_final(), world.told()), (false, None));
}

#[test]
fn an_answer_that_is_too_large_ends_its_task() {
    let world = world();
    let named = NamedTask { task_id: "t".into(), status: Status::Succeeded, ended: None };
    world.poll();
    assert!(world.is_asked_for());
    world.take(QueryOutcome::Known(named, None), world.now);
    assert!(world.task.is_final() && world.task.is_passed());
    assert_eq!((world.task.status(), world.told()), (Status::Succeeded, None));
    assert_eq!(world.poller.state().schedule.length(), 0);
}

#[test]
fn an_answer_that_tells_nothing_and_is_too_large_is_asked_for_a_minute_later() {
    let mut world = world();
    world.poll();
    assert!(world.is_asked_for());
    world.take(QueryOutcome::Failed(QueryFault::TooLarge), world.now);
    assert_eq!(world.pause().as_secs(), 60);
}

#[test]
fn polls_that_are_passed_on_leave_queries_for_other_tasks() {
    let mut world = world();
    let mut passed = 0;
    for _ in 0..1_000 {
        if let Ok(number) = world.poller.take_paced(PacedCall::PassedPoll, world.now) {
            world.poller.call_ended(TaskEndpoint::Query, number, world.now);
            passed += 1;
        }
        world.pass(10);
    }
    let share = 10 * Rates::default().query / 4;
    assert!((share - 5..=share).contains(&passed), "{passed} of {share}");
}

#[test]
fn orphans_that_find_no_room_are_read_again() {
    let HubFixture { hub, poller, now, date, .. } = world();
    let times = OrphanTimes {
        every: Duration::from_secs(300),
        after_loss: Duration::from_secs(70),
        min_age: Duration::from_secs(60),
    };
    let clock = AnswerClock { asked: date, received: date, date: Some(date) };
    let passes_after = |orphans: usize| {
        let row = |number| ListedTask {
            task_id: format!("orphan-{number}").into(),
            created: Some(date - Duration::from_secs(3_600)),
            ..ListedTask::default()
        };
        let data: Vec<ListedTask> = (0..orphans).map(row).collect();
        let page = TaskPage { total: data.len(), page_size: data.len(), data };
        poller.orphans.lock().scan.ask(orphans, None, &times, now, date);
        hub.take_orphan_page(&poller, &page, clock, &times, now);
        poller.orphans.lock().passes.len()
    };
    assert_eq!(passes_after(10), 1);
    assert_eq!(passes_after(MOST_ORPHANS), 0, "some may have found none");
}

/// One refusal made pages small for ever.
#[test]
fn list_pages_grow_again() {
    let mut world = world();
    world.poller.signals.set_bulk(true);
    let mut sizes = Vec::new();
    for turn in 0..40 {
        world.pass(1_000);
        let NextCall::Ask(page, number) = world.poller.next_page(Duration::from_secs(1), world.now) else {
            continue;
        };
        sizes.push(page.size);
        world.poller.call_ended(TaskEndpoint::List, number, world.now);
        if turn < 3 {
            let refused = QueryFault::Odd(StatusCode::BAD_REQUEST, Some("InvalidParameter".into()));
            world.hub.page_failed(&world.poller, page, &QueryOutcome::Failed(refused), world.now);
        } else {
            world.take_page(page, &[], world.now);
        }
    }
    assert_eq!(sizes[..4], [100, 50, 25, 12]);
    assert_eq!(sizes.last(), Some(&100), "{sizes:?}");
}

/// A page that is no page, such as that of a firewall, says nothing of the size of pages.
#[test]
fn odd_list_answers_leave_the_size_of_pages() {
    let mut world = world();
    world.poller.signals.set_bulk(true);
    for _ in 0..10 {
        world.pass(10_000);
        let next = world.poller.next_page(Duration::from_secs(1), world.now);
        let NextCall::Ask(page, number) = next else { panic!("{next:?}") };
        assert_eq!(page.size, 100);
        world.poller.call_ended(TaskEndpoint::List, number, world.now);
        world.hub.page_failed(&world.poller, page, &odd(), world.now);
    }
}

/// A step of an upstream and its querier, in any order.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Poll,
    Query,
    /// The answer to one of the queries that are under way comes, if it is of use.
    Answer(usize, bool),
    List,
    /// One of the pages that are under way comes; it was made when it was asked for, or comes fresh.
    Page(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..3_000).prop_map(Step::Pass),
        Just(Step::Poll),
        Just(Step::Query),
        (0_usize..4, prop::bool::weighted(0.8)).prop_map(|(which, good)| Step::Answer(which, good)),
        Just(Step::List),
        (0_usize..4, any::<bool>()).prop_map(|(which, fresh)| Step::Page(which, fresh)),
    ]
}

proptest! {
    /// In whatever order answers and list pages come: a task is done only when its final answer is held, and until then
    /// it is asked for.
    #[test]
    fn a_task_is_done_only_when_its_final_answer_is_held(
        steps in prop::collection::vec(step(), 1..200),
        runs_at in 0_u64..20_000,
        ends_at in 0_u64..60_000,
    ) {
        let mut world = world();
        world.poller.signals.set_bulk(true);
        let start = world.now;
        let truth = |now: Instant| match u64::try_from((now - start).as_millis()).expect("a short time") {
            now if now >= ends_at => Status::Succeeded,
            now if now >= runs_at => Status::Running,
            _ => Status::Pending,
        };
        let (mut queries, mut pages) = (Vec::new(), Vec::new());
        let mut heard = false;
        for step in steps {
            match step {
                Step::Pass(milliseconds) => world.pass(milliseconds),
                Step::Poll => world.poll(),
                Step::Query => {
                    if let NextCall::Ask(_, number) = world.poller.next_query(Duration::ZERO, |_| 1, world.now) {
                        queries.push((world.now, number));
                    }
                }
                Step::Answer(which, is_good) if which < queries.len() => {
                    let (asked, number) = queries.remove(which);
                    world.poller.call_ended(TaskEndpoint::Query, number, world.now);
                    let status = truth(world.now);
                    world.take(if is_good { known(status) } else { odd() }, asked);
                    heard |= is_good && status.is_final();
                }
                Step::List => {
                    if let NextCall::Ask(page, number) = world.poller.next_page(Duration::from_secs(1), world.now) {
                        pages.push((world.now, page, number));
                    }
                }
                Step::Page(which, is_fresh) if which < pages.len() => {
                    let (asked, page, number) = pages.remove(which);
                    world.poller.call_ended(TaskEndpoint::List, number, world.now);
                    let is_listed = truth(if is_fresh { world.now } else { asked }) == page.status;
                    let rows = [page.status];
                    world.take_page(page, if is_listed { &rows } else { &[] }, asked);
                }
                Step::Answer(..) | Step::Page(..) => {}
            }
            prop_assert_eq!(world.task.is_final(), heard);
            prop_assert_eq!(world.poller.state().schedule.length(), usize::from(!heard));
            let end = answer(Status::Succeeded).body;
            prop_assert_eq!(world.task.is_final(), world.told() == Some(end));
        }
        // The upstream is well: the end comes.
        world.pass(120_000);
        for (asked, number) in queries {
            world.poller.call_ended(TaskEndpoint::Query, number, world.now);
            world.take(odd(), asked);
            world.pass(120_000);
        }
        if !heard {
            prop_assert!(world.is_asked_for());
            world.take(known(Status::Succeeded), world.now);
        }
        prop_assert!(world.task.is_final());
    }
}
