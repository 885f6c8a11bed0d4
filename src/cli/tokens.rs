//! `dashgate tokens`: a client of a running gateway's admin API.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::admin_client::{AdminClient, AdminFailure, AdminOptions, json_line};

/// Manage the secret that signs the browser tokens of all tenants.
///
/// The admin token is taken from $DASHGATE_ADMIN_TOKEN. Exits with 0 when it is done, 1 when not, 64 for bad usage.
#[derive(Debug, Args)]
pub struct TokensOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    #[command(subcommand)]
    command: TokensCommand,
}

#[derive(Debug, Subcommand)]
enum TokensCommand {
    /// Sign with a new secret. Tokens that were signed before work on to their end, 1,800 seconds at most.
    Rotate {
        /// Refuse all tokens that were signed before, at once. What they have open runs to its end.
        #[arg(long)]
        now: bool,
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
    options: &TokensOptions,
    token: Option<String>,
    show: impl Fn(&str),
) -> Result<(), AdminFailure> {
    let gateway = AdminClient::new(&options.gateway, token)?;
    let TokensCommand::Rotate { now, json } = &options.command;
    let asked = now.then(|| json!({ "now": true }));
    let rotated = gateway.call(Method::POST, "/admin/tokens/rotate", asked).await?;
    let until = rotated["old_until"].as_str().unwrap_or("-");
    let told = || {
        if *now {
            "rotated: tokens that were signed before are refused from now on\n".to_owned()
        } else {
            format!("rotated: tokens that were signed before work until {until} at the latest\n")
        }
    };
    show(&if *json { json_line(&rotated) } else { told() });
    Ok(())
}
