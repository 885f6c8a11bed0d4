//! `dashgate keys`: a client of a running gateway's admin API.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

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
        /// Time of its end: "30d", or "2030-01-01T00:00:00Z". Without it, never.
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// A network from where it is good, in place of its tenant's, like "203.0.113.0/24"; as often as needed.
        #[arg(long = "address", value_name = "NETWORK")]
        addresses: Vec<String>,
        /// Words for the operator's eyes; `list` shows them.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Change a key's end, addresses or note. What is not named stays.
    Set {
        id: String,
        /// Time of its end: "30d" from now, or "2030-01-01T00:00:00Z"; "never" takes the end away.
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// A network from where it is good, in place of those that it has; "any" takes them away.
        #[arg(long = "address", value_name = "NETWORK")]
        addresses: Vec<String>,
        /// Words for the operator's eyes; "" takes them away.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
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
        KeysCommand::Create { tenant, id, expires, addresses, note } => {
            let asked = json!({
                "tenant": tenant, "id": id, "expires": expires, "addresses": addresses, "note": note,
            });
            let made = gateway.call(Method::POST, "/admin/keys", Some(asked)).await?;
            show(&describe(&made, "made"));
        }
        KeysCommand::Set { id, expires, addresses, note } => {
            let asked = changes(expires.as_deref(), addresses, note.as_deref());
            let path = format!("/admin/keys/{}", segment(id)?);
            let changed = gateway.call(Method::PATCH, &path, Some(asked)).await?;
            let until = changed["expires_at"].as_str().map(|until| format!(", until {until}"));
            show(&format!("{id}: changed{}\n", until.unwrap_or_default()));
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
    let head = row(["ID", "TENANT", "SOURCE", "STATUS", "CREATED", "EXPIRES", "OLD SECRET UNTIL", "NOTE"]);
    let describe = |key: &Value| {
        let text = |name: &str| key[name].as_str().unwrap_or("-");
        let old = key["old_until"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let old = old.max().unwrap_or("-");
        let (id, tenant, source) = (text("id"), text("tenant"), text("source"));
        let (created, expires) = (text("created_at"), text("expires_at"));
        row([id, tenant, source, text("status"), created, expires, old, text("note")])
    };
    gateway.list(&path, "keys", &head, describe, show).await.map(drop)
}

fn row([id, tenant, source, status, created, expires, old, note]: [&str; 8]) -> String {
    format!("{id:<24} {tenant:<16} {source:<7} {status:<9} {created:<20} {expires:<20} {old:<20} {note}\n")
}

/// The changes that `keys set` names, as the admin API takes them.
fn changes(expires: Option<&str>, addresses: &[String], note: Option<&str>) -> Value {
    let mut changes = Map::new();
    if let Some(expires) = expires {
        changes.insert("expires".to_owned(), (expires != "never").then_some(expires).into());
    }
    if let Some(first) = addresses.first() {
        let none = addresses.len() == 1 && first == "any";
        changes.insert("addresses".to_owned(), if none { Value::Null } else { addresses.into() });
    }
    if let Some(note) = note {
        changes.insert("note".to_owned(), note.into());
    }
    changes.into()
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
