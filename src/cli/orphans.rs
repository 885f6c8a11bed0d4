//! `dashgate orphans`: a client of a running gateway's admin API.

use clap::{Args, Subcommand};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, segment};

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
        OrphansCommand::Assign { account, task_id, tenant, key_id } => {
            let path = format!("/admin/orphans/{}/{}/assign", segment(account)?, segment(task_id)?);
            let asked = json!({ "tenant": tenant, "key_id": key_id });
            gateway.call(Method::POST, &path, Some(asked)).await?;
            show(&format!("{task_id}: it is a task of the tenant {tenant} from now on\n"));
            Ok(())
        }
    }
}

/// Lists the orphans page by page, so that any number can be listed.
async fn list(gateway: &AdminClient, json: bool, show: impl Fn(&str)) -> Result<(), AdminFailure> {
    let path = format!("/admin/orphans?limit={PAGE}");
    let mut page = gateway.call(Method::GET, &path, None).await?;
    if !json {
        show(&row(["ACCOUNT", "TASK", "MODEL", "STATUS", "SUBMITTED", "OWN KEY"]));
    }
    loop {
        for orphan in page["orphans"].as_array().into_iter().flatten() {
            if json {
                show(&format!("{orphan}\n"));
                continue;
            }
            let text = |name: &str| orphan[name].as_str().unwrap_or("-");
            let own = if orphan["own_key"] == true { "yes" } else { "no" };
            let (account, id, model) = (text("account"), text("task_id"), text("model"));
            show(&row([account, id, model, text("status"), text("submitted_at"), own]));
        }
        let Some(next) = page["next"].as_str() else { return Ok(()) };
        let next = utf8_percent_encode(next, NON_ALPHANUMERIC);
        page = gateway.call(Method::GET, &format!("{path}&after={next}"), None).await?;
    }
}

fn row([account, id, model, status, submitted, own]: [&str; 6]) -> String {
    format!("{account:<16} {id:<36} {model:<24} {status:<9} {submitted:<20} {own}\n")
}

const PAGE: usize = 1000;
