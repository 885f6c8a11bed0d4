//! `dashgate keys`: a client of a running gateway's admin API.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, segment};

/// Manage the virtual keys of a running gateway, through its admin API.
///
/// The admin token is taken from $DASHGATE_ADMIN_TOKEN. A secret is shown once, when it is made: only its
/// digest is kept. Exits with 0 when it is done, 1 when not, 64 for bad usage.
#[derive(Debug, Args)]
pub struct KeysOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key for a tenant, and show its secret once.
    Create {
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// The key's name in logs and lists; without it, one is made.
        #[arg(long)]
        id: Option<String>,
        /// When it ends: "30d", or "2030-01-01T00:00:00Z". Without it, never.
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
    },
    /// List all keys, those of the configuration too.
    List {
        /// List the keys of this tenant only.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
    },
    /// Give a key a new secret, and show it once. The old one goes on working for a while.
    Rotate {
        id: String,
        /// For how long the old secret still works; "0s" ends it at once.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        grace: String,
    },
    /// End a key for good: it is refused from now on, and what it has open is cut.
    Revoke { id: String },
}

fn duration(text: &str) -> Result<String, humantime::DurationError> {
    humantime::parse_duration(text).map(|_: Duration| text.to_owned())
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`AdminFailure`].
pub async fn run(
    options: &KeysOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    match &options.command {
        KeysCommand::Create { tenant, id, expires } => {
            let asked = json!({ "tenant": tenant, "id": id, "expires": expires });
            let made = gateway.call(Method::POST, "/admin/keys", Some(asked)).await?;
            show(&describe(&made, "made"));
        }
        KeysCommand::Rotate { id, grace } => {
            let path = format!("/admin/keys/{}/rotate", segment(id)?);
            let made = gateway.call(Method::POST, &path, Some(json!({ "grace": grace }))).await?;
            show(&describe(&made, "rotated"));
        }
        KeysCommand::Revoke { id } => {
            gateway.call(Method::DELETE, &format!("/admin/keys/{}", segment(id)?), None).await?;
            show(&format!("{id}: revoked; it is refused from now on, and what it has open is cut\n"));
        }
        KeysCommand::List { tenant } => list(&gateway, tenant.as_deref(), show).await?,
    }
    Ok(())
}

async fn list(gateway: &AdminClient, tenant: Option<&str>, show: impl Fn(&str)) -> Result<(), AdminFailure> {
    let path = match tenant {
        Some(tenant) => format!("/admin/keys?tenant={}", segment(tenant)?),
        None => "/admin/keys".to_owned(),
    };
    let head = row(["ID", "TENANT", "SOURCE", "STATUS", "CREATED", "EXPIRES", "OLD SECRET UNTIL"]);
    let describe = |key: &Value| {
        let text = |name: &str| key[name].as_str().unwrap_or("-");
        let old = key["old_until"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let old = old.max().unwrap_or("-");
        let (id, tenant, source) = (text("id"), text("tenant"), text("source"));
        row([id, tenant, source, text("status"), text("created_at"), text("expires_at"), old])
    };
    gateway.list(&path, "keys", &head, describe, show).await.map(drop)
}

fn row([id, tenant, source, status, created, expires, old]: [&str; 7]) -> String {
    format!("{id:<24} {tenant:<16} {source:<7} {status:<9} {created:<20} {expires:<20} {old}\n")
}

fn describe(made: &Value, what: &str) -> String {
    let text = |name: &str| made[name].as_str().unwrap_or("-");
    let mut output = format!("{}: {what}, for the tenant {}", text("id"), text("tenant"));
    if let Some(until) = made["expires_at"].as_str() {
        let _ = write!(output, ", until {until}");
    }
    if let Some(until) = made["old_until"].as_str() {
        let _ = write!(output, "; the old secret works until {until}");
    }
    let _ = write!(output, "\n\n  {}\n\nKeep it now: it is not shown again.\n", text("key"));
    output
}
