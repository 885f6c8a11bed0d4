//! Backups that are made while a gateway serves, as the guide says, and put back: what was durable then is known again.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::calls::{SYNTHESIS, poll, submit, task};
use crate::harness::postgres::Postgres;
use crate::harness::state::StateDirectory;
use crate::harness::{
    Gateway, UPSTREAM_KEY, Upstream, answer, configuration, eventually, message, needs_the_file,
};

/// An upstream that gives each task a name of its own, and knows no task afterwards.
fn upstream() -> Upstream {
    let number = AtomicUsize::new(0);
    Upstream::start(move |request, stream| {
        let bytes = if request.start_line().starts_with(&format!("POST {SYNTHESIS}")) {
            task(&format!("task-{}", number.fetch_add(1, Ordering::SeqCst)), "PENDING")
        } else if request.start_line().contains("/tasks/task-") {
            let line = request.start_line();
            let (_, id) = line.split_once("/tasks/").expect("an id");
            task(id.split(['?', ' ']).next().unwrap_or_default(), "RUNNING")
        } else {
            answer("200 OK", &[], r#"{"output":{"text":"hi"},"usage":{"input_tokens":3,"output_tokens":4}}"#)
        };
        stream.write_all(&bytes).is_ok()
    })
}

fn text(upstream: &Upstream) -> String {
    let account = ("main", upstream.address, &[UPSTREAM_KEY][..], "");
    configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &[account], "")
}

/// Submits go on while the backup is made. Returns the tasks whose clients were told of them before it, a key that was
/// made before it, and the entries of the ledger then.
fn backed_up_while_serving(gateway: &Gateway, back_up: impl FnOnce()) -> Known {
    let told = Mutex::new(BTreeSet::new());
    let submit_one = || {
        let got = gateway.ask(submit());
        assert_eq!(got.status(), 200, "{}", got.text());
        let id = got.json()["output"]["task_id"].as_str().expect("an id").to_owned();
        told.lock().expect("no panic").insert(id);
    };
    let made = gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"made"}"#);
    assert_eq!(made.status(), 201, "{}", made.text());
    let key = made.json()["key"].as_str().expect("a secret").to_owned();
    for _ in 0..30 {
        call(gateway, &key);
        submit_one();
    }
    eventually("the calls are entered", || entries(gateway) == 30);
    let before = told.lock().expect("no panic").clone();
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !enough.load(Ordering::SeqCst) {
                    submit_one();
                }
            });
        }
        eventually("submits go on", || told.lock().expect("no panic").len() > before.len() + 5);
        back_up();
        let meanwhile = told.lock().expect("no panic").len();
        eventually("submits still go on", || told.lock().expect("no panic").len() > meanwhile + 5);
        enough.store(true, Ordering::SeqCst);
    });
    Known { tasks: before, key }
}

struct Known {
    tasks: BTreeSet<String>,
    key: String,
}

impl Known {
    /// Checks that a gateway knows all that was durable before its backup.
    fn check(&self, gateway: &Gateway) {
        for id in &self.tasks {
            let got = gateway.ask(poll(id));
            assert_eq!(got.status(), 200, "{id}: {}", got.text());
            assert_ne!(got.json()["output"]["task_status"], "UNKNOWN", "{id} is not known");
        }
        call(gateway, &self.key);
        eventually("the ledger goes on", || entries(gateway) == 31);
        assert_eq!(gateway.ask(submit()).status(), 200);
    }
}

fn call(gateway: &Gateway, key: &str) {
    let fields = [&*format!("Authorization: Bearer {key}")];
    let path = "POST /api/v1/services/aigc/text-generation/generation";
    let got = gateway.ask(message(path, &fields, r#"{"model":"qwen-plus"}"#));
    assert_eq!(got.status(), 200, "{}", got.text());
}

/// Entries of calls in the ledger.
fn entries(gateway: &Gateway) -> usize {
    let page = gateway.administer("GET /admin/usage/entries?limit=1000", "").json();
    let entries = page["entries"].as_array().expect("entries").iter();
    entries.filter(|entry| entry["operation"] == "service").count()
}

fn store_backup(from: &Path, to: &Path) -> (Option<i32>, String) {
    let mut backup = Command::new(env!("CARGO_BIN_EXE_dashgate"));
    let output = backup.args(["store", "backup", "--from"]).arg(from).arg("--to").arg(to).output();
    let output = output.expect("the program");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_file_is_backed_up_while_its_gateway_serves_and_put_back() {
    if needs_the_file() {
        return;
    }
    let upstream = upstream();
    let gateway = Gateway::configured(&text(&upstream));
    let store = gateway.directory.path().join("dashgate.db");
    let folder = tempfile::tempdir().expect("a folder");
    let backup = folder.path().join("backup");
    let known = backed_up_while_serving(&gateway, || {
        let (code, said) = store_backup(&store, &backup);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("backup/dashgate.db: ") && said.contains("0 closed day(s)"), "{said}");
    });
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode(&backup), mode(&backup.join("dashgate.db"))), (0o700, 0o600));
    let names: Vec<_> =
        fs::read_dir(&backup).expect("files").map(|file| file.expect("one").file_name()).collect();
    assert_eq!(names, ["dashgate.db"], "nothing else is needed");
    // A second backup does not go over the first one.
    let (code, said) = store_backup(&store, &backup);
    assert!(code == Some(64) && said.contains("is there already"), "{said}");

    // All of the old store's files are away, and those of the backup in their place.
    let directory = gateway.stop();
    for file in fs::read_dir(directory.path()).expect("files") {
        let path = file.expect("a file").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dashgate.db")) {
            let away = folder.path().join(path.file_name().expect("a name"));
            fs::rename(&path, away).expect("moved away");
        }
    }
    fs::copy(backup.join("dashgate.db"), directory.path().join("dashgate.db")).expect("put back");
    known.check(&Gateway::over(directory, &text(&upstream)));
}

#[test]
fn a_store_that_is_not_there_makes_no_backup() {
    let folder = tempfile::tempdir().expect("a folder");
    let backup = folder.path().join("backup");
    let (code, said) = store_backup(&folder.path().join("none.db"), &backup);
    assert!(code == Some(1) && said.contains("none.db does not exist"), "{said}");
    fs::write(folder.path().join("text.db"), "no database, but a text that is long enough to be read as one")
        .expect("written");
    let (code, said) = store_backup(&folder.path().join("text.db"), &backup);
    assert!(code == Some(1) && said.contains("is not a database"), "{said}");
    assert!(!backup.exists());
}

#[test]
fn a_database_is_dumped_while_gateways_serve_and_restored() {
    let upstream = upstream();
    let server = Postgres::shared();
    let (database, restored) = (Arc::new(server.database()), Arc::new(server.database()));
    let gateway = Gateway::over(StateDirectory::over(&database), &text(&upstream));
    let mut dump = Vec::new();
    let known = backed_up_while_serving(&gateway, || {
        let output = database.client("pg_dump").arg("--format=custom").output().expect("pg_dump");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        dump = output.stdout;
    });
    drop(gateway);
    let mut restore = restored.client("pg_restore");
    restore.args(["--no-owner", "--exit-on-error", "--dbname", &restored.name]).stdin(Stdio::piped());
    let mut restore = restore.stderr(Stdio::piped()).spawn().expect("pg_restore");
    restore.stdin.take().expect("a pipe").write_all(&dump).expect("sent");
    let output = restore.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    known.check(&Gateway::over(StateDirectory::over(&restored), &text(&upstream)));
}
