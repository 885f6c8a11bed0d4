//! `dashgate health`: whether a running gateway is ready, for containers without a shell or an HTTP client.

use clap::Args;

use super::admin_client::{AdminFailure, AdminOptions, HealthClient};

/// Say whether a running gateway is ready, as /readyz of its admin listener does. Needs no token.
///
/// Exits with 0 when it is ready, 1 when not, 64 for bad usage.
#[derive(Debug, Args)]
pub struct HealthOptions {
    #[command(flatten)]
    gateway: AdminOptions,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; `show` prints its output.
///
/// # Errors
/// The [`AdminFailure`], also where the gateway is not ready.
pub async fn run(options: &HealthOptions, show: impl Fn(&str)) -> Result<(), AdminFailure> {
    let readiness = HealthClient::new(&options.gateway)?.readiness().await?;
    if options.json {
        show(&format!("{}\n", readiness.answer));
    }
    match readiness.problem {
        None => {
            if !options.json {
                show("ready\n");
            }
            Ok(())
        }
        Some(problem) => Err(AdminFailure { problem, usage: false, code: None }),
    }
}
