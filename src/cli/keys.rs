//! `dashgate keys`: a client of a running gateway's admin API.

use std::fmt::Write as _;
use std::io::Read;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, cell, json_line, misused, segment};
use super::tenant_settings;

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
        /// A limit of its own, in place of the one in its tenant's `limits`, like "concurrent_requests=5" or
        /// "submits.requests_per_second=2"; as often as needed.
        #[arg(long = "limit", value_name = "KEY=VALUE")]
        limits: Vec<String>,
        /// Print the answer, with the secret, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a key's end, addresses, note or limits. What is not named stays.
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
        /// A limit of its own, like "concurrent_requests=5"; KEY=null takes one away, and "none" all of them.
        #[arg(long = "limit", value_name = "KEY=VALUE")]
        limits: Vec<String>,
        /// Print the key as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List all keys, those of the configuration too.
    List {
        /// List the keys of this tenant only.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Print each as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give a key a new secret, and show it once. The old one goes on working for a while.
    Rotate {
        id: String,
        /// For how long the old secret still works; "0s" ends it at once.
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
        grace: String,
        /// Print the answer, with the secret, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// End keys for good: they are refused from now on, and what they have open is cut.
    ///
    /// A key of the configuration is removed there.
    Revoke {
        /// The keys.
        #[arg(required_unless_present = "tenant", conflicts_with = "tenant")]
        ids: Vec<String>,
        /// Revoke all keys of this tenant that were made at run time.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Do it; without it, the keys of --tenant are only counted.
        #[arg(long, requires = "tenant")]
        yes: bool,
        /// Print each answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say whose a secret is that was found somewhere: a key, or a browser token. Reads it from standard input.
    ///
    /// Exits with 1 if nobody has it. The secret is compared by its digest, and is neither logged nor kept.
    Find {
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
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
        KeysCommand::Create { tenant, id, expires, addresses, note, limits, json } => {
            let asked = json!({
                "tenant": tenant, "id": id, "expires": expires, "addresses": addresses, "note": note,
                "limits": tenant_settings::read(limits)?,
            });
            let made = gateway.call(Method::POST, "/admin/keys", Some(asked)).await?;
            show(&if *json { json_line(&made) } else { describe(&made, "made") });
        }
        KeysCommand::Set { id, expires, addresses, note, limits, json } => {
            let asked = changes(expires.as_deref(), addresses, note.as_deref(), limits)?;
            let path = format!("/admin/keys/{}", segment(id)?);
            let changed = gateway.call(Method::PATCH, &path, Some(asked)).await?;
            let until = changed["expires_at"].as_str().map(|until| format!(", until {until}"));
            let told = || format!("{id}: changed{}\n", until.unwrap_or_default());
            show(&if *json { json_line(&changed) } else { told() });
        }
        KeysCommand::Rotate { id, grace, json } => {
            let path = format!("/admin/keys/{}/rotate", segment(id)?);
            let made = gateway.call(Method::POST, &path, Some(json!({ "grace": grace }))).await?;
            show(&if *json { json_line(&made) } else { describe(&made, "rotated") });
        }
        KeysCommand::Revoke { ids, tenant: None, yes: _, json } => revoke(&gateway, ids, *json, show).await?,
        KeysCommand::Revoke { ids: _, tenant: Some(tenant), yes, json } => {
            revoke_all(&gateway, tenant, *yes, *json, show).await?;
        }
        KeysCommand::Find { json } => {
            let secret = read_secret(std::io::stdin().lock())?;
            let asked = json!({ "secret": secret });
            let found = gateway.call(Method::POST, "/admin/keys/find", Some(asked)).await?;
            show(&if *json { json_line(&found) } else { describe_found(&found) });
        }
        KeysCommand::List { tenant, json } => list(&gateway, tenant.as_deref(), *json, show).await?,
    }
    Ok(())
}

async fn list(
    gateway: &AdminClient,
    tenant: Option<&str>,
    json: bool,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let path = match tenant {
        Some(tenant) => format!("/admin/keys?tenant={}", segment(tenant)?),
        None => "/admin/keys".to_owned(),
    };
    if json {
        return gateway.list(&path, "keys", show).await;
    }
    let heads =
        ["ID", "TENANT", "SOURCE", "STATUS", "CREATED", "EXPIRES", "OLD SECRET UNTIL", "LAST USE", "NOTE"];
    let cells = |key: &Value| {
        let old = key["old_until"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let old = old.max().unwrap_or("-").to_owned();
        let [id, tenant, source, status, created, expires, used, note] =
            ["id", "tenant", "source", "status", "created_at", "expires_at", "last_used_at", "note"]
                .map(|name| cell(key, name));
        [id, tenant, source, status, created, expires, old, used, note]
    };
    gateway.table(&path, "keys", heads, cells, show).await.map(drop)
}

/// Revokes keys one after another. A key that can't be revoked keeps no other from it.
async fn revoke(
    gateway: &AdminClient,
    ids: &[String],
    json: bool,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let paths = ids.iter().map(|id| Ok(format!("/admin/keys/{}", segment(id)?)));
    let paths: Vec<String> = paths.collect::<Result<_, AdminFailure>>()?;
    let mut problems = Vec::new();
    for (id, path) in ids.iter().zip(&paths) {
        match gateway.call(Method::DELETE, path, None).await {
            Ok(revoked) => {
                let told =
                    || format!("{id}: revoked; it is refused from now on, and what it has open is cut\n");
                show(&if json { json_line(&revoked) } else { told() });
            }
            Err(failure) => problems.push(failure.problem),
        }
    }
    if problems.len() > 1 {
        problems.insert(0, format!("{} of {} keys were not revoked:", problems.len(), ids.len()));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(AdminFailure { problem: problems.join("\n"), usage: false, code: None })
    }
}

/// Revokes the keys of a tenant that were made at run time, or says how many there are.
async fn revoke_all(
    gateway: &AdminClient,
    tenant: &str,
    is_sure: bool,
    json: bool,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let path = format!("/admin/keys?tenant={}", segment(tenant)?);
    let (mut ids, mut configured, mut listed) = (Vec::new(), Vec::new(), 0);
    let collect = |key: &Value| {
        let id = key["id"].as_str().unwrap_or_default().to_owned();
        listed += 1;
        match (key["source"].as_str(), key["status"].as_str()) {
            (Some("config"), _) => configured.push(id),
            (_, Some("revoked" | "expired")) => {}
            _ => ids.push(id),
        }
    };
    gateway.each(&path, "keys", collect).await?;
    if listed == 0 {
        // A name that no tenant has is told as such.
        gateway.call(Method::GET, &format!("/admin/tenants/{tenant}"), None).await?;
    }
    if !ids.is_empty() && !is_sure {
        let (count, ids) = (ids.len(), ids.join(" "));
        return Err(misused(&format!(
            "{count} key(s) of {tenant} would be revoked; add --yes to do it: {ids}"
        )));
    }
    revoke(gateway, &ids, json, &show).await?;
    if json {
        return Ok(());
    }
    show(&format!("{tenant}: {} key(s) revoked\n", ids.len()));
    if !configured.is_empty() {
        let (count, ids) = (configured.len(), configured.join(" "));
        show(&format!("{count} key(s) of the configuration stay: remove them there, and reload: {ids}\n"));
    }
    Ok(())
}

/// Reads a secret: one line.
fn read_secret(from: impl Read) -> Result<String, AdminFailure> {
    let mut text = String::new();
    let read = from.take(MOST_SECRET_BYTES + 1).read_to_string(&mut text);
    let is_line =
        read.is_ok_and(|bytes| bytes as u64 <= MOST_SECRET_BYTES) && !text.trim().contains(['\n', '\r']);
    let secret = text.trim();
    if !is_line || secret.is_empty() {
        return Err(misused("give the secret on standard input, alone on one line"));
    }
    Ok(secret.to_owned())
}

/// A line about the key of a secret, and one about how to end it.
fn describe_found(found: &Value) -> String {
    let text = |name: &str| found[name].as_str().unwrap_or("-");
    let (id, source) = (text("id"), text("source"));
    let kind = if text("secret") == "browser_token" { "a browser token of the key" } else { "the key" };
    let made = if source == "config" { "of the configuration" } else { "made at run time" };
    let status = match text("status") {
        "live" => "it works",
        "grace" => "it works on for a while: the key has a newer secret",
        "expired" => "it has expired",
        "revoked" => "it was revoked",
        "shadowed" => "it is refused: the configuration has a key of this id",
        "no_tenant" => "it is refused: its tenant is not configured",
        other => other,
    };
    let until = found["expires_at"].as_str().map(|until| format!(" (end: {until})")).unwrap_or_default();
    let todo = match (text("status"), source) {
        ("live" | "grace", "config") => {
            format!("To end it, remove {id} from the configuration, and reload.\n")
        }
        ("live" | "grace", _) => format!("To end it: dashgate keys revoke {id}\n"),
        _ => String::new(),
    };
    format!("{id}: {kind}, {made}, of the tenant {}; {status}{until}\n{todo}", text("tenant"))
}

/// The changes that `keys set` names, as the admin API takes them.
fn changes(
    expires: Option<&str>,
    addresses: &[String],
    note: Option<&str>,
    limits: &[String],
) -> Result<Value, AdminFailure> {
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
    if let Some(first) = limits.first() {
        let none = limits.len() == 1 && first == "none";
        let limits = if none { Value::Null } else { tenant_settings::read(limits)?.into() };
        changes.insert("limits".to_owned(), limits);
    }
    Ok(changes.into())
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

/// A secret is much shorter.
const MOST_SECRET_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line() {
        for text in ["sk-a", "sk-a\n", " sk-a\r\n\n"] {
            assert_eq!(read_secret(text.as_bytes()).ok().as_deref(), Some("sk-a"), "{text:?}");
        }
        let long = "a".repeat(4097);
        for text in ["", "\n", "sk-a\nsk-b", &long] {
            assert!(read_secret(text.as_bytes()).is_err_and(|failure| failure.usage), "{}", text.len());
        }
        assert!(read_secret(&b"\xff"[..]).is_err());
    }
}
