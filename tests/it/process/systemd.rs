//! Messages to systemd over `NOTIFY_SOCKET`, for a unit of `Type=notify` or `notify-reload`.

use std::os::unix::net::UnixDatagram;

use super::{Process, configured, nowhere, program};
use crate::harness::PATIENCE;

#[test]
fn systemd_is_told_of_start_reload_and_stop() {
    let folder = configured(nowhere(), "127.0.0.1:0");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let heard = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let process = Process::start(program(folder.path()).arg("serve").env("NOTIFY_SOCKET", &path));
    assert_eq!(heard(), "READY=1\n");
    process.signal("HUP");
    let reloading = heard();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a reload that began");
    assert!(since.trim_end().parse::<u64>().is_ok_and(|since| since > 0), "{reloading}");
    assert_eq!(heard(), "READY=1\n");
    process.signal("TERM");
    assert_eq!(heard(), "STOPPING=1\n");
    let (status, printed) = process.end();
    assert_eq!(status.code(), Some(0), "{printed}");
}
