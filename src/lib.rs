//! dashgate: a transparent reverse proxy for Alibaba Cloud's DashScope.
//!
//! # The life of a request
//!
//! ```text
//!  client ─▶ server ─▶ proxy::serve ─────────────────────────────────────────────────────────────────────────────────┐
//!                       │ route ▶ authenticate ▶ admit ▶ authorize ▶ inspect ▶ resolve ▶ choose ▶ pace ▶ rewrite ▶ forward ─▶ DashScope
//!                       │ poll ◀── a query for a task ──┘                        again, at another ▲                     │
//!                       │ respond ◀── Rejection ◀── any stage                  account or key ──────────── judge         ▼
//!                       └─ observe(body, exchange) ◀── claim ◀────────────────────────────────────────────── rewrite(response)
//! ```
//!
//! In the unified dialect a create is translated into a native submit behind `authorize`, and its answer is presented
//! in that dialect behind `claim`; a finished video is downloaded from storage in place of the stages that send.
//!
//! [`server`] owns the client's side of the wire: a worker is a thread with its own listener, connections
//! and upstream pool, and a request never leaves it. [`proxy`] holds a file per stage. Everything else is a
//! noun that knows nothing of stages.
//!
//! # The map
//!
//! | module | what it is |
//! |---|---|
//! | [`app`] | wires everything together: a config in, bound addresses and a drain out |
//! | [`handover`] | from one process to the next, without an interruption |
//! | [`admin`] | the operator's listener: health, keys, tenants |
//! | [`reload`] | loads the configuration anew, and swaps the directory |
//! | [`listen`] | bound sockets, and the TLS handshake on them |
//! | [`server`] | accept, connection, wire, drain |
//! | [`proxy`] | the life of one request |
//! | [`limits`] | how much a caller may do, and what it has used of it |
//! | [`tasks`] | which tenant owns which task, and how each is: the poll hub |
//! | [`querier`] | asks DashScope how tasks are, for all who want to know |
//! | [`tenant`] | who may call: keys and the directory |
//! | [`account`] | Alibaba accounts: keys, health, choice, the pace of submits, and whose uploads are where |
//! | [`unified`] | the other dialects over the same tasks: their fields, mapped to native bodies and back |
//! | [`upstream`] | connections to DashScope |
//! | [`dashscope`] | its public surface, as data and pure functions |
//! | [`store`] | what outlives the process: tasks and uploads with their owners, virtual keys |
//! | [`config`] | from a file to what is true, with all faults at once |
//! | [`keys`] | the command that manages keys, a client of the admin API |
//! | [`fetch`] | one HTTP/1.1 request on a connection of its own |
//! | [`metrics`] | what Prometheus sees |
//! | [`readiness`], [`liveness`] | whether clients should be sent here, and whether the workers still turn |
//! | [`stopwatch`] | whose time an exchange takes |
//! | [`supervisor`] | what systemd is told |
//! | [`access_log`] | one line for each exchange |
//! | [`stream`] | a TCP connection with or without TLS, and whom we trust |
//! | [`certificate`] | what a certificate says |
//! | [`traces`] | spans of exchanges, sent out by OTLP |
//! | [`timer`] | deadlines that move with every byte |
//! | [`hush`] | connections that sleep through wakes which nobody needs |
//! | [`sim`] | the DashScope simulator; only the program and the demo may use it |
//! | [`demo`] | both on loopback, and one task from submit to file |
//!
//! A module uses only what lies to its right: `app ▶ server ▶ proxy ▶ tasks, tenant, account, upstream ▶
//! limits, store ▶ config ▶ dashscope`, and `app ▶ admin ▶ reload ▶ tenant, store`. `tests/it/architecture.rs` holds the rule.
//!
//! # Words
//!
//! *Tenant*: who is limited and billed. *Virtual key*: the secret that we issued; its *key id* is what may be
//! logged. *Upstream key*: our DashScope credential. *Account*: one Alibaba Cloud account, one namespace of
//! tasks. *Mount*: a path prefix with its dialect. *Operation*: what a call does. *Permit*, *rejection*: leave
//! to run, refusal. *Claim*, *owner*: to note a new task's id; whose it is. *Exchange*: one request and its
//! answer. *Limit*, *bucket*, *slot*: a rule; how many a second; how many at once. *Drain*, *cut*: to finish what
//! runs; to end it.

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
pub mod server;
pub mod sim;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod tenant;
pub mod unified;
pub mod upstream;
