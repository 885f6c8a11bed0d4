//! `dashgate tasks`: a client of a running gateway's admin API.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, cell, json_line, query, segment};

/// Look up tasks: whose they are, what is known of them and since when, why they failed, what they cost.
///
/// A running gateway knows the tasks of the last two days, and of older ones what is in the ledger. The admin token is
/// taken from $DASHGATE_ADMIN_TOKEN. Exits with 0 when it is done, 1 when not, 64 for bad usage.
///
/// Examples:
///   dashgate tasks list --tenant acme --status FAILED
///   dashgate tasks list --model "wan2.7-*" --from 2026-12-01T08:00:00Z
///   dashgate tasks show 0385dc79-5ff8-4d82-bcb6-b08628dbf5a5
///   dashgate tasks list --request-id 9f1d6c1e-5a0e-9b57-b8a3-6d1a6a2c7f10
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct TasksOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    #[command(subcommand)]
    command: TasksCommand,
}

#[derive(Debug, Subcommand)]
enum TasksCommand {
    /// List tasks, the newest first.
    List {
        #[command(flatten)]
        filter: TaskFilter,
        /// Print each as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of a task.
    Show {
        /// The task's id, or the id of the request that submitted it: ours or DashScope's.
        id: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask DashScope for a task now, within the account's budget for queries, and show it.
    Refresh {
        id: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct TaskFilter {
    /// List this tenant's tasks only.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// List tasks with this status only: PENDING, RUNNING, SUSPENDED, SUCCEEDED, FAILED, CANCELED or UNKNOWN.
    #[arg(long)]
    status: Option<String>,
    /// List tasks that were submitted with the key of this id only.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// List tasks of this model only; "wan2.7-*" stands for all that begin so.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The first moment of their submits: a date, or RFC 3339.
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// The moment behind the last one.
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// List tasks of this request only: our id, as the access log has it, or DashScope's, as the client has it.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

impl TaskFilter {
    fn query(&self) -> String {
        let Self { tenant, status, key, model, from, to, request_id } = self;
        query([
            ("tenant", tenant),
            ("status", status),
            ("key", key),
            ("model", model),
            ("from", from),
            ("to", to),
            ("request_id", request_id),
        ])
    }
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`AdminFailure`].
pub async fn run(
    options: &TasksOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    match &options.command {
        TasksCommand::List { filter, json } => list(&gateway, filter, *json, show).await,
        TasksCommand::Show { id, json } => {
            let task = task_of(&gateway, id).await?;
            show(&if *json { json_line(&task) } else { describe(&task) });
            Ok(())
        }
        TasksCommand::Refresh { id, json } => {
            let path = format!("/admin/tasks/{}/refresh", segment(id)?);
            let task = gateway.call(Method::POST, &path, None).await?;
            let told = if task["refreshed"] == true {
                "DashScope was asked just now.\n\n"
            } else {
                "DashScope was not asked: the end is known, or it could not be asked in time.\n\n"
            };
            show(&if *json { json_line(&task) } else { told.to_owned() + &describe(&task) });
            Ok(())
        }
    }
}

async fn list(
    gateway: &AdminClient,
    filter: &TaskFilter,
    json: bool,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let (path, name) = (format!("/admin/tasks{}", filter.query()), "tasks");
    if json {
        return gateway.list(&path, name, show).await;
    }
    let heads = ["TASK", "STATUS", "TENANT", "KEY", "MODEL", "ACCOUNT", "SUBMITTED"];
    let cells = |task: &Value| {
        let fields = ["id", "status", "tenant", "key_id", "model", "account", "claimed_at"];
        fields.map(|field| cell(task, field))
    };
    gateway.table(&path, name, heads, cells, show).await.map(drop)
}

/// The task of an id. Where no task has the id, the one task of the request with this id.
async fn task_of(gateway: &AdminClient, id: &str) -> Result<Value, AdminFailure> {
    let found = gateway.call(Method::GET, &format!("/admin/tasks/{}", segment(id)?), None).await;
    let Err(AdminFailure { code: Some(code), .. }) = &found else { return found };
    if code != "no_such_task" {
        return found;
    }
    let of_request = gateway.call(Method::GET, &format!("/admin/tasks?request_id={id}"), None).await?;
    let ids = of_request["tasks"].as_array().into_iter().flatten().filter_map(|task| task["id"].as_str());
    match ids.collect::<Vec<_>>()[..] {
        [] => found,
        [task] => gateway.call(Method::GET, &format!("/admin/tasks/{}", segment(task)?), None).await,
        ref several => {
            let problem = format!("the request {id} has submitted several tasks: {}", several.join(", "));
            Err(AdminFailure { problem, usage: false, code: None })
        }
    }
}

/// A line for each field that is known.
fn describe(task: &Value) -> String {
    let mut shown = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(shown, "{name:<20} {value}");
    };
    for (name, field) in LINES {
        match &task[field] {
            Value::Null => {}
            Value::String(text) => line(name, text),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                line(name, &other.to_string())
            }
        }
    }
    if let Some(cost) = task["cost"].as_str() {
        line("cost", &format!("{cost} {}", task["currency"].as_str().unwrap_or_default()));
    }
    for (name, field) in [("error code", "code"), ("error", "message")] {
        if let Some(text) = task["error"][field].as_str() {
            line(name, text);
        }
    }
    shown
}

const LINES: [(&str, &str); 13] = [
    ("task", "task_id"),
    ("status", "status"),
    ("tenant", "tenant"),
    ("key", "key_id"),
    ("account", "account"),
    ("model", "model"),
    ("submitted", "submitted_at"),
    ("known since", "known_at"),
    ("ended", "ended_at"),
    ("request", "request_id"),
    ("DashScope's request", "submit_request_id"),
    ("its last request", "upstream_request_id"),
    ("usage", "usage"),
];
