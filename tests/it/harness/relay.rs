//! A TCP relay before one server or several: a plain balancer, and a network that a test can stall and cut.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    next: AtomicUsize,
}

struct State {
    targets: Vec<SocketAddr>,
    paused: bool,
    closed: bool,
    /// Both sockets of each connection. Those that have ended are left out when the next one comes.
    connections: Vec<[TcpStream; 2]>,
}

impl Relay {
    /// A relay that spreads connections over these servers in turn, leaving out those that refuse.
    pub(crate) fn over(targets: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let state =
            State { targets: targets.to_vec(), paused: false, closed: false, connections: Vec::new() };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), next: AtomicUsize::new(0) });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.state().closed {
                    break;
                }
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.connect(client));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that come from now on go to these servers.
    pub(crate) fn lead_to(&self, targets: &[SocketAddr]) {
        self.shared.state().targets = targets.to_vec();
    }

    /// Nothing passes any more, in either direction; connections stay open, and new ones are taken.
    pub(crate) fn pause(&self) {
        self.shared.state().paused = true;
    }

    /// All passes again, also what was sent during the pause.
    pub(crate) fn resume(&self) {
        self.shared.state().paused = false;
        self.shared.changed.notify_all();
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        for socket in self.shared.state().connections.drain(..).flatten() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
        self.cut();
        // The thread that accepts looks up once more.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of a pause. False: the relay is gone.
    fn may_pass(&self) -> bool {
        let state = self.state();
        let state = self.changed.wait_while(state, |state| state.paused && !state.closed);
        !state.unwrap_or_else(PoisonError::into_inner).closed
    }

    fn connect(self: Arc<Self>, client: TcpStream) {
        if !self.may_pass() {
            return;
        }
        // Under the lock: no server is connected to after `lead_to` has left it out.
        let mut state = self.state();
        let targets = &state.targets;
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut in_turn = (0..targets.len()).map(|number| targets[(first + number) % targets.len()]);
        let Some(server) = in_turn.find_map(|target| TcpStream::connect(target).ok()) else { return };
        for socket in [&client, &server] {
            socket.set_nodelay(true).expect("an option");
        }
        let twin = |socket: &TcpStream| socket.try_clone().expect("a twin");
        state.connections.retain(|[client, _]| client.peer_addr().is_ok());
        state.connections.push([twin(&client), twin(&server)]);
        drop(state);
        let back = (twin(&server), twin(&client), Arc::clone(&self));
        thread::spawn(move || back.2.copy(back.0, back.1));
        self.copy(client, server);
    }

    /// Passes one direction on until its end.
    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            if !self.may_pass() || read == 0 || to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }
}
