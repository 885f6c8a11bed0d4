//! The signal that ends the workers: when, and what becomes of new requests until then.

use tokio::sync::watch;
use tokio::time::Instant;

/// One worker's end of the signal.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<Option<DrainOrder>>);

/// The end that begins a drain.
#[derive(Debug)]
pub struct DrainHandle(watch::Sender<Option<DrainOrder>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOrder {
    /// Exchanges that still run then are ended.
    pub deadline: Instant,
    pub kind: DrainKind,
}

/// Treatment of new requests during a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainKind {
    /// The process stops without a successor: new requests are refused.
    Stop,
    /// Others accept new connections: the process that takes over, or the other replicas. An open connection has one more
    /// request served, since one may be on its way; the answer tells the client to close.
    Part,
}

/// Makes the two ends of the signal.
pub fn channel() -> (DrainHandle, Drain) {
    let (handle, drain) = watch::channel(None);
    (DrainHandle(handle), Drain(drain))
}

impl DrainHandle {
    /// Begins the drain, or brings its deadline forward. A later deadline changes nothing.
    pub fn begin(&self, order: DrainOrder) {
        self.0.send_if_modified(|begun| {
            let is_sooner = begun.is_none_or(|before| order.deadline < before.deadline);
            if is_sooner {
                *begun = Some(order);
            }
            is_sooner
        });
    }
}

impl Drain {
    /// Waits for the start of the drain. A dropped handle starts it at once.
    pub async fn begun(&mut self) -> DrainOrder {
        let begun = self.0.wait_for(Option::is_some).await;
        let order = begun.ok().and_then(|order| *order);
        order.unwrap_or_else(|| DrainOrder { deadline: Instant::now(), kind: DrainKind::Stop })
    }

    /// Waits until new requests are refused. A dropped handle counts as a refusal, too.
    pub async fn stopped(&mut self) {
        let stops = |order: &Option<DrainOrder>| order.is_some_and(|order| order.kind == DrainKind::Stop);
        let _ = self.0.wait_for(stops).await;
    }

    /// Waits for a deadline that comes sooner than the known one.
    pub(super) async fn hastened(&mut self) {
        self.0.mark_unchanged();
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
