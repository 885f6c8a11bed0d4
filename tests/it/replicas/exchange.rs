//! The exchange of replicas: cells, gossip, hints of the log, and signs of life.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use dashgate::store::{Cell, Exchange, Gossip, GossipListener, Replica, Swap};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Config;

use crate::harness::postgres::{Options, PASSWORD, Postgres, TestDatabase};
use crate::harness::relay::Relay;
use crate::harness::{PATIENCE, eventually};

/// All that was heard, in its order.
#[derive(Default)]
struct Heard(Mutex<Vec<(Replica, Vec<Gossip>)>>);

impl GossipListener for Heard {
    fn hear(&self, from: Replica, gossip: &[Gossip]) {
        self.0.lock().expect("no panic").push((from, gossip.to_vec()));
    }
}

impl Heard {
    /// The gossip of a replica.
    fn of(&self, replica: Replica) -> Vec<Gossip> {
        let heard = self.0.lock().expect("no panic");
        heard.iter().filter(|(from, _)| *from == replica).flat_map(|(_, gossip)| gossip.clone()).collect()
    }
}

/// The tables that an exchange needs.
pub(super) fn tables(database: &TestDatabase<'_>) {
    database.sql(
        "CREATE TABLE cells (name text PRIMARY KEY, version bigint NOT NULL, value bytea NOT NULL);
         CREATE TABLE answers (task text PRIMARY KEY, at bigint NOT NULL, status text NOT NULL,
             headers text NOT NULL, body bytea)",
    );
}

fn start(url: &str, replica: Replica) -> (Exchange, Arc<Heard>) {
    let mut config: Config = url.parse().expect("a URL");
    config.password(PASSWORD);
    let exchange = Exchange::start(config, replica).expect("a thread");
    let heard = Arc::new(Heard::default());
    let listener: Weak<dyn GossipListener> = Arc::downgrade(&(Arc::clone(&heard) as _));
    exchange.listen(vec![listener]);
    (exchange, heard)
}

fn answers(exchange: &Exchange) -> bool {
    exchange.away_since(Instant::now()).is_none()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn wanted(task: &str) -> Gossip {
    Gossip::Wanted { account: "main".into(), held: Vec::new(), polled: vec![task.into()] }
}

#[test]
fn one_replica_alone_changes_a_cell_that_several_have_seen() {
    let database = Postgres::shared().database();
    tables(&database);
    let replicas: Vec<_> = (1..=3).map(|number| start(&database.url(), number).0).collect();
    eventually("all are connected", || replicas.iter().all(answers));
    runtime().block_on(async {
        let unwritten = replicas[0].cell("a cell").await.expect("an answer");
        assert_eq!((unwritten.version, &*unwritten.value), (0, &b""[..]));
        let mut seen = vec![0; 3];
        let mut changes = 0;
        for round in 0..50_u8 {
            let swaps = replicas.iter().zip(&seen).map(|(replica, seen)| {
                let new = vec![round, u8::try_from(replica.replica().expect("a number")).expect("small")];
                replica.swap("a cell", *seen, new.into())
            });
            let swaps = futures_util::future::join_all(swaps).await;
            let mut made = 0;
            for (seen, swap) in seen.iter_mut().zip(swaps) {
                let swap = swap.expect("an answer");
                made += usize::from(matches!(swap, Swap::Made(_)));
                assert!(swap.cell().version > *seen, "{swap:?} after {seen}");
                assert_eq!(swap.cell().value[0], round, "{swap:?}");
                *seen = swap.cell().version;
            }
            assert_eq!(made, 1);
            changes += made;
        }
        assert_eq!(changes, 50);
        let Cell { version, .. } = replicas[0].cell("a cell").await.expect("an answer");
        assert!(seen.iter().all(|seen| *seen == version));
        // A version that never was does not make a cell, and does not change one.
        for (cell, seen) in [("another", 7), ("a cell", version + 1)] {
            let swap = replicas[1].swap(cell, seen, "x".into()).await.expect("an answer");
            assert!(matches!(swap, Swap::Stale(_)), "{swap:?}");
        }
    });
    replicas.iter().for_each(Exchange::close);
}

#[test]
fn a_replica_hears_the_gossip_of_all_others_and_not_its_own() {
    let database = Postgres::shared().database();
    tables(&database);
    let replicas: Vec<_> = (1..=3).map(|number| start(&database.url(), number)).collect();
    let all_live = || replicas.iter().all(|(exchange, _)| exchange.others(Instant::now()) == 2);
    eventually("each knows the two others", all_live);
    let many = (0..1_000).map(|number| format!("task-{number:031}").into()).collect::<Vec<_>>();
    replicas[0].0.gossip(&wanted("one"));
    for tasks in many.chunks(100) {
        replicas[0].0.gossip(&Gossip::Wanted {
            account: "main".into(),
            held: Vec::new(),
            polled: tasks.to_vec(),
        });
    }
    for (_, heard) in &replicas[1..] {
        eventually("all is heard", || heard.of(1).len() == 11);
        assert_eq!(heard.of(1)[0], wanted("one"));
    }
    assert!(replicas[0].1.0.lock().expect("no panic").iter().all(|(from, _)| *from != 1));
    replicas[2].0.close();
    let others = || replicas[0].0.others(Instant::now());
    eventually("a closed replica counts no longer", || others() == 1);
    replicas.iter().for_each(|(exchange, _)| exchange.close());
}

#[test]
fn hints_of_the_log_go_out_at_once_and_as_one_where_many_come() {
    let database = Postgres::shared().database();
    tables(&database);
    let (exchange, _) = start(&database.url(), 5);
    eventually("it is connected", || answers(&exchange));
    runtime().block_on(async {
        let mut config: Config = database.url().parse().expect("a URL");
        let (client, mut connection) =
            config.password(PASSWORD).connect(tokio_postgres::NoTls).await.expect("a connection");
        let (sender, mut notified) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                if let tokio_postgres::AsyncMessage::Notification(notification) = message {
                    let _ = sender.send(notification.payload().to_owned());
                }
            }
        });
        client.batch_execute("LISTEN dashgate_log").await.expect("an answer");
        let (began, mut hints) = (Instant::now(), 0);
        while hints < 20 {
            (0..1_000).for_each(|_| exchange.hint());
            // A hint is lost with the connection, which ends where the process has no time to serve it.
            match tokio::time::timeout(Duration::from_secs(3), notified.recv()).await {
                Ok(told) => {
                    assert_eq!(told.as_deref(), Some("5"));
                    hints += 1;
                }
                Err(_) => assert!(began.elapsed() < PATIENCE, "no hint has come since the last of {hints}"),
            }
        }
        println!("a hint takes {:?}", began.elapsed() / 20);
    });
    exchange.close();
}

#[test]
fn a_database_that_is_halted_cut_off_or_killed_is_away_until_it_is_back() {
    let server = Postgres::start(&Options::default());
    let database = server.database();
    tables(&database);
    let relay = Relay::over(&[server.address()]);
    let (direct, _) = start(&database.url(), 1);
    let (relayed, heard) = start(&database.url_at(relay.address()), 2);
    let both = |answer: bool| answers(&direct) == answer && answers(&relayed) == answer;
    let runtime = runtime();
    let swap = |exchange: &Exchange| runtime.block_on(exchange.swap("a cell", 0, "x".into()));
    eventually("both are connected", || both(true));
    for round in 0..2 {
        server.halt();
        eventually("a halted database is away", || both(false));
        // The answer comes though the database gives none.
        assert!(swap(&direct).is_err());
        // Gossip that finds no database is out of date when it is back.
        direct.gossip(&wanted("old"));
        server.resume();
        eventually("it is back", || both(true));
        assert!(swap(&direct).is_ok(), "round {round}");
    }
    let counts = |exchange: &Exchange| exchange.others(Instant::now());
    eventually("they hear each other", || counts(&direct) == 1 && counts(&relayed) == 1);
    relay.pause();
    eventually("only the replica behind the relay is cut off", || answers(&direct) && !answers(&relayed));
    // Both remember each other: neither takes the other for dead at once.
    assert_eq!(relayed.others(Instant::now()), 1);
    relay.resume();
    eventually("it is back", || both(true));
    server.kill();
    eventually("a killed database is away", || both(false));
    assert!(swap(&relayed).is_err());
    server.start_again();
    eventually("it is back", || both(true));
    direct.gossip(&wanted("new"));
    eventually("gossip is heard again", || heard.of(1).contains(&wanted("new")));
    assert!(!heard.of(1).contains(&wanted("old")));
    direct.close();
    relayed.close();
}
