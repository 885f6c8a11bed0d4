//! The thread on which this replica tells the others of its callers' use, and writes the pace of submits.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::time::{MissedTickBehavior, interval};

use crate::account::shared_pace::SharedPaces;
use crate::limits::Registry;
use crate::store::{Exchange, Gossip, Replica};

/// Starts the thread, which ends with the last handle on the paces or on the limits.
///
/// # Errors
/// Why there is no thread.
pub(super) fn start(
    exchange: &Exchange,
    replica: Replica,
    limits: &Arc<Registry>,
) -> io::Result<SharedPaces> {
    let (paces, writer) = SharedPaces::new(exchange.clone(), replica);
    let telling = tell(exchange.clone(), Arc::downgrade(limits));
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                () = writer.run() => {}
                None::<Infallible> = telling => {}
            }
        });
    };
    thread::Builder::new().name("limits".to_owned()).spawn(work)?;
    Ok(paces)
}

/// Tells the others some times a second; returns once the limits are gone.
async fn tell(exchange: Exchange, limits: Weak<Registry>) -> Option<Infallible> {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let limits = limits.upgrade()?;
        let now = Instant::now();
        let away = exchange.away_since(now).map(|since| now.saturating_duration_since(since));
        for report in limits.reports(away) {
            exchange.gossip(&Gossip::Limits(report));
        }
    }
}

const PERIOD: Duration = Duration::from_millis(200);
