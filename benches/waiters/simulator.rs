//! The simulated DashScope as a process, with its report of calls and tasks.

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::client::{Client, json};
use crate::rig::process::{Process, Taken, address_after};

pub(crate) struct Simulator {
    process: Process,
    pub(crate) address: SocketAddr,
}

/// Limits of the simulated account, and the rate at which its tasks end.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    pub(crate) query_qps: u32,
    pub(crate) page_size_max: u64,
    pub(crate) ends_per_second: usize,
    pub(crate) run_jitter: f64,
}

impl Account {
    /// Number of tasks of a model that run at a time.
    pub(crate) fn running(self) -> usize {
        self.ends_per_second * RUN_SECONDS
    }
}

impl Simulator {
    pub(crate) fn start(account: Account) -> io::Result<Simulator> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
        command.env("RUST_LOG", "info").arg("sim");
        for (name, value) in [
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--key", UPSTREAM_KEY.to_owned()),
            ("--query-qps", account.query_qps.to_string()),
            ("--page-size-max", account.page_size_max.to_string()),
            ("--submit-rps", u32::MAX.to_string()),
            ("--running", account.running().to_string()),
            ("--run-seconds", RUN_SECONDS.to_string()),
            ("--run-jitter", account.run_jitter.to_string()),
            ("--journal", "100".to_owned()),
        ] {
            command.args([name, &value]);
        }
        let process = Process::start(&mut command)?;
        let line = process.line_with(LISTENING)?;
        Ok(Simulator { address: address_after(&line, LISTENING)?, process })
    }

    pub(crate) fn taken(&self) -> Taken {
        self.process.taken()
    }

    pub(crate) async fn calls(&self) -> io::Result<Calls> {
        let page = self.page("/sim/calls").await?;
        let of = |kind: &str| {
            let counted = &page["main"][kind];
            let number = |name: &str| counted[name].as_u64().unwrap_or(0);
            Count {
                arrived: number("arrived"),
                refused: number("refused"),
                busiest_second: number("busiest_second"),
            }
        };
        Ok(Calls { queries: of("query"), lists: of("list") })
    }

    pub(crate) async fn tasks(&self) -> io::Result<Vec<Task>> {
        let page = self.page("/sim/tasks").await?;
        let rows = page.as_array().ok_or_else(|| io::Error::other("/sim/tasks gave no list"))?;
        Ok(rows.iter().map(Task::of).collect())
    }

    async fn page(&self, path: &str) -> io::Result<Value> {
        json(Client::new(self.address, UPSTREAM_KEY).get(path).await?)
    }
}

/// Counts of one kind of call, from the upstream's side.
#[derive(Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) arrived: u64,
    pub(crate) refused: u64,
    pub(crate) busiest_second: u64,
}

pub(crate) struct Calls {
    pub(crate) queries: Count,
    pub(crate) lists: Count,
}

/// A task, when it ended, and when the upstream first said so.
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) ended: Option<SystemTime>,
    /// Time of the first answer to a query that shows the end, with the result.
    pub(crate) answered: Option<SystemTime>,
    /// Time of the first row of a list that shows the end, without the result.
    pub(crate) listed: Option<SystemTime>,
}

impl Task {
    fn of(row: &Value) -> Task {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let at = |name: &str| Some(SystemTime::UNIX_EPOCH + Duration::from_micros(row[name].as_u64()?));
        Task {
            id: text("task_id"),
            model: text("model"),
            ended: at("ended_micros"),
            answered: at("answered_micros"),
            listed: at("listed_micros"),
        }
    }
}

/// A key of the simulator on loopback: nothing that it opens is worth anything.
pub(crate) const UPSTREAM_KEY: &str = "sk-bench-upstream-4f1c9a07";
pub(crate) const RUN_SECONDS: usize = 10;
const LISTENING: &str = "listening on http://";
