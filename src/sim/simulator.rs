//! The simulator as a program, and as a thread for tests.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::account::Credential;
use super::fault::Fault;
use super::journal::{Listener, Seen};
use super::options::{Options, Throttle};
use super::server::accept;
use super::tasks::{Failure, Status};
use super::upload::Upload;
use super::world::{World, lock};

/// Serves until `shutdown`.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let bound = Bound::new(options).await?;
    let (api, oss) = (bound.address, bound.oss_address);
    tracing::info!("ready: the simulator is listening on http://{api} (its stand-in for OSS: http://{oss})");
    tokio::select! {
        () = shutdown => {}
        () = bound.serve() => {}
    }
    Ok(())
}

/// Both listeners, bound and ready.
struct Bound {
    world: Arc<World>,
    api: TcpListener,
    oss: TcpListener,
    address: SocketAddr,
    oss_address: SocketAddr,
}

impl Bound {
    async fn new(options: Options) -> io::Result<Bound> {
        let api = TcpListener::bind(options.listen).await?;
        let oss = TcpListener::bind(options.oss_listen).await?;
        let (address, oss_address) = (api.local_addr()?, oss.local_addr()?);
        Ok(Bound { world: Arc::new(World::new(options, oss_address)), api, oss, address, oss_address })
    }

    async fn serve(self) {
        let api = accept(Arc::clone(&self.world), self.api, Listener::Api);
        let oss = accept(self.world, self.oss, Listener::Oss);
        tokio::join!(api, oss);
    }
}

/// A simulator on a thread of its own. It stops when dropped.
pub struct Simulator {
    world: Arc<World>,
    address: SocketAddr,
    oss_address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A task as the simulator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    pub id: String,
    pub account: String,
    /// The upstream key that submitted it.
    pub key: String,
    pub model: String,
    pub status: Status,
    pub submitted: SystemTime,
}

impl Simulator {
    /// Returns once both listeners are bound.
    pub fn start(options: Options) -> io::Result<Simulator> {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new().name("simulator".to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return tell.send(Err(error)).unwrap_or_default(),
            };
            runtime.block_on(async move {
                let bound = match Bound::new(options).await {
                    Ok(bound) => bound,
                    Err(error) => return tell.send(Err(error)).unwrap_or_default(),
                };
                let ready = (Arc::clone(&bound.world), bound.address, bound.oss_address);
                tell.send(Ok(ready)).unwrap_or_default();
                tokio::select! {
                    _ = stopped => {}
                    () = bound.serve() => {}
                }
            });
        })?;
        let (world, address, oss_address) = told.recv().map_err(io::Error::other)??;
        Ok(Simulator { world, address, oss_address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn oss_address(&self) -> SocketAddr {
        self.oss_address
    }

    /// Every request since the start or the last [`Simulator::clear`], to both listeners, as it arrived.
    pub fn seen(&self) -> Vec<Seen> {
        self.world.journal.seen()
    }

    /// Forgets the journal.
    pub fn clear(&self) {
        self.world.journal.clear();
    }

    /// Adds a line to the script of faults.
    pub fn fault(&self, fault: Fault) {
        lock(&self.world.script).add(fault);
    }

    pub fn clear_faults(&self) {
        lock(&self.world.script).clear();
    }

    /// Throttles inference calls from now on, or no more.
    pub fn throttle(&self, throttle: Option<Throttle>) {
        self.world.set_throttle(throttle);
    }

    pub fn set_overdue(&self, account: &str, overdue: bool) {
        lock(&self.world.accounts).set_overdue(account, overdue);
    }

    /// Another key is good from now on.
    pub fn issue(&self, credential: Credential) {
        lock(&self.world.accounts).issue(credential);
    }

    /// A key is refused from now on.
    pub fn revoke(&self, key: &str) {
        lock(&self.world.accounts).revoke(key);
    }

    /// Moves the clock on: tasks run, signatures expire, meters refill. Pauses are not shortened.
    pub fn advance(&self, by: Duration) {
        self.world.advance(by);
    }

    /// Shows a task in a state, whatever the clock says, or lets it go on. False when there is none.
    pub fn pin(&self, task_id: &str, status: Option<Status>) -> bool {
        lock(&self.world.tasks).pin(task_id, status)
    }

    /// Lets a task succeed at once.
    pub fn finish(&self, task_id: &str) -> bool {
        lock(&self.world.tasks).finish(task_id, None, self.world.now())
    }

    /// Lets a task fail at once.
    pub fn fail(&self, task_id: &str, code: &str, message: &str) -> bool {
        let failure = Failure { code: code.to_owned(), message: message.to_owned() };
        lock(&self.world.tasks).finish(task_id, Some(failure), self.world.now())
    }

    /// All tasks, in the order of their submits.
    pub fn tasks(&self) -> Vec<TaskView> {
        let tasks = lock(&self.world.tasks).all(self.world.now());
        let view = |task: super::tasks::Task| TaskView {
            status: task.shown(),
            id: task.id,
            account: task.caller.account,
            key: task.caller.key,
            model: task.model,
            submitted: task.submitted,
        };
        tasks.into_iter().map(view).collect()
    }

    /// What was uploaded to the stand-in for OSS.
    pub fn uploads(&self) -> Vec<Upload> {
        lock(&self.world.uploads).all()
    }

    /// Connections that are open now, to both listeners.
    pub fn connections(&self) -> usize {
        self.world.open.load(Ordering::SeqCst)
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
