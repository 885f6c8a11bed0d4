//! Limits over replicas: what one replica lets in, the others count; a paced submit starts on one of them.

use std::sync::{Arc, Weak};
use std::time::Instant;

use dashgate::account::pace::{PaceRequest, SubmitPace};
use dashgate::account::shared_pace::SharedPaces;
use dashgate::config::{Limits, Rate, Rule};
use dashgate::dashscope::submit_rules::SubmitRule;
use dashgate::limits::{Admitted, LimitKind, LimitedCaller, Registry};
use dashgate::store::{Exchange, Gossip, GossipListener, Replica};
use futures_util::future::join_all;
use governor::clock::MonotonicClock;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio_postgres::Config;

use crate::harness::eventually;
use crate::harness::postgres::{PASSWORD, Postgres, TestDatabase};

/// A replica's limits, with its exchange.
struct LimitingReplica {
    exchange: Exchange,
    limits: Arc<Registry>,
}

fn start(database: &TestDatabase<'_>, number: Replica) -> LimitingReplica {
    let mut config: Config = database.url().parse().expect("a URL");
    config.password(PASSWORD);
    let exchange = Exchange::start(config, number).expect("a thread");
    let limits = Arc::new(Registry::among_replicas(MonotonicClock, false));
    let listener: Weak<dyn GossipListener> = Arc::downgrade(&(Arc::clone(&limits) as _));
    exchange.listen(vec![listener]);
    LimitingReplica { exchange, limits }
}

fn three(database: &TestDatabase<'_>) -> Vec<LimitingReplica> {
    super::exchange::tables(database);
    let replicas: Vec<_> = (1..=3).map(|number| start(database, number)).collect();
    let is_connected = |replica: &LimitingReplica| replica.exchange.away_since(Instant::now()).is_none();
    eventually("all are connected", || replicas.iter().all(is_connected));
    replicas
}

impl LimitingReplica {
    fn tell(&self) {
        let away = self.exchange.away_since(Instant::now()).map(|since| since.elapsed());
        for report in self.limits.reports(away) {
            self.exchange.gossip(&Gossip::Limits(report));
        }
    }

    fn admit(&self, limits: &Limits) -> Option<Admitted> {
        self.limits.admit(&caller(limits), LimitKind::Other).ok()
    }

    fn used(&self, limits: &Limits) -> (Option<u32>, Option<u32>) {
        let [used, _] = self.limits.used(&caller(limits));
        let used = used.of(LimitKind::Other);
        (used.remaining, used.running)
    }
}

fn caller(limits: &Limits) -> LimitedCaller<'_> {
    LimitedCaller { key_id: "key", tenant: "one", limits, tenant_limits: limits }
}

#[test]
fn calls_at_one_replica_count_at_all_while_they_run_and_by_their_rate() {
    let database = Postgres::shared().database();
    let replicas = three(&database);
    // Nothing refills while the test runs.
    let rate = Some(Rate { requests_per_second: 0.000_1, burst: 30 });
    let limits = Limits { all: Rule { rate, concurrent_requests: Some(25) }, ..Limits::default() };
    let eventually_all = |what, expected: (u32, u32)| {
        let expected = (Some(expected.0), Some(expected.1));
        eventually(what, || {
            replicas.iter().for_each(LimitingReplica::tell);
            replicas.iter().all(|replica| replica.used(&limits) == expected)
        });
    };
    replicas.iter().for_each(|replica| drop(replica.admit(&limits)));
    eventually_all("none is new", (30, 0));
    let mut running: Vec<_> = (0..20).filter_map(|_| replicas[0].admit(&limits)).collect();
    running.extend((0..4).filter_map(|_| replicas[1].admit(&limits)));
    eventually_all("all know of all that run", (6, 24));
    assert!(replicas[2].admit(&limits).is_some_and(|admitted| {
        running.push(admitted);
        replicas[2].admit(&limits).is_none()
    }));
    running.clear();
    eventually_all("all know that none runs", (5, 0));
    let more = (0..10).filter_map(|_| replicas[2].admit(&limits)).count();
    assert_eq!(more, 5);
    eventually_all("nothing is left", (0, 0));
    replicas.iter().for_each(|replica| replica.exchange.close());
}

#[test]
fn of_many_submits_at_three_replicas_as_many_start_as_the_account_takes() {
    let database = Postgres::shared().database();
    let replicas = three(&database);
    // One in ten seconds.
    let rule = SubmitRule { requests_per_second: Some(0.1), running: None };
    let tenant = Arc::from("one");
    let ask = PaceRequest { rule, tenant: &tenant, weight: 1, running: 0 };
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cell = SharedPaces::cell("main", "wan2.7-t2v");
    let submits = async {
        let submits = replicas.iter().map(|replica| {
            let number = replica.exchange.replica().expect("a number");
            let (paces, writer) = SharedPaces::new(replica.exchange.clone(), number);
            tokio::task::spawn_local(writer.run());
            let (pace, cell, ask) = (Arc::<SubmitPace>::default(), &cell, &ask);
            async move {
                let mut started = Vec::new();
                for _ in 0..20 {
                    let Some(mut slot) = pace.start(ask, Instant::now()) else { break };
                    if paces.confirm(cell, &mut slot).await.expect("an answer") {
                        started.push(slot);
                    }
                }
                started.len()
            }
        });
        join_all(submits).await
    };
    let started = runtime.block_on(LocalSet::new().run_until(submits));
    assert_eq!(started.iter().sum::<usize>(), 1, "{started:?}");
    replicas.iter().for_each(|replica| replica.exchange.close());
}
