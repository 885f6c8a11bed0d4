//! `dashgate webhooks`: a client of a running gateway's admin API.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, cell, json_line, misused, segment};

/// Show what became of the webhooks of tenants, try their endpoints, and send again.
///
/// Deliveries are kept for seven days. The admin token is taken from $DASHGATE_ADMIN_TOKEN. Exits with 0 when it is done, 1
/// when not, 64 for bad usage.
#[derive(Debug, Args)]
pub struct WebhooksOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Debug, Subcommand)]
enum WebhooksCommand {
    /// List deliveries, newest first.
    List {
        /// Only those of a tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Only those in this state: waiting, delivered or given_up.
        #[arg(long)]
        state: Option<String>,
        /// Print each as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send an event of the type webhook.test to all endpoints of a tenant.
    Test {
        /// The tenant.
        tenant: String,
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send a delivery again, under its id.
    Redeliver {
        /// The delivery's id, which the endpoint gets as webhook-id.
        id: String,
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
    options: &WebhooksOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    match &options.command {
        WebhooksCommand::List { tenant, state, json } => {
            list(&gateway, tenant.as_deref(), state.as_deref(), *json, show).await
        }
        WebhooksCommand::Test { tenant, json } => {
            let asked = json!({ "tenant": segment(tenant)? });
            let sent = gateway.call(Method::POST, "/admin/webhooks/test", Some(asked)).await?;
            let ids = sent["deliveries"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let told = || ids.map(|id| format!("{id}: on its way\n")).collect::<String>();
            show(&if *json { json_line(&sent) } else { told() });
            Ok(())
        }
        WebhooksCommand::Redeliver { id, json } => {
            let path = format!("/admin/webhooks/deliveries/{}/redeliver", segment(id)?);
            let begun = gateway.call(Method::POST, &path, None).await?;
            show(&if *json { json_line(&begun) } else { format!("{id}: on its way again\n") });
            Ok(())
        }
    }
}

async fn list(
    gateway: &AdminClient,
    tenant: Option<&str>,
    state: Option<&str>,
    json: bool,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let mut filters = Vec::new();
    for (name, value) in [("tenant", tenant), ("state", state)] {
        if let Some(value) = value {
            filters.push(format!("{name}={}", segment(value)?));
        }
    }
    let mark = if filters.is_empty() { "" } else { "?" };
    let path = format!("/admin/webhooks/deliveries{mark}{}", filters.join("&"));
    if state.is_some_and(|state| !["waiting", "delivered", "given_up"].contains(&state)) {
        return Err(misused("--state takes waiting, delivered or given_up"));
    }
    let name = "deliveries";
    if json {
        return gateway.list(&path, name, show).await;
    }
    let heads = ["ID", "TENANT", "EVENT", "STATE", "TRIES", "CREATED", "URL", "PROBLEM"];
    let cells = |delivery: &Value| {
        let fields = ["id", "tenant", "event", "state", "tries", "created_at", "url", "problem"];
        fields.map(|field| cell(delivery, field))
    };
    gateway.table(&path, name, heads, cells, show).await.map(drop)
}
