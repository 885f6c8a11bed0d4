//! A rolling update: replicas end and start again one after the other, and no client notices.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::place::Place;
use crate::harness::calls::generate;
use crate::harness::postgres::Postgres;
use crate::harness::relay::Relay;
use crate::harness::{
    Client, Gateway, StateDirectory, UPSTREAM_KEY, Upstream, answer, configuration, eventually,
};
use crate::process::Process;
use crate::process::upgrade::clients::{ClientCounts, upstream};
use crate::usage::kills::asked_for;

/// The balancer does what a Service of Kubernetes does: a replica that is to end gets no new connections, and keeps those
/// that are open.
#[test]
fn replicas_are_replaced_one_by_one_and_no_client_notices() {
    let updates = asked_for("DASHGATE_REPLICA_UPDATES", 1);
    let upstream = upstream();
    let database = Arc::new(Postgres::shared().database());
    let text = |address, _| {
        let server = format!("listen = \"{address}\"\nworkers = 2\ntimeouts = {{ drain = \"20s\" }}");
        configuration(&server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "")
    };
    let places: Vec<Place> =
        (0..3).map(|_| Place::new(&database, Postgres::shared().address(), text)).collect();
    let all: Vec<SocketAddr> = places.iter().map(|place| place.address).collect();
    let mut running: Vec<Process> = places.iter().map(Place::start).collect();
    let balancer = Relay::over(&all);
    let seen = ClientCounts::of_replicas();
    seen.during(balancer.address(), || {
        for number in 0..3 * updates {
            seen.wait_for_each_kind();
            let at = number % 3;
            let others: Vec<_> = all.iter().copied().filter(|address| *address != all[at]).collect();
            balancer.lead_to(&others);
            let old = running.remove(at);
            old.signal("TERM");
            let (status, printed) = old.end();
            assert_eq!(status.code(), Some(0), "{printed}");
            assert!(!printed.contains("is cut"), "replica {at}: {printed}");
            running.insert(at, places[at].start());
            balancer.lead_to(&all);
            println!(
                "{} replaced: {:?} fresh, kept, closes, tasks, streams, tunnels",
                number + 1,
                seen.counts()
            );
        }
    });
    println!("{} answers were that the database is away", seen.away());
    assert!(seen.closes.load(Ordering::Relaxed) >= updates, "no connection was told to close");
    for process in running {
        process.signal("TERM");
        let (status, printed) = process.end();
        assert_eq!(status.code(), Some(0), "{printed}");
    }
}

/// A request may be on its way when its replica is told to stop. Such a request was refused, and a submit is nothing that
/// every client may repeat.
#[test]
fn an_open_connection_has_one_more_request_served_while_its_replica_ends() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1\ntimeouts = { drain = \"4s\" }";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    let database = Arc::new(Postgres::shared().database());
    let gateway = Gateway::over(StateDirectory::over(&database), &text);
    let mut clients: [Client; 4] = std::array::from_fn(|_| Client::connect(gateway.address));
    let [used, silent, fresh, begun] = &mut clients;
    for client in [&mut *used, &mut *silent] {
        assert_eq!(client.ask(generate("{}")).field("connection"), None);
    }
    let request = generate("{}");
    let (start, rest) = request.split_at(20);
    begun.send(start);
    // The one worker has accepted these connections when it has answered a request that came later.
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    gateway.running.drain();
    eventually("the gateway has stopped accepting", || TcpStream::connect(gateway.address).is_err());
    for (client, request) in [(used, &*request), (fresh, &*request), (begun, rest)] {
        let got = client.ask(request);
        assert_eq!((got.status(), got.field("connection").as_deref()), (200, Some("close")), "{}", got.head);
        assert_eq!(client.rest(), b"");
    }
    // A client that asks nothing more is not waited for until the deadline.
    assert_eq!(silent.rest(), b"");
    gateway.running.join().expect("joined");
}
