//! A new process renames a tenant while the old one still serves it under its former name.

use super::clients::{RawConnection, is_known, upstream};
use super::{place, serve};
use crate::harness::calls::{generate, poll, submit};
use crate::harness::client;
use crate::harness::gateway::CONFIG_FILE;
use crate::process::{Process, program};

#[test]
fn each_process_knows_the_tasks_of_the_other_under_the_name_that_it_uses() {
    let upstream = upstream();
    let folder = place(upstream.address);
    let mut old = serve(folder.path());
    let address = old.address();
    let mut kept: Vec<RawConnection> =
        (0..3).map(|_| RawConnection::open(address).expect("a connection")).collect();
    for line in &mut kept {
        assert_eq!(line.ask(&generate("{}")).expect("an answer").status(), 200);
    }
    assert_eq!(kept[0].ask(&submit()).expect("an answer").status(), 200);
    // A file of its own, as the old process would reload that of both.
    let text = std::fs::read_to_string(folder.path().join(CONFIG_FILE)).expect("a file");
    let renamed = text.replace("name = \"one\"", "name = \"uno\"\nrenamed_from = \"one\"");
    let file = folder.path().join("renamed.toml");
    std::fs::write(&file, renamed).expect("written");
    let mut new =
        Process::start(program(folder.path()).args(["serve", "--take-over", "--config"]).arg(&file));
    assert_eq!(new.address(), address);
    // The old process serves one more request on each connection.
    let made = client::once(address, submit());
    assert_eq!((made.status(), &made.json()["output"]["task_id"]), (200, &"t-1".into()), "{}", made.text());
    for (line, request) in kept.iter_mut().zip([poll("t-0"), poll("t-1"), submit()]) {
        let got = line.ask(&request).expect("an answer");
        assert!(is_known(&got), "{}{}", got.head, got.text());
    }
    for id in ["t-0", "t-1", "t-2"] {
        let got = client::once(address, poll(id));
        assert!(is_known(&got), "{id}: {}{}", got.head, got.text());
    }
    drop(kept);
    let (status, printed) = old.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("has taken over"), "{printed}");
    new.signal("TERM");
    let (status, printed) = new.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("the tenant `one` is `uno` now"), "{printed}");
}
