//! Replicas that share a pace, over cells in memory.

use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::super::pace::{NextTurn, PaceRequest, SubmitPace, SubmitSlot};
use super::*;
use crate::dashscope::submit_rules::SubmitRule;

/// One submit in ten seconds: no test takes that long.
const RULE: SubmitRule = SubmitRule { requests_per_second: Some(0.1), running: None };

struct PacingReplica {
    paces: SharedPaces,
    pace: Arc<SubmitPace>,
    tenant: Arc<str>,
}

impl PacingReplica {
    fn new(exchange: &Exchange, number: Replica) -> Self {
        let (paces, writer) = SharedPaces::new(exchange.clone(), number);
        tokio::task::spawn_local(writer.run());
        Self { paces, pace: Arc::default(), tenant: "a".into() }
    }

    fn ask(&self) -> PaceRequest<'_> {
        PaceRequest { rule: RULE, tenant: &self.tenant, weight: 1, running: 0 }
    }

    async fn start(&self) -> Option<SubmitSlot> {
        let mut slot = self.pace.start(&self.ask(), Instant::now())?;
        let has_room = self.paces.confirm(&SharedPaces::cell("main", "wan"), &mut slot).await;
        has_room.expect("the store answers").then_some(slot)
    }

    /// Time until a submit that asks now may start.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        self.pace.turn(&self.ask(), now).map_or(Duration::ZERO, |turn| turn.saturating_duration_since(now))
    }
}

async fn on_two(test: impl AsyncFnOnce(PacingReplica, PacingReplica)) {
    let exchange = Exchange::local();
    let replicas =
        async move { test(PacingReplica::new(&exchange, 1), PacingReplica::new(&exchange, 2)).await };
    LocalSet::new().run_until(replicas).await;
}

#[tokio::test]
async fn a_submit_at_one_replica_takes_the_turn_of_another() {
    on_two(async |one, two| {
        let slot = one.start().await;
        assert!(slot.is_some() && two.start().await.is_none());
        // The other one knows when there will be room: a span after the answer, which may still be late.
        assert!(two.wait() > Duration::from_secs(10), "{:?}", two.wait());
        assert!(one.start().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_told_so_that_the_next_turn_is_a_span_after_it() {
    on_two(async |one, two| {
        let mut slot = one.start().await.expect("a turn");
        slot.answered(Instant::now());
        assert!(two.start().await.is_none());
        let span = Duration::from_millis(10_200);
        let end = two.pace.turn(&two.ask(), Instant::now()).expect("a turn");
        slot.answered(Instant::now());
        assert!(end <= Instant::now() + span, "{:?}", two.wait());
    })
    .await;
}

#[tokio::test]
async fn a_start_that_finds_no_room_leaves_no_trace() {
    on_two(async |one, two| {
        assert!(two.start().await.is_some());
        for _ in 0..3 {
            assert!(one.start().await.is_none());
        }
        let (starts, _) = one.pace.starts().expect("a limit");
        assert_eq!(starts, []);
    })
    .await;
}

#[tokio::test]
async fn a_queue_waits_for_the_starts_of_another_replica() {
    on_two(async |one, two| {
        let now = Instant::now();
        let (place, lead) = one.pace.wait(&one.ask(), now + Duration::from_secs(60), now).expect("a place");
        let (_place, mut lead) = (place, lead.expect("the duty"));
        assert!(two.start().await.is_some());
        let NextTurn::Start(mut slot) = lead.next(0, Instant::now()) else { panic!("nothing is known yet") };
        let cell = SharedPaces::cell("main", "wan");
        assert_eq!(one.paces.confirm(&cell, &mut slot).await, Ok(false));
        drop(slot);
        assert!(matches!(lead.next(0, Instant::now()), NextTurn::At(_)));
    })
    .await;
}
