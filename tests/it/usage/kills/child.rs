//! A gateway in a process of its own, which this test binary plays: the program's own start, with short times between
//! the scans for orphans.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use dashgate::app;
use dashgate::config::{Config, OrphanTimes};
use dashgate::lifecycle::handover::{self, Offer, Successor};
use dashgate::lifecycle::signals;
use dashgate::telemetry::diagnostics;

use crate::harness::gateway::CONFIG_FILE;
use crate::process::Process;

/// Starts the process over the configuration in the folder; `takes_over`: in the place of the one that runs.
pub(crate) fn start(folder: &Path, takes_over: bool) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", "usage::kills::child::as_a_gateway", "--nocapture"])
        .env_clear()
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    if takes_over {
        command.env(TAKES_OVER, "1");
    }
    Process::start(&mut command)
}

/// Body of the process. Alone it does nothing.
#[test]
fn as_a_gateway() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let _diagnostics = diagnostics::start(Some("warn,dashgate=info".to_owned()));
    let (files, loaded) = Config::load_with_files(&Path::new(&folder).join(CONFIG_FILE));
    let mut loaded = loaded.unwrap_or_else(|faults| panic!("{faults:#?}"));
    let config = &mut loaded.config;
    config.settings.poll.orphans = SOON;
    let inherited = match std::env::var_os(TAKES_OVER) {
        Some(_) => handover::take_over(config.settings.store.path().expect("a path")).expect("a hand-over"),
        None => None,
    };
    let mut gateway = app::succeed(&loaded, files, inherited).expect("a gateway");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let successor = runtime.block_on(async {
        let stop = signals::stop_requested().expect("signals");
        let offer = gateway.offer().expect("an offer");
        let admin = gateway.admin_address().expect("an admin listener");
        println!("ready: listening on http://{} (admin http://{admin})", gateway.address());
        tokio::select! {
            () = stop => None,
            successor = taken(offer) => Some(successor),
            () = gateway.worker_ended() => panic!("a worker ended unasked"),
        }
    });
    match &successor {
        Some(successor) => {
            gateway.hand_over();
            successor.release();
        }
        None => {
            gateway.drain();
        }
    }
    gateway.join().expect("the end of all workers");
}

/// The successor that takes the offer. A gateway on a database has no offer, and no successor.
async fn taken(offer: Option<Offer>) -> Successor {
    match offer {
        Some(offer) => offer.taken().await,
        None => std::future::pending().await,
    }
}

/// Times in place of minutes.
const SOON: OrphanTimes = OrphanTimes {
    every: Duration::from_secs(1),
    after_loss: Duration::from_millis(500),
    min_age: Duration::from_millis(500),
};
const FOLDER: &str = "DASHGATE_LEDGER_CHILD";
const TAKES_OVER: &str = "DASHGATE_LEDGER_TAKES_OVER";
