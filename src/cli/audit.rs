//! `dashgate audit`: a client of a running gateway's admin API.

use clap::Args;
use serde_json::Value;

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, cell, query};

/// Show who asked for which change, and how it ended, the newest first.
///
/// The gateway keeps this for 400 days, and a million changes at most. The admin token is taken from
/// $DASHGATE_ADMIN_TOKEN. Exits with 0 when it is done, 1 when not, 64 for bad usage.
///
/// Examples:
///   dashgate audit --by night-shift
///   dashgate audit --object key/acme-prod
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct AuditOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    /// Show changes by the admin token of this name only; "" stands for the token without a name.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Show changes of this thing only: its kind and name, like key/acme-prod or tenant/acme.
    #[arg(long, value_name = "OBJECT")]
    object: Option<String>,
    /// Print each as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`AdminFailure`].
pub async fn run(
    options: &AuditOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    let path = format!("/admin/audit{}", query([("by", &options.by), ("object", &options.object)]));
    if options.json {
        return gateway.list(&path, "audit", show).await;
    }
    let heads = ["AT", "BY", "ACTION", "OBJECT", "EFFECT", "OUTCOME", "PEER", "REPLICA", "MORE"];
    let cells = |row: &Value| {
        let [at, by, action, object, effect, outcome, peer, replica] =
            ["at", "by", "action", "object", "effect", "outcome", "peer", "replica"]
                .map(|name| cell(row, name));
        [at, by, action, object, effect, outcome, peer, replica, detail(&row["detail"])]
    };
    gateway.table(&path, "audit", heads, cells, show).await.map(drop)
}

/// Facts beside the columns, as `name=value`.
fn detail(detail: &Value) -> String {
    let facts = detail.as_object().into_iter().flatten();
    facts.map(|(name, _)| format!("{name}={}", cell(detail, name))).collect::<Vec<_>>().join(" ")
}
