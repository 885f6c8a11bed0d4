//! Arguments, logging, signals and exit codes.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use dashgate::app::{self, RunningGateway};
use dashgate::cli::admin_client::AdminFailure;
use dashgate::cli::guide::{self, GuidePlace};
use dashgate::cli::store::{StoreCommand, StoreFailure};
use dashgate::cli::{
    accounts, audit, check, demo, health, keys, orphans, prices, reload, store, tasks, tenants, tokens,
    usage, webhooks,
};
use dashgate::config::{self, AccountSettings, Config, Files, Loaded, StoreSettings};
use dashgate::lifecycle::handover::{self, Successor};
use dashgate::lifecycle::{signals, systemd};
use dashgate::net::descriptors;
use dashgate::sim;
use dashgate::telemetry::diagnostics;

/// Returns the memory of closed and parked connections to the system; `.cargo/config.toml` says how soon.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A transparent reverse proxy for Alibaba Cloud's DashScope: virtual keys, tenants that keep to their own
/// tasks, streams untouched.
#[derive(Debug, Parser)]
#[command(version = VERSION, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    ///
    /// Without a file, and with DASHSCOPE_API_KEY set, it runs as a sidecar: it listens on 127.0.0.1:8080,
    /// takes any key or none from the same host, and puts the upstream key on. DASHGATE_LISTEN,
    /// DASHGATE_ADMIN_LISTEN and DASHGATE_UPSTREAM_URL change the addresses, DASHGATE_STORE_PATH the store's file.
    /// RUST_LOG sets what is logged (default: info).
    ///
    /// SIGTERM stops it, SIGHUP loads the configuration anew, and SIGUSR2 starts the program again, which takes over
    /// without an interruption.
    Serve(Serve),
    /// Validate a configuration: every fault at once, as file:line:column: problem. Exits with 0 or 64.
    Check(CheckOptions),
    /// Show the gateway at work: a simulator and a gateway on loopback, and one Wan task from submit to a downloaded
    /// MP4.
    Demo(demo::DemoOptions),
    Sim(Box<sim::SimulatorOptions>),
    Keys(keys::KeysOptions),
    Usage(usage::UsageOptions),
    Orphans(orphans::OrphansOptions),
    Webhooks(webhooks::WebhooksOptions),
    Tenants(tenants::TenantsOptions),
    Tasks(tasks::TasksOptions),
    Health(health::HealthOptions),
    Tokens(tokens::TokensOptions),
    Accounts(accounts::AccountsOptions),
    Audit(audit::AuditOptions),
    Reload(reload::ReloadOptions),
    /// Work on the store: back up a file, migrate the tables of a database, or copy a file into it.
    Store(StoreOptions),
    /// Print a script that completes these commands in a shell.
    ///
    /// bash: dashgate completions bash > /etc/bash_completion.d/dashgate. zsh, fish, elvish and powershell know others.
    Completions {
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration; without it $DASHGATE_CONFIG, else ./dashgate.toml.
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CheckOptions {
    #[command(flatten)]
    file: ConfigFile,
    /// Also try each account's keys, with a query for a task that does not exist, and whether the store can be written.
    /// This costs nothing and disturbs no gateway that runs. A key is sent to the host of its own account only. An
    /// overdue bill shows only at calls that cost something, so it is not found.
    #[arg(long)]
    online: bool,
    /// Also show what each tenant would pay for what, with its factor.
    #[arg(long)]
    prices: bool,
}

#[derive(Debug, Args)]
struct StoreOptions {
    #[command(flatten)]
    file: ConfigFile,
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// Take over from the gateway that runs with the same store: its sockets, so that no connection is refused or
    /// lost. That one then ends when what runs there has, after timeouts.drain at most. Should this one fail to
    /// start, that one goes on. Where none runs, start as usual.
    #[arg(long)]
    take_over: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed output has no reader.
            let _ = error.print();
            return if error.use_stderr() { bad_usage() } else { ExitCode::SUCCESS };
        }
    };
    let _diagnostics = diagnostics::start(std::env::var("RUST_LOG").ok());
    match cli.command {
        Command::Serve(options) => serve(&options),
        Command::Check(options) => check(&options),
        Command::Demo(options) => demonstrate(&options),
        Command::Sim(options) => simulate(*options),
        Command::Keys(options) => {
            administer("keys", GuidePlace::Keys, keys::run(&options, admin_token(), say))
        }
        Command::Orphans(options) => {
            administer("orphans", GuidePlace::Orphans, orphans::run(&options, admin_token(), say))
        }
        Command::Webhooks(options) => {
            administer("webhooks", GuidePlace::Webhooks, webhooks::run(&options, admin_token(), say))
        }
        Command::Tenants(options) => {
            administer("tenants", GuidePlace::Tenants, tenants::run(&options, admin_token(), say))
        }
        Command::Tasks(options) => {
            administer("tasks", GuidePlace::Tasks, tasks::run(&options, admin_token(), say))
        }
        Command::Tokens(options) => {
            administer("tokens", GuidePlace::BrowserTokens, tokens::run(&options, admin_token(), say))
        }
        Command::Accounts(options) => {
            administer("accounts", GuidePlace::Accounts, accounts::run(&options, admin_token(), say))
        }
        Command::Audit(options) => {
            administer("audit", GuidePlace::Audit, audit::run(&options, admin_token(), say))
        }
        Command::Reload(options) => {
            administer("reload", GuidePlace::Reload, reload::run(&options, admin_token(), say))
        }
        Command::Usage(options) => {
            administer("usage", GuidePlace::Usage, usage::run(&options, admin_token(), say))
        }
        Command::Health(options) => administer("health", GuidePlace::Health, health::run(&options, say)),
        Command::Store(options) => work_on_store(&options),
        Command::Completions { shell } => complete(shell),
    }
}

fn check(options: &CheckOptions) -> ExitCode {
    match load(&options.file, false) {
        Ok((source, _, loaded)) => {
            let config = &loaded.config;
            let (accounts, mounts, tenants) =
                (config.accounts.len(), config.mounts.len(), config.tenants.len());
            let keyless = match config.keyless_tenants() {
                0 => String::new(),
                count => format!(", {count} of them with keys made at run time only"),
            };
            let counts = format!("{accounts} account(s), {mounts} mount(s), {tenants} tenant(s){keyless}");
            say(&format!("{source}: valid: {counts}\n"));
            if options.prices {
                say(&format!("{}\n", prices::table(config).trim_end()));
            }
            if options.online { check_online(&source, &loaded.config) } else { ExitCode::SUCCESS }
        }
        Err(code) => code,
    }
}

fn work_on_store(options: &StoreOptions) -> ExitCode {
    let done = if let StoreCommand::Backup { from, to } = &options.command {
        // A backup needs no configuration, whose secrets the operator may not have at hand.
        Ok(store::back_up(from, to, say))
    } else {
        let loaded = match load(&options.file, false) {
            Ok((_, _, loaded)) => loaded,
            Err(code) => return code,
        };
        run(store::run(&options.command, &loaded.config.settings.store, say, complain))
    };
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(StoreFailure { problem, usage })) => {
            complain(&format!("dashgate store: {problem}\n{}\n", GuidePlace::Store));
            if usage { bad_usage() } else { FAILED }
        }
        Err(error) => failed_start(&error),
    }
}

fn check_online(source: &str, config: &Config) -> ExitCode {
    let tell = |finding: &check::Finding| match finding {
        check::Finding { subject, result: Ok(state) } => say(&format!("{subject}: {state}\n")),
        check::Finding { subject, result: Err(problem) } => {
            complain(&format!("{source}: {subject}: {problem}\n"))
        }
    };
    match run(check::run(config, tell)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => bad_usage(),
        Err(error) => failed_start(&error),
    }
}

fn serve(options: &Serve) -> ExitCode {
    let descriptors_before = descriptors::raise_limit();
    let (source, files, loaded) = match load(&options.file, true) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let config = &loaded.config;
    let inherited = match &config.settings.store {
        StoreSettings::Embedded { path } if options.take_over => handover::take_over(path),
        StoreSettings::Embedded { .. } | StoreSettings::Shared(_) => Ok(None),
    };
    let mut gateway = match inherited.and_then(|inherited| app::succeed(&loaded, files, inherited)) {
        Ok(gateway) => gateway,
        Err(error) => return failed_start(&error),
    };
    let end = run(async {
        // Signals are heard before "ready" is logged: a process that reads the line may send one at once.
        let (stop, hangup, upgrade) =
            (signals::stop_requested()?, signals::reload_requests()?, signals::upgrade_requests()?);
        let successor = successor(&mut gateway);
        announce(&gateway, config, &source);
        announce_ways(&gateway, config, descriptors_before);
        systemd::ready();
        let reloads = gateway.reloads().cloned();
        tokio::select! {
            () = stop => Ok(ServeEnd::Stopped),
            successor = successor => Ok(ServeEnd::Succeeded(successor)),
            () = gateway.worker_ended() => Err(io::Error::other("a worker or the admin listener ended unasked")),
            () = signals::reload_at_each(hangup, reloads) => Ok(ServeEnd::Stopped),
            () = signals::upgrade_at_each(upgrade) => Ok(ServeEnd::Stopped),
        }
    });
    match end.flatten() {
        Ok(end) => finish(gateway, &end),
        Err(error) => {
            tracing::error!("{error}");
            FAILED
        }
    }
}

/// Why the gateway stops serving.
enum ServeEnd {
    Stopped,
    /// Another process has taken over.
    Succeeded(Successor),
}

fn finish(gateway: RunningGateway, end: &ServeEnd) -> ExitCode {
    match end {
        ServeEnd::Stopped => {
            let patience = gateway.drain();
            systemd::stopping();
            tracing::info!("stopping: what runs may end within {patience:?}");
        }
        ServeEnd::Succeeded(successor) => {
            let patience = gateway.hand_over();
            systemd::handed_over(successor.process);
            successor.release();
            let process = successor.process;
            tracing::info!("process {process} has taken over: what runs here may end within {patience:?}");
        }
    }
    match gateway.join() {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            FAILED
        }
    }
}

/// Waits for a process that has taken over. The offer begins at the call.
fn successor(gateway: &mut RunningGateway) -> impl Future<Output = Successor> + use<> {
    let offer = gateway.offer();
    async move {
        match offer {
            Ok(Some(offer)) => offer.taken().await,
            Ok(None) => std::future::pending().await,
            Err(error) => {
                tracing::warn!(
                    "an upgrade will need a restart, as there can be no socket beside the store: {error}"
                );
                std::future::pending().await
            }
        }
    }
}

fn announce(gateway: &RunningGateway, config: &Config, source: &str) {
    let address = gateway.address();
    let scheme = |tls: bool| if tls { "https" } else { "http" };
    let (clients, admin) =
        (scheme(config.settings.server.tls.is_some()), scheme(config.settings.admin.tls.is_some()));
    let admin =
        gateway.admin_address().map(|address| format!("admin {admin}://{address}, ")).unwrap_or_default();
    tracing::info!("ready: listening on {clients}://{address} ({admin}config: {source})");
    if config.sidecar {
        let upstream = &config.accounts[0].base_url.host;
        tracing::info!(
            "sidecar: any caller on this host is let in, with any key or none, and its calls go to {upstream} \
             with the key in DASHSCOPE_API_KEY; point clients at http://{address}/api/v1"
        );
    }
}

/// Says how many connections the gateway takes, and through which proxies it goes.
fn announce_ways(gateway: &RunningGateway, config: &Config, descriptors_before: u64) {
    let (descriptors, clients) = (descriptors::limit(), gateway.most_connections());
    tracing::info!(
        "limit of descriptors: {descriptors} (at the start {descriptors_before}): clients may have {clients} connections"
    );
    for AccountSettings { name, base_url, proxy, .. } in &config.accounts {
        if let Some(proxy) = proxy {
            tracing::info!("the account {name} is reached through the proxy {proxy} ({})", base_url.host);
        }
    }
}

fn demonstrate(options: &demo::DemoOptions) -> ExitCode {
    let shown = run(async {
        let demo = demo::start(options).map_err(|error| demo::DemoFailure(error.to_string()))?;
        demo.show().await?;
        if !options.once {
            say(&demo.invitation());
            signals::stop_requested()?.await;
        }
        Ok::<_, demo::DemoFailure>(())
    });
    match shown {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(demo::DemoFailure(problem))) => {
            complain(&format!("the demonstration failed: {problem}\n"));
            FAILED
        }
        Err(error) => failed_start(&error),
    }
}

fn simulate(options: sim::SimulatorOptions) -> ExitCode {
    match run(async { sim::run(options, signals::stop_requested()?).await }) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) | Err(error) => failed_start(&error),
    }
}

fn complete(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dashgate", &mut script);
    say(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

fn admin_token() -> Option<String> {
    std::env::var("DASHGATE_ADMIN_TOKEN").ok()
}

/// Runs a command that is a client of a gateway's admin API.
fn administer(
    name: &str,
    place: GuidePlace,
    command: impl Future<Output = Result<(), AdminFailure>>,
) -> ExitCode {
    match run(command) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(AdminFailure { problem, usage, code: _ })) => {
            complain(&format!("dashgate {name}: {problem}\n{place}\n"));
            if usage { bad_usage() } else { FAILED }
        }
        Err(error) => failed_start(&error),
    }
}

/// Runs the future on this thread.
fn run<F: Future>(future: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    Ok(runtime.block_on(future))
}

/// Loads the configuration, and prints its faults. A sidecar's configuration has no files. Other commands than `serve` tell
/// their warnings to people, whatever `log.diagnostics` says.
fn load(file: &ConfigFile, serves: bool) -> Result<(String, Files, Loaded), ExitCode> {
    let environment = |name: &str| std::env::var(name).ok();
    let given = file.config.clone().or_else(|| std::env::var_os("DASHGATE_CONFIG").map(PathBuf::from));
    let default = Path::new("dashgate.toml");
    let path = given.or_else(|| default.exists().then(|| default.to_owned()));
    let (source, (files, loaded)) = match path {
        Some(path) => (path.display().to_string(), Config::load_with_files(&path)),
        None => match Config::sidecar(&environment) {
            Some(loaded) => ("environment".to_owned(), (Files::default(), loaded)),
            None => {
                complain(&format!(
                    "no configuration: give one with -c FILE, set DASHGATE_CONFIG, or put dashgate.toml here;\n\
                     or set DASHSCOPE_API_KEY to run as a sidecar without one.\n\
                     To see it work without any: dashgate demo\n{}\n",
                    GuidePlace::Start
                ));
                return Err(bad_usage());
            }
        },
    };
    let loaded = loaded.map_err(|faults| {
        complain(&(config::report(&source, &faults) + &guide::for_faults(&faults)));
        bad_usage()
    })?;
    if serves {
        diagnostics::write_as(loaded.config.settings.log.diagnostics);
    }
    for warning in &loaded.warnings {
        tracing::warn!("{source}:{warning}");
    }
    Ok((source, files, loaded))
}

fn failed_start(error: &io::Error) -> ExitCode {
    tracing::error!("can't start: {error}; {}", GuidePlace::StartFails);
    FAILED
}

fn say(text: &str) {
    // A closed standard output has no reader.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// `EX_USAGE` of sysexits.h: bad usage or configuration.
fn bad_usage() -> ExitCode {
    ExitCode::from(64)
}

/// `0.1.0 (542d2f5b17d4)`.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("DASHGATE_COMMIT"), ")");
const FAILED: ExitCode = ExitCode::FAILURE;
