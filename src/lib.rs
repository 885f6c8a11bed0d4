//! dashgate: a transparent reverse proxy for Alibaba Cloud's DashScope.
//!
//! This page is the map for people who change the source: the life of a request, the rooms and their order, what a change
//! may touch, and the words.
//!
//! # The idea
//!
//! **Stages are verbs, state is nouns.** [`proxy`] holds one file for each stage of a request, named by a verb. Every other
//! room is a noun that knows nothing of stages.
//!
//! **Proofs, not flags.** A `Permit` exists only if admission passed. An `Outbound` is made only by `rewrite`, only from a
//! `&Permit`, and `forward` sends nothing else. A request that was not admitted, or that still has the tenant's key in a
//! header, cannot be sent.
//!
//! **Exhaustive match.** A decision by operation or dialect is a `match` without a wildcard, so that a new operation or
//! dialect does not compile until each decision is made.
//!
//! **One fact, one place.** Facts are derived, not stored twice. A setting is read from the directory that a request loaded.
//!
//! **Time is an argument.** Functions take `now`; there is no clock trait, and no test sleeps.
//!
//! **A worker thread is a world.** Each worker has its own runtime, listener, connections and upstream pool, and a request
//! never leaves its worker. Shared state (directory, limiters, task records) is behind `Arc`, atomics and sharded maps.
//! Slow work (disk, large JSON) never runs on a worker.
//!
//! # The life of a request
//!
//! ```text
//!  client ─▶ server ─▶ proxy::serve ────────────────────────────────────────────────────────────────────────┐
//!                       │ route ▶ authenticate ▶ admit ▶ authorize ▶ inspect ▶ resolve ▶ send ───────────▶ DashScope
//!                       │   poll ◀── a query for a task ──┘         send: choose ▶ pace ▶ rewrite ▶ forward ▶ classify
//!                       │ respond ◀── Rejection ◀── any stage             ▲ at another account or key ─────────┘  ▼
//!                       └─ observe(body, exchange) ◀── claim ◀──────────────────────────────── rewrite(response)
//! ```
//!
//! - `authorize` (does this task belong to this tenant?) comes after `admit`, so that guesses of task ids use up the limits
//!   of the guesser's own key.
//! - A submit with an `Idempotency-Key` is noted before it is sent; `replay` answers one that comes again.
//! - `reserve` (hold the greatest possible cost of a call whose tenant's money is limited) stands in `send`, between `pace`
//!   and `rewrite`: a call that can't be paid for is never sent.
//! - `claim` (record durably whose task this is) completes before the client sees the task's id.
//! - A submit whose answer is lost is in doubt. The querier searches the account's list for its task, and `adopt` gives the
//!   task to its tenant, or frees the submit's `Idempotency-Key`.
//! - `observe` counts each byte of the answer, and `meter` reads from a copy what the call used. When the answer's body is
//!   dropped, however the request ended, its exchange frees the permit and records metrics, spans and the access log once.
//! - In the unified dialect a create is translated into a native submit after `authorize`, and its answer is translated back
//!   after `claim`. The file of a finished video is downloaded from storage in place of `send`.
//!
//! # The map
//!
//! | room | what it holds |
//! |---|---|
//! | [`app`] | the wiring: a configuration in, bound addresses and a drain handle out |
//! | [`cli`] | the commands that are clients of a running gateway (`keys`, `usage`), the check of keys and store, and the demo |
//! | [`server`] | the client's side of the wire: accept, connection, HTTP/1.1 head checks, parked connections, drain |
//! | [`admin`] | the operator's listener: health, metrics, the admin API |
//! | [`lifecycle`] | reload, hand-over to a new process, housekeeping, readiness, liveness, signals, notices to systemd |
//! | [`proxy`] | the life of one request: a file for each stage |
//! | [`polling`] | the poll hub: what is known of each running task, which client waits for it, which query comes next |
//! | [`webhooks`] | telling tenants of a task's end, of budgets and of keys: payloads, signatures, the sender |
//! | [`upstream`] | connections to DashScope and to object storage: pool, bodies |
//! | [`tasks`] | which tenant owns which task: the task index and its pages |
//! | [`tenant`] | who may call: virtual keys, certificates, tenants made at run time, the directory |
//! | [`account`] | Alibaba accounts: keys, health, cooldown, choice, pace of submits, owners of uploads |
//! | [`limits`] | rates, slots, tasks in flight, auth failures, money held for calls that run |
//! | [`telemetry`] | metrics, access log, traces, stopwatch |
//! | [`reports`] | sums of the ledger's entries, as operators and tenants ask for them; budgets as they stand |
//! | [`store`] | durable state: tasks and uploads with their owners, virtual keys, submits that may be repeated, the ledger, money held for tasks, the audit, last uses of keys; the replay of changes |
//! | [`config`] | from the file to a checked `Config`; all faults at once, with line and column |
//! | [`net`] | streams, TLS, certificates, timers, dialling and egress proxies, a one-shot HTTP client, the tests for public addresses and for hosts of this machine |
//! | [`usage`] | money: prices, what a use costs by them, budgets, the zone of days |
//! | [`unified`] | the unified dialect: its fields mapped to native bodies, and tasks shown as videos |
//! | [`dashscope`] | DashScope's public surface as data and pure functions; it imports nothing of ours |
//! | [`sim`] | the DashScope simulator; only the program, the demo and tests use it |
//!
//! The table is in order: a room uses only rooms below it. Only [`app`], [`cli`] and the program may use all, because they
//! wire the rooms together. `tests/it/architecture/rooms.rs` holds the rule for each room. If a rule must change, change that
//! table first, with a reason.
//!
//! # What a change may touch
//!
//! | change | where |
//! |---|---|
//! | a mount | a row in the configuration |
//! | an operation | a variant with its row of facts in [`dashscope::operation`]; the compiler then lists `admit` and `authorize` |
//! | a dialect | a variant of [`config::Dialect`]; the compiler lists `route` and `submit`; then operations, and its stages in a folder of `proxy/` |
//! | a store engine | `store/embedded` is SQLite's and `store/shared` PostgreSQL's; the statements of both are in `store/sql`, where `database`, `row`, `value` and `fault` alone know which is which |
//! | a refusal | a variant of `proxy::rejection::Rejection` with its row, its label in [`telemetry::metrics::Reason`], and its row in the guide's `refusals.md`, in both languages |
//! | a metric | a family in [`telemetry::metrics`], one line where it is recorded, and its row in the guide's `observability.md` |
//! | a configuration key | a field with its check in [`config`], its lines in the example and in the schema, and its row in the guide's `settings.md`, in both languages; tests compare them |
//! | a stage | a file in `proxy/`, and a line where the stages are called |
//! | a reaction to a task's end | a subscriber in [`polling::TaskEndSubscribers`]; [`polling::TaskEnded`] is emitted once for each task |
//! | an event for webhooks | a variant of [`store::TenantEvent`], its type in [`config::EventType`], its data in `webhooks/payload.rs`, and its row in the guide's `webhooks.md` |
//! | a kind of stored change | a [`store::Change`] variant, its replay, and its rows in the store's file |
//! | a command | a file in `cli/`, and a line in `main.rs` |
//!
//! If a change of such a kind touches more, mend the map first, in a commit of its own. `.github/CONTRIBUTING.md` has the
//! rules for tests, commits and prose.
//!
//! # Words
//!
//! One thing has one name, in code, configuration, metrics, logs and pages.
//!
//! | word | meaning |
//! |---|---|
//! | client, upstream | the two peers of the gateway |
//! | tenant | a team or a customer: who is limited, and pays |
//! | virtual key, key id | the secret that we issued, and its name in logs |
//! | browser token | a short-lived secret for a web page, made with a virtual key |
//! | upstream key | our DashScope credential |
//! | account | one Alibaba Cloud account: one namespace of tasks, one set of quotas, some upstream keys |
//! | mount, dialect | a path prefix, and the API spoken under it |
//! | operation | what a call does, told from method and path |
//! | admit, permit, rejection | let in; leave to run; refusal |
//! | limit, bucket, slot | a declared rule; the state of a rate; a unit of concurrency |
//! | ledger, entry | what was used, by whom; one record of use, written once |
//! | bill | what the simulator would charge, against which tests hold the ledger |
//! | settle | record a task's end with its entry |
//! | price, rate, terms | a row of a list of prices; the price of one unit; the rates of a model for a tenant at a moment |
//! | charge | what an entry of use costs its tenant |
//! | budget, credit, correction | the most that a tenant may spend in a period; money that it paid in; a change of what it was charged |
//! | hold | money that is reserved for what runs: in the store for a submit and its task, in memory for a call |
//! | audit, object | the changes that operators asked for; the thing that was to be changed, as `key/acme-prod` |
//! | claim, owner | record a new task's id; whose task it is |
//! | orphan, adopt | a task on an account's list that no client was told of; give it to its tenant |
//! | exchange, outcome, reason | one request and its answer; how it ended; why it was refused |
//! | directory | the immutable view of tenants, keys and settings between two reloads |
//! | parked connection | an idle keep-alive connection, kept as a bare socket |
//! | poll hub | what is known of all running tasks, and which clients wait for news |
//! | account poller | the part of the poll hub that spends one account's queries |
//! | tracked task | a task that the poll hub follows to its end |
//! | endpoint, delivery | where a tenant is told of events; one event on its way to one endpoint |
//! | lease | the time for which one of several senders has a delivery, or one of several replicas an account |
//! | list scan | a pass over the account's task list, a page at a time |
//! | answer cache | answers of finished tasks, kept byte for byte |
//! | hand-over | a new process takes the sockets of the old one |
//! | drain, revoke | let what runs finish; end what a dead key started |

pub mod account;
pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod dashscope;
pub mod lifecycle;
pub mod limits;
pub mod net;
pub mod polling;
pub mod proxy;
pub mod reports;
pub mod server;
pub mod sim;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod tenant;
pub mod unified;
pub mod upstream;
pub mod usage;
pub mod webhooks;
