//! `dashgate reload`: a client of a running gateway's admin API.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, json_line};

/// Have a running gateway load its configuration's file anew. A file with faults changes nothing.
///
/// A gateway also does so by itself when the file changes, and at SIGHUP. The admin token is taken from
/// $DASHGATE_ADMIN_TOKEN. Exits with 0 when it is done, 1 when not, 64 for bad usage.
#[derive(Debug, Args)]
pub struct ReloadOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`AdminFailure`], with the faults of the file.
pub async fn run(
    options: &ReloadOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    let reloaded = gateway.call(Method::POST, "/admin/reload", None).await?;
    show(&if options.json { json_line(&reloaded) } else { describe(&reloaded) });
    Ok(())
}

fn describe(reloaded: &Value) -> String {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut shown = "reloaded\n".to_owned();
    for (kind, change) in reloaded["changes"].as_object().into_iter().flatten() {
        for (how, names) in change.as_object().into_iter().flatten() {
            let names = texts(names);
            if !names.is_empty() {
                shown += &format!("{kind} {how}: {}\n", names.join(", "));
            }
        }
        let settings = texts(change);
        if !settings.is_empty() {
            shown += &format!("{kind} changed: {}\n", settings.join(", "));
        }
    }
    let waiting = texts(&reloaded["needs_restart"]);
    if !waiting.is_empty() {
        shown += &format!("takes effect at the next start only: {}\n", waiting.join(", "));
    }
    for warning in reloaded["warnings"].as_array().into_iter().flatten() {
        let text = |name: &str| warning[name].as_str().unwrap_or_default();
        shown += &format!("warning: {}: {}\n", text("path"), text("problem"));
    }
    shown
}
