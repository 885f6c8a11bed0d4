//! `dashgate orphans`: a client of a running gateway's admin API.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, cell, json_line, segment};

/// Show tasks that the accounts have paid for and that no client was told of, and give them to a tenant.
///
/// Orphans come from submits whose answer was lost, or from others who use the account. The gateway looks
/// every five minutes, and soon after a lost answer. The admin token is taken from $DASHGATE_ADMIN_TOKEN. Exits with 0
/// when it is done, 1 when not, 64 for bad usage.
#[derive(Debug, Args)]
pub struct OrphansOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    #[command(subcommand)]
    command: OrphansCommand,
}

#[derive(Debug, Subcommand)]
enum OrphansCommand {
    /// List them, by account and task id.
    List {
        /// Print each as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give one to a tenant, whose task it is from then on. If the tenant sent it with an Idempotency-Key and sends it
    /// again, it gets the task.
    Assign {
        account: String,
        task_id: String,
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// The tenant's key that it is entered for.
        #[arg(long, value_name = "ID")]
        key_id: String,
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`AdminFailure`].
pub async fn run(
    options: &OrphansOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    match &options.command {
        OrphansCommand::List { json } => list(&gateway, *json, show).await,
        OrphansCommand::Assign { account, task_id, tenant, key_id, json } => {
            let path = format!("/admin/orphans/{}/{}/assign", segment(account)?, segment(task_id)?);
            let asked = json!({ "tenant": tenant, "key_id": key_id });
            let assigned = gateway.call(Method::POST, &path, Some(asked)).await?;
            let told = || format!("{task_id}: it is a task of the tenant {tenant} from now on\n");
            show(&if *json { json_line(&assigned) } else { told() });
            Ok(())
        }
    }
}

async fn list(gateway: &AdminClient, json: bool, show: impl Fn(&str)) -> Result<(), AdminFailure> {
    let (path, name) = ("/admin/orphans", "orphans");
    if json {
        return gateway.list(path, name, show).await;
    }
    let heads = ["ACCOUNT", "TASK", "MODEL", "STATUS", "SUBMITTED", "OWN KEY"];
    let cells = |orphan: &Value| {
        let [account, id, model, status, submitted] =
            ["account", "task_id", "model", "status", "submitted_at"].map(|field| cell(orphan, field));
        let own = if orphan["own_key"] == true { "yes" } else { "no" };
        [account, id, model, status, submitted, own.to_owned()]
    };
    gateway.table(path, name, heads, cells, show).await.map(drop)
}
