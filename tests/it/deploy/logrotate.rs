//! logrotate with the shipped file, while a gateway serves: no line is missing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;

use super::tools::{installed, root, run};
use crate::harness::calls::generate;
use crate::harness::{Client, Gateway, Upstream, answer, eventually};

const LOG: &str = "/var/log/dashgate/access.log";

#[test]
fn no_line_is_missing_after_rotations() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let log = gateway.directory.path().join("access.log");
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("dashgate.logrotate");
    let shipped = fs::read_to_string(root().join("deploy/systemd/dashgate.logrotate")).expect("the file");
    assert_eq!(shipped.lines().filter(|line| line.starts_with(LOG)).count(), 1);
    fs::write(&file, shipped.replace(LOG, &log.display().to_string())).expect("written");
    let rotate = || {
        let mut logrotate = Command::new(installed("bin/logrotate"));
        logrotate.env("LD_LIBRARY_PATH", installed("lib")).arg("--force");
        run(logrotate.arg("--state").arg(folder.path().join("state")).arg(&file), "");
    };
    let (sent, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = Client::connect(gateway.address);
                while !enough.load(Ordering::SeqCst) {
                    assert_eq!(client.ask(generate("{}")).status(), 200);
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for rotation in 1..=5 {
            let before = sent.load(Ordering::SeqCst);
            eventually("requests have lines", || {
                sent.load(Ordering::SeqCst) > before + 20 && fs::metadata(&log).is_ok_and(|log| log.len() > 0)
            });
            rotate();
            assert!(log.with_file_name("access.log.1").exists(), "{rotation}: nothing was rotated");
        }
        enough.store(true, Ordering::SeqCst);
    });
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    let sent = sent.load(Ordering::SeqCst) + 1;
    eventually("each request has its line", || lines_beside(&log) == sent);
    let compressed = files_beside(&log).iter().filter(|name| name.ends_with(".gz")).count();
    assert_eq!(compressed, 4, "the last one is compressed by the next rotation: {:?}", files_beside(&log));
    assert!(!gateway.lines().is_empty(), "a new file was opened");
}

fn files_beside(log: &Path) -> Vec<String> {
    let found = fs::read_dir(log.parent().expect("a folder")).expect("files");
    let names = found.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"));
    names.filter(|name| name.starts_with("access.log")).collect()
}

/// Lines in the log and in all files that were made of it.
fn lines_beside(log: &Path) -> usize {
    let mut read = Command::new("gzip");
    read.args(["--decompress", "--stdout", "--force"]);
    read.args(files_beside(log).iter().map(|name| log.with_file_name(name)));
    run(&mut read, "").lines().count()
}
