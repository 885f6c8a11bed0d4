//! Pictures of the page for the guide. Where `DASHGATE_PICTURES` names a directory for them, the gateway works for a minute
//! first, so that the plots have something to show.

use std::path::PathBuf;

use super::{Console, gateway, run_task, submit, upstream};
use crate::harness::browser::Look;
use crate::harness::{Gateway, OTHER_KEY, TENANT_KEY, let_pass};
use std::time::Duration;

#[test]
fn pictures_for_the_guide() {
    let scratch = tempfile::tempdir().expect("a directory");
    let kept = std::env::var_os("DASHGATE_PICTURES").map(PathBuf::from);
    let is_kept = kept.is_some();
    let directory = kept.unwrap_or_else(|| scratch.path().to_owned());
    let upstream = upstream();
    let gateway = gateway(&upstream);
    for (at, key) in [TENANT_KEY, OTHER_KEY, TENANT_KEY].into_iter().cycle().take(24).enumerate() {
        work(&gateway, key, at);
    }
    let looks = [
        ("#/now", Look { is_dark: true, ..Look::default() }),
        ("#/usage?by=model", Look { language: "zh-CN", ..Look::default() }),
        ("#/tasks", Look { window: (390, 844), ..Look::default() }),
    ];
    for (name, (place, look)) in PICTURES.into_iter().zip(looks) {
        let console = Console::enter(&gateway, look);
        console.go(place);
        // The plots grow by a point at each sample.
        for at in 0..12 {
            if name == "now" && is_kept {
                (0..4).for_each(|more| work(&gateway, TENANT_KEY, 100 + 10 * at + more));
                let_pass(Duration::from_secs(5));
            }
        }
        let_pass(Duration::from_secs(1));
        let picture = console.browser.picture();
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000, "{name}: {} bytes", picture.len());
        std::fs::write(directory.join(format!("{name}.png")), picture).expect("a picture");
    }
}

/// A task that ends well or badly, or a request with a wrong key.
fn work(gateway: &Gateway, key: &str, at: usize) {
    let model = ["wan2.7-t2v", "wan2.7-i2v", "wan2.6-t2v"][at % 3];
    match at % 7 {
        3 => assert_eq!(submit(gateway, "sk-nobody", "{}"), 401),
        5 => run_task(gateway, key, &format!("failed-{at:04}"), model),
        _ => run_task(gateway, key, &format!("3f8a1c5e-90d2-4b7e-8c41-{at:012}"), model),
    }
}

/// Names of the pictures in `deploy/guide/en/pictures`.
pub(crate) const PICTURES: [&str; 3] = ["now", "usage", "tasks"];
