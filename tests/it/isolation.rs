//! Isolation of two tenants on one account, a thousand tasks each: neither ever sees anything of the other's, nor can
//! it tell the other's tasks from none.

mod sdks;
mod times;

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use dashgate::sim::{self, Simulator, SimulatorOptions};
use serde_json::{Value, json};

use crate::harness::calls::SYNTHESIS;
use crate::harness::{Client, Gateway, Message, OTHER_KEY, TENANT_KEY, configuration, message};
use crate::routing::endpoints::{self, Endpoint};
use crate::routing::spellings::{self, Expected, PlaceholderIds, Spelling};

const TASKS: usize = 1_000;
const KEYS: [&str; 2] = [TENANT_KEY, OTHER_KEY];
/// The model of each tenant's submits.
const MODELS: [&str; 2] = ["wan2.7-t2v-one", "wan2.7-t2v-two"];

/// A gateway before a simulator whose tasks stay PENDING, and the ids of each tenant's.
struct TwoTenants {
    gateway: Gateway,
    simulator: Simulator,
    ids: [Vec<String>; 2],
}

impl TwoTenants {
    fn new() -> Self {
        let options = SimulatorOptions {
            keys: vec!["sk-main".parse().expect("a key")],
            pending: Some(Duration::from_secs(24 * 3600)),
            submit_rps: Some(u32::MAX),
            query_qps: u32::MAX,
            ..SimulatorOptions::default()
        };
        let simulator = Simulator::start(options).expect("a simulator");
        let account = ("main", simulator.address(), &["sk-main"][..], "query_qps = 100000");
        let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
        let gateway = Gateway::configured(&configuration(server, &[account], ""));
        let address = gateway.address;
        // Each client submits for both tenants in turns, so that their tasks are interleaved.
        let submitted = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8).map(|_| scope.spawn(move || submit(address, TASKS / 8))).collect();
            clients.into_iter().map(|client| client.join().expect("no panic")).collect::<Vec<_>>()
        });
        let ids = [0, 1].map(|tenant| submitted.iter().flat_map(|ids| ids[tenant].clone()).collect());
        simulator.clear();
        Self { gateway, simulator, ids }
    }

    /// An id that no task has, and that differs from `like` only in its end.
    fn invented(&self, like: &str) -> String {
        let other =
            |digit: char| char::from_digit(15 - digit.to_digit(16).expect("a digit"), 16).expect("one");
        let (start, end) = like.split_at(like.len() - TAIL);
        let id = start.to_owned() + &end.chars().map(other).collect::<String>();
        assert!(!self.ids.iter().flatten().any(|known| *known == id), "{id}");
        id
    }

    /// Calls on tasks and on task lists that the upstream saw.
    fn asked(&self) -> Vec<String> {
        let seen = self.simulator.requests();
        let calls = seen.iter().map(|seen| format!("{} {}", seen.method, seen.target));
        calls.filter(|call| call.contains("/tasks")).collect()
    }
}

/// Submits this number of tasks for each tenant, and returns their ids by tenant.
fn submit(address: SocketAddr, tasks: usize) -> [Vec<String>; 2] {
    let mut clients = KEYS.map(|_| Client::connect(address));
    let mut ids = [Vec::new(), Vec::new()];
    for tenant in (0..tasks).flat_map(|_| [0, 1]) {
        let fields = [&*authorization(tenant), "X-DashScope-Async: enable"];
        let body = json!({"model": MODELS[tenant], "input": {"prompt": "a cat"}}).to_string();
        let got = clients[tenant].ask(message(&format!("POST {SYNTHESIS}"), &fields, &body));
        assert_eq!(got.status(), 200, "{}", got.text());
        ids[tenant].push(got.json()["output"]["task_id"].as_str().expect("an id").to_owned());
    }
    ids
}

fn authorization(tenant: usize) -> String {
    format!("Authorization: Bearer {}", KEYS[tenant])
}

/// A client that connects again after the gateway closed.
struct ReconnectingClient {
    address: SocketAddr,
    tenant: usize,
    client: Option<Client>,
}

impl ReconnectingClient {
    fn new(pair: &TwoTenants, tenant: usize) -> Self {
        Self { address: pair.gateway.address, tenant, client: None }
    }

    fn ask(&mut self, method: &str, target: &str) -> Message {
        let client = self.client.get_or_insert_with(|| Client::connect(self.address));
        let body = if method == "POST" { "{}" } else { "" };
        let got = client.ask(message(&format!("{method} {target}"), &[&authorization(self.tenant)], body));
        if got.field("connection").as_deref() == Some("close") {
            self.client = None;
        }
        got
    }
}

/// An answer as it stood on the wire, without the parts that differ between any two answers: the request id, the date,
/// and the end of the task's id in lower or upper case.
fn masked(answer: &Message, id: &str) -> String {
    let mut whole = format!("{}{}", answer.head, answer.text());
    for field in ["x-request-id", "date"] {
        whole = whole.replace(&answer.field(field).expect("a field"), field);
    }
    let tail = &id[id.len() - TAIL..];
    whole.replace(tail, "ID").replace(&tail.to_ascii_uppercase(), "ID")
}

/// The rows of [`endpoints`] that name another tenant's task.
fn on_foreign_tasks() -> Vec<Endpoint> {
    let found: Vec<Endpoint> = endpoints::all()
        .into_iter()
        .filter(|endpoint| endpoint.path.contains("{foreign}") || endpoint.query.contains("{foreign}"))
        .collect();
    let calls: Vec<_> = found.iter().map(|endpoint| (endpoint.method, endpoint.path)).collect();
    let expected = [
        ("GET", "/api/v1/tasks/{foreign}"),
        ("GET", "/api/v1/tasks"),
        ("POST", "/api/v1/tasks/{foreign}/cancel"),
    ];
    assert_eq!(calls, expected);
    found
}

/// The calls of the endpoint in each spelling, on this task.
fn spelled(endpoint: &Endpoint, id: &str) -> Vec<Spelling> {
    let names = PlaceholderIds { own: id, foreign: id, none: id };
    spellings::of(endpoint, &names).into_iter().filter(|spelling| spelling.target.is_some()).collect()
}

fn target(spelling: &Spelling) -> &str {
    spelling.target.as_deref().expect("a target")
}

#[test]
fn a_foreign_task_and_none_are_answered_alike_in_every_spelling() {
    let pair = TwoTenants::new();
    let every = std::env::var_os("DASHGATE_SPELLINGS").is_some();
    let (endpoints, mut tried) = (on_foreign_tasks(), 0);
    for tenant in [0, 1] {
        let mut asker = ReconnectingClient::new(&pair, tenant);
        for (number, foreign) in pair.ids[1 - tenant].iter().enumerate() {
            let none = pair.invented(foreign);
            for endpoint in &endpoints {
                let both = spelled(endpoint, foreign).into_iter().zip(spelled(endpoint, &none));
                // Each task is tried in one spelling, and so each spelling many times; with DASHGATE_SPELLINGS, in
                // every spelling.
                for (at, (of_foreign, of_none)) in both.enumerate() {
                    if every || at == number % SPELLINGS {
                        alike(&mut asker, (&of_foreign, foreign), (&of_none, &none));
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(tried >= 2 * TASKS * endpoints.len() * 9 / 10, "{tried}");
    assert_eq!(pair.asked(), Vec::<String>::new(), "the upstream was asked");
    assert!(
        pair.simulator.tasks().iter().all(|task| task.status == sim::SimulatedStatus::Pending),
        "one was canceled"
    );
    println!(
        "{tried} calls on foreign tasks, and as many on none: the same bytes, and the upstream saw nothing"
    );
}

fn alike(asker: &mut ReconnectingClient, foreign: (&Spelling, &str), none: (&Spelling, &str)) {
    let [of_foreign, of_none] = [foreign, none].map(|(spelling, id)| {
        let got = asker.ask(spelling.method, target(spelling));
        let expected = match spelling.expected {
            Expected::Local(status) | Expected::Refused(status, _) => status,
            Expected::Denied => 403,
            Expected::BadPath => 400,
            Expected::Passes(_) => panic!("{} is to pass", target(spelling)),
        };
        assert_eq!(got.status(), expected, "{}: {}", target(spelling), got.text());
        masked(&got, id)
    });
    assert_eq!(of_foreign, of_none, "{}: {}", foreign.0.name, target(foreign.0));
}

#[test]
fn an_own_task_is_answered_in_every_spelling_and_only_its_owner_can_cancel_it() {
    let pair = TwoTenants::new();
    let own = |method: &str, path: &str| {
        let is_it = |endpoint: &Endpoint| endpoint.method == method && endpoint.path == path;
        endpoints::all().into_iter().find(is_it).expect("a row")
    };
    let (get, cancel) = (own("GET", "/api/v1/tasks/{own}"), own("POST", "/api/v1/tasks/{own}/cancel"));
    let mut canceled = BTreeSet::new();
    for tenant in [0, 1] {
        let [mut asker, mut other] =
            [tenant, 1 - tenant].map(|tenant| ReconnectingClient::new(&pair, tenant));
        for (number, id) in pair.ids[tenant].iter().enumerate() {
            for endpoint in [&get, &cancel] {
                let spellings = spelled(endpoint, id);
                let spelling = &spellings[number % spellings.len()];
                let passes = matches!(spelling.expected, Expected::Passes(_));
                let foreign = other.ask(spelling.method, target(spelling));
                let got = asker.ask(spelling.method, target(spelling));
                assert_eq!(got.status() == 200, passes, "{}: {}", target(spelling), got.text());
                if endpoint.method == "POST" && passes {
                    assert_eq!(foreign.status(), 400, "{}", foreign.text());
                    canceled.insert(id.clone());
                } else if passes {
                    let status = |answer: &Message| answer.json()["output"]["task_status"].clone();
                    assert_eq!(
                        (status(&got), status(&foreign)),
                        ("PENDING".into(), "UNKNOWN".into()),
                        "{id}"
                    );
                }
            }
        }
    }
    let at_upstream =
        pair.simulator.tasks().into_iter().filter(|task| task.status == sim::SimulatedStatus::Canceled);
    assert_eq!(at_upstream.map(|task| task.id).collect::<BTreeSet<_>>(), canceled);
    assert!(canceled.len() > TASKS / 4, "{}", canceled.len());
}

/// The ids on a page of the list, and the number of rows on all pages.
fn page(asker: &mut ReconnectingClient, target: &str) -> (Vec<String>, u64) {
    let got = asker.ask("GET", target);
    assert_eq!(got.status(), 200, "{target}: {}", got.text());
    let page = got.json();
    let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&page),
        ["data", "page_no", "page_size", "request_id", "total", "total_page"],
        "{target}"
    );
    let rows = page["data"].as_array().expect("rows");
    for row in rows {
        // Fields such as `api_key_id` and `caller_uid` are left out: they are the account's.
        assert_eq!(names(row), ["gmt_create", "model_name", "status", "task_id"], "{target}");
    }
    let ids = rows.iter().map(|row| row["task_id"].as_str().expect("text").to_owned());
    (ids.collect(), page["total"].as_u64().expect("a number"))
}

#[test]
fn a_list_is_ones_own_thousand_however_it_is_asked_for() {
    let pair = TwoTenants::new();
    let list = endpoints::all().into_iter().find(|row| row.path == "/api/v1/tasks" && row.query.is_empty());
    let honest: Vec<String> = spelled(&list.expect("a row"), "")
        .iter()
        .filter(|spelling| matches!(spelling.expected, Expected::Local(200)))
        .map(|spelling| target(spelling).to_owned())
        .collect();
    assert!(honest.len() >= 9, "{honest:?}");
    for tenant in [0, 1] {
        let mut asker = ReconnectingClient::new(&pair, tenant);
        let (own, foreign) = (&pair.ids[tenant], &pair.ids[1 - tenant]);
        let whole: HashSet<&str> = own.iter().map(String::as_str).collect();
        for (number, path) in honest.iter().enumerate() {
            let size = [100, 37, 1_000_000][number % 3];
            let pages = TASKS.div_ceil(size.min(100));
            let mut listed = Vec::new();
            for number in 1..=pages + 1 {
                let (ids, total) = page(&mut asker, &format!("{path}?page_no={number}&page_size={size}"));
                assert_eq!((total, ids.is_empty()), (TASKS as u64, number > pages), "{path}");
                listed.extend(ids);
            }
            assert_eq!(listed.len(), TASKS, "{path}");
            assert_eq!(listed.iter().map(String::as_str).collect::<HashSet<_>>(), whole, "{path}");
        }
        let mut count = |query: &str| page(&mut asker, &format!("/wan/v1/tasks?{query}")).1;
        let (all, model) = (TASKS as u64, MODELS[tenant]);
        for (query, total) in [
            ("status=PENDING", all),
            ("status=RUNNING", 0),
            (&*format!("model_name={model}"), all),
            (&*format!("model_name={}", MODELS[1 - tenant]), 0),
            (
                &*format!(
                    "model_name={model}&status=PENDING&start_time=20200101000000&end_time=29990101000000"
                ),
                all,
            ),
            ("end_time=20200101000000", 0),
            ("api_key_id=1&region=cn-beijing&caller_uid=1&workspace_id=llm-1", all),
            (&*format!("task_id={}", own[0]), 1),
            (&*format!("task_id={}", foreign[0]), 0),
            (&*format!("task_id={}&model_name={}", foreign[0], MODELS[1 - tenant]), 0),
        ] {
            assert_eq!(count(query), total, "{query}");
        }
    }
    // The states of the tenants' own tasks were asked for, one by one.
    let own: HashSet<String> =
        pair.ids.iter().flatten().map(|id| format!("GET /api/v1/tasks/{id}")).collect();
    let other: Vec<String> = pair.asked().into_iter().filter(|asked| !own.contains(asked)).collect();
    assert_eq!(other, Vec::<String>::new(), "a list was asked of the upstream");
}

/// The end of an id, in which an invented id differs from the real one.
const TAIL: usize = 12;
/// Largest number of spellings of an endpoint.
const SPELLINGS: usize = 34;
