//! `dashgate accounts`: a client of a running gateway's admin API.

use clap::Args;
use serde_json::Value;

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, cell};

/// Show the accounts of a running gateway: which of them, of their keys and of their models rest, why, and for how long.
///
/// Each replica tells what it knows itself. The admin token is taken from $DASHGATE_ADMIN_TOKEN. Exits
/// with 0 when it is done, 1 when not, 64 for bad usage.
#[derive(Debug, Args)]
pub struct AccountsOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    /// Print each as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`AdminFailure`].
pub async fn run(
    options: &AccountsOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    let (path, name) = ("/admin/accounts", "accounts");
    if options.json {
        return gateway.list(path, name, show).await;
    }
    let cells = |account: &Value| {
        [cell(account, "name"), cell(account, "host"), cell(account, "weight"), resting(account)]
    };
    gateway.table(path, name, ["ACCOUNT", "HOST", "WEIGHT", "RESTS"], cells, show).await.map(drop)
}

/// All that rests of an account, as `key 1: arrears (60 s)`.
fn resting(account: &Value) -> String {
    let own = [("all of it".to_owned(), &account["resting"])];
    let of = |list: &str, kind: &str, name: &str| -> Vec<(String, &Value)> {
        let items = account[list].as_array().into_iter().flatten();
        items.map(|item| (format!("{kind} {}", cell(item, name)), &item["resting"])).collect()
    };
    let all = own.into_iter().chain(of("keys", "key", "key")).chain(of("models", "model", "model"));
    let told = all
        .filter(|(_, rest)| !rest.is_null())
        .map(|(what, rest)| format!("{what}: {} ({} s)", cell(rest, "cause"), cell(rest, "seconds_left")));
    let told: Vec<String> = told.collect();
    if told.is_empty() { "-".to_owned() } else { told.join(", ") }
}
