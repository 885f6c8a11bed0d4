//! File descriptors: the process's limit, the share of clients in it, and how to tell that they have run out.

use std::fs::File;
use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the process's soft limit to its hard limit, and returns the soft limit of before. A process that may not
/// raise it goes on with what it has.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    current.unwrap_or(u64::MAX)
}

/// Most files and sockets that the process may have open.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Most connections of clients under such a limit. The rest is for what answers them: connections to upstreams, the
/// store, logs, files of a reload. Half of a small limit, as each busy client may need one connection upstream; of a
/// large one no more than upstreams take.
pub fn most_clients(limit: u64) -> usize {
    let reserve = (limit / 2 + FILES).min(MOST_RESERVED);
    usize::try_from(limit.saturating_sub(reserve)).unwrap_or(usize::MAX).max(1)
}

/// True for an error that says nothing of a peer: this process or its machine has no descriptors or memory left.
pub fn ran_out(error: &io::Error) -> bool {
    const LOCAL: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| LOCAL.contains(&errno))
}

/// The error if no file can be opened now. The system's resolver reports missing descriptors as names that it does not
/// know.
pub(super) fn probe() -> io::Result<()> {
    match File::open("/dev/null") {
        Err(error) if ran_out(&error) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Descriptors that the process itself has open: listeners, store, logs.
const FILES: u64 = 32;
const MOST_RESERVED: u64 = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_room_for_what_answers_them() {
        for (limit, clients) in
            [(0, 1), (64, 1), (256, 96), (1024, 480), (20_000, 11_808), (1 << 20, (1 << 20) - 8192)]
        {
            assert_eq!(most_clients(limit), clients, "{limit}");
        }
    }

    #[test]
    fn only_what_is_missing_here_is_a_local_fault() {
        for (errno, is_local) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::NOMEM, true),
            (Errno::CONNREFUSED, false),
            (Errno::NETUNREACH, false),
            (Errno::ADDRNOTAVAIL, false),
        ] {
            assert_eq!(ran_out(&errno.into()), is_local, "{errno}");
        }
        assert!(!ran_out(&io::ErrorKind::NotFound.into()) && probe().is_ok());
    }
}
