//! Command line of the simulator.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use super::account::SimulatedKey;
use super::errors::ThrottlingKind;
use super::fault::ScriptedFault;

/// Simulate DashScope on loopback.
#[derive(clap::Args, Clone, Debug)]
#[command(long_about = super::LONG_ABOUT)]
pub struct SimulatorOptions {
    /// Address of the API's listener; port 0 picks a free port.
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8090)))]
    pub listen: SocketAddr,

    /// Address of the listener of the stand-in for OSS: uploads and results.
    #[arg(long, value_name = "ADDR", default_value_t = EPHEMERAL)]
    pub oss_listen: SocketAddr,

    /// URL by which clients reach the stand-in for OSS, when it differs from its address.
    #[arg(long, value_name = "URL")]
    pub oss_url: Option<String>,

    /// An upstream key, as KEY or ACCOUNT=KEY; may be repeated. Without any, each sk-... is a key of "main".
    #[arg(long = "key", value_name = "[ACCOUNT=]KEY")]
    pub keys: Vec<SimulatedKey>,

    /// Time that a task runs.
    #[arg(long = "run-seconds", value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub run: Duration,

    /// Share by which a run may be shorter or longer, 0 to 1: at 0.5 tasks that start together end
    /// spread over a time as long as the run.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub run_jitter: f64,

    /// Time that a task stays PENDING before it runs; a tenth of the run when not given.
    #[arg(long = "pending-seconds", value_name = "SECONDS", value_parser = seconds)]
    pub pending: Option<Duration>,

    /// Share of tasks that fail, 0 to 1: at 0.25 every fourth.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub failure_rate: f64,

    /// Task queries that an account may send a second; the limits of lists and of cancels are the same.
    #[arg(long, value_name = "N", default_value_t = QUERY_QPS)]
    pub query_qps: u32,

    /// Largest number of tasks on a page of the list, whatever page size is asked for.
    #[arg(long, value_name = "N", default_value_t = PAGE_SIZE_MAX)]
    pub page_size_max: u64,

    /// Submits a second of one account and model, in place of the model's own limit.
    #[arg(long, value_name = "N")]
    pub submit_rps: Option<u32>,

    /// Running tasks of one account and model, in place of the model's own limit; the rest stay PENDING.
    #[arg(long, value_name = "N")]
    pub running: Option<usize>,

    /// Refuse inference calls with 429: all, or a share of them, like rate-quota or burst-rate=0.1.
    #[arg(long, value_name = "KIND[=SHARE]")]
    pub throttle: Option<ThrottledShare>,

    /// An account with unpaid bills; may be repeated.
    #[arg(long, value_name = "ACCOUNT")]
    pub overdue: Vec<String>,

    /// Compress JSON for clients that accept it.
    #[arg(long)]
    pub gzip: bool,

    /// A scripted fault, like 'POST /api/v1/services/*#2 delay=1s,reset'; may be repeated. See the list above.
    #[arg(long = "fault", value_name = "SPEC")]
    pub faults: Vec<ScriptedFault>,

    /// Time that a task id and its result URLs are valid.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "24h")]
    pub task_lifetime: Duration,

    /// Time that an upload policy is valid.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "300s")]
    pub policy_lifetime: Duration,

    /// Number of events of a streamed answer.
    #[arg(long, value_name = "N", default_value_t = STREAM_EVENTS)]
    pub stream_events: u64,

    /// Pause before each event of a streamed answer.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "20ms")]
    pub stream_interval: Duration,

    /// Time that a WebSocket task waits for the client's next message.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "23s")]
    pub websocket_idle: Duration,

    /// Number of requests that the journal keeps.
    #[arg(long, value_name = "N", default_value_t = JOURNAL)]
    pub journal: usize,
}

impl SimulatorOptions {
    pub(super) fn pending(&self) -> Duration {
        self.pending.unwrap_or(self.run / 10)
    }
}

/// The defaults of the command line, but with a free port for the API too.
impl Default for SimulatorOptions {
    fn default() -> SimulatorOptions {
        SimulatorOptions {
            listen: EPHEMERAL,
            oss_listen: EPHEMERAL,
            oss_url: None,
            keys: Vec::new(),
            run: Duration::from_secs(10),
            run_jitter: 0.0,
            pending: None,
            failure_rate: 0.0,
            query_qps: QUERY_QPS,
            page_size_max: PAGE_SIZE_MAX,
            submit_rps: None,
            running: None,
            throttle: None,
            overdue: Vec::new(),
            gzip: false,
            faults: Vec::new(),
            task_lifetime: Duration::from_secs(24 * 3600),
            policy_lifetime: Duration::from_secs(300),
            stream_events: STREAM_EVENTS,
            stream_interval: Duration::from_millis(20),
            websocket_idle: Duration::from_secs(23),
            journal: JOURNAL,
        }
    }
}

/// A kind of 429 and the share of calls that get it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThrottledShare {
    pub kind: ThrottlingKind,
    pub rate: f64,
}

impl FromStr for ThrottledShare {
    type Err = String;

    fn from_str(text: &str) -> Result<ThrottledShare, String> {
        let (kind, rate) = text.split_once('=').unwrap_or((text, "1"));
        let rate = rate.parse().map_err(|_| format!("not a share between 0 and 1: {rate:?}"))?;
        Ok(ThrottledShare { kind: kind.parse()?, rate })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

const EPHEMERAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const QUERY_QPS: u32 = 20;
const PAGE_SIZE_MAX: u64 = 100;
const STREAM_EVENTS: u64 = 5;
const JOURNAL: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct ThrottleArgument {
        #[command(flatten)]
        options: SimulatorOptions,
    }

    fn parsed(arguments: &[&str]) -> SimulatorOptions {
        ThrottleArgument::parse_from([&["sim"], arguments].concat()).options
    }

    #[test]
    fn the_command_line_has_the_defaults_of_default_but_for_its_port() {
        let spoken = SimulatorOptions { listen: EPHEMERAL, ..parsed(&[]) };
        assert_eq!(format!("{spoken:?}"), format!("{:?}", SimulatorOptions::default()));
        assert_eq!(parsed(&[]).listen.to_string(), "127.0.0.1:8090");
    }

    #[test]
    fn the_flags_are_read() {
        let options = parsed(&[
            "--key",
            "east=sk-1",
            "--key",
            "sk-2",
            "--run-seconds",
            "0.5",
            "--throttle",
            "burst-rate=0.1",
            "--fault",
            "GET /api/v1/tasks/* reset",
            "--overdue",
            "east",
        ]);
        assert_eq!(options.keys[1], SimulatedKey { account: "main".into(), key: "sk-2".into() });
        assert_eq!((options.run, options.pending()), (Duration::from_millis(500), Duration::from_millis(50)));
        assert_eq!(options.throttle, Some(ThrottledShare { kind: ThrottlingKind::BurstRate, rate: 0.1 }));
        assert_eq!(options.faults.len(), 1);
    }
}
