//! The simulator as a program, and as a thread for tests.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::account::SimulatedKey;
use super::fault::ScriptedFault;
use super::journal::{RecordedRequest, SimulatedListener};
use super::options::{SimulatorOptions, ThrottledShare};
use super::server::accept;
use super::state::SimulatorState;
use super::tasks::{SimulatedFailure, SimulatedStatus};
use super::upload::SimulatedUpload;

/// Serves until `shutdown`.
pub async fn run(options: SimulatorOptions, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let bound = BoundSimulator::new(options).await?;
    let (api, oss) = (bound.address, bound.oss_address);
    tracing::info!("ready: the simulator is listening on http://{api} (its stand-in for OSS: http://{oss})");
    tokio::select! {
        () = shutdown => {}
        () = bound.serve() => {}
    }
    Ok(())
}

/// Both listeners, bound and ready.
struct BoundSimulator {
    state: Arc<SimulatorState>,
    api: TcpListener,
    oss: TcpListener,
    address: SocketAddr,
    oss_address: SocketAddr,
}

impl BoundSimulator {
    async fn new(options: SimulatorOptions) -> io::Result<BoundSimulator> {
        let api = TcpListener::bind(options.listen).await?;
        let oss = TcpListener::bind(options.oss_listen).await?;
        let (address, oss_address) = (api.local_addr()?, oss.local_addr()?);
        Ok(BoundSimulator {
            state: Arc::new(SimulatorState::new(options, oss_address)),
            api,
            oss,
            address,
            oss_address,
        })
    }

    async fn serve(self) {
        let api = accept(Arc::clone(&self.state), self.api, SimulatedListener::Api);
        let oss = accept(self.state, self.oss, SimulatedListener::Oss);
        tokio::join!(api, oss);
    }
}

/// A simulator on a thread of its own. The drop stops it.
pub struct Simulator {
    state: Arc<SimulatorState>,
    address: SocketAddr,
    oss_address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A task as the simulator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedTaskView {
    pub id: String,
    pub account: String,
    /// The upstream key that submitted it.
    pub key: String,
    pub model: String,
    pub status: SimulatedStatus,
    pub submitted: SystemTime,
}

impl Simulator {
    /// Returns once both listeners are bound.
    pub fn start(options: SimulatorOptions) -> io::Result<Simulator> {
        let (stop, stopped) = oneshot::channel();
        let (tell, started) = mpsc::channel();
        let thread = std::thread::Builder::new().name("simulator".to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return tell.send(Err(error)).unwrap_or_default(),
            };
            runtime.block_on(async move {
                let bound = match BoundSimulator::new(options).await {
                    Ok(bound) => bound,
                    Err(error) => return tell.send(Err(error)).unwrap_or_default(),
                };
                let ready = (Arc::clone(&bound.state), bound.address, bound.oss_address);
                tell.send(Ok(ready)).unwrap_or_default();
                tokio::select! {
                    _ = stopped => {}
                    () = bound.serve() => {}
                }
            });
        })?;
        let (state, address, oss_address) = started.recv().map_err(io::Error::other)??;
        Ok(Simulator { state, address, oss_address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address of the API's listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn oss_address(&self) -> SocketAddr {
        self.oss_address
    }

    /// Every request since the start or the last [`Simulator::clear`], to both listeners, as it arrived.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state.journal.requests()
    }

    /// Forgets the journal.
    pub fn clear(&self) {
        self.state.journal.clear();
    }

    /// Adds a fault to the script.
    pub fn fault(&self, fault: ScriptedFault) {
        self.state.script.lock().add(fault);
    }

    pub fn clear_faults(&self) {
        self.state.script.lock().clear();
    }

    /// Throttles all later inference calls, or a share of them; `None` ends the throttling.
    pub fn throttle(&self, throttle: Option<ThrottledShare>) {
        self.state.set_throttle(throttle);
    }

    pub fn set_overdue(&self, account: &str, overdue: bool) {
        self.state.accounts.lock().set_overdue(account, overdue);
    }

    /// Makes another key valid.
    pub fn issue(&self, credential: SimulatedKey) {
        self.state.accounts.lock().issue(credential);
    }

    /// Makes a key invalid.
    pub fn revoke(&self, key: &str) {
        self.state.accounts.lock().revoke(key);
    }

    /// Moves the clock on: tasks run, signatures expire, meters refill. Pauses are not shortened.
    pub fn advance(&self, by: Duration) {
        self.state.advance(by);
    }

    /// Fixes the status of a task, whatever the clock says, or lets the task go on. False when there is no such task.
    pub fn pin(&self, task_id: &str, status: Option<SimulatedStatus>) -> bool {
        self.state.tasks.lock().pin(task_id, status)
    }

    /// Lets a task succeed at once.
    pub fn finish(&self, task_id: &str) -> bool {
        self.state.tasks.lock().finish(task_id, None, self.state.now())
    }

    /// Lets a task fail at once.
    pub fn fail(&self, task_id: &str, code: &str, message: &str) -> bool {
        let failure = SimulatedFailure { code: code.to_owned(), message: message.to_owned() };
        self.state.tasks.lock().finish(task_id, Some(failure), self.state.now())
    }

    /// All tasks, in the order of their submits.
    pub fn tasks(&self) -> Vec<SimulatedTaskView> {
        let tasks = self.state.tasks.lock().all(self.state.now());
        let view = |task: super::tasks::SimulatedTask| SimulatedTaskView {
            status: task.shown(),
            id: task.id,
            account: task.caller.account,
            key: task.caller.key,
            model: task.model,
            submitted: task.submitted,
        };
        tasks.into_iter().map(view).collect()
    }

    /// Files uploaded to the stand-in for OSS.
    pub fn uploads(&self) -> Vec<SimulatedUpload> {
        self.state.uploads.lock().all()
    }

    /// Connections that are open now, to both listeners.
    pub fn connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the simulator's thread panicked");
        }
    }
}
