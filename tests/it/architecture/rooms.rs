//! Rooms: each uses only rooms below it in the map of `src/lib.rs`, and of those only the ones that [`MAY_USE`] names.

use std::collections::BTreeSet;
use std::fs;

use super::{root, sources};

#[test]
fn rooms_use_only_what_the_rule_allows() {
    let mut needed = BTreeSet::new();
    for file in sources() {
        let room = file.room();
        if WIRING.contains(&room) {
            continue;
        }
        let rule = MAY_USE.iter().find(|(name, _)| *name == room);
        let (room, allowed) = rule.unwrap_or_else(|| panic!("{} is not in the rule", file.path.display()));
        for used in file.text.split("crate::").skip(1).map(first_name).filter(|used| used != room) {
            let path = file.path.display();
            assert!(allowed.contains(&used), "{path} uses {used}, and {room} may use {allowed:?}");
            needed.insert((*room, used.to_owned()));
        }
    }
    for (room, allowed) in MAY_USE {
        for used in *allowed {
            assert!(
                needed.contains(&(*room, (*used).to_owned())),
                "{room} need not be allowed to use {used}"
            );
        }
    }
}

#[test]
fn rooms_use_only_rooms_below_them_in_the_map() {
    let map = map();
    let place = |room: &str| map.iter().position(|known| known == room);
    for (room, allowed) in MAY_USE.iter().filter(|(_, allowed)| !allowed.is_empty()) {
        let above = place(room).unwrap_or_else(|| panic!("{room} is not in the map"));
        for used in *allowed {
            let below = place(used).unwrap_or_else(|| panic!("{used} is not in the map"));
            assert!(above < below, "{room} uses {used}, which stands above it in the map");
        }
    }
}

#[test]
fn the_map_names_every_room() {
    let rooms: BTreeSet<String> = sources()
        .iter()
        .map(|file| file.room().to_owned())
        .filter(|room| !["main", "lib", "build"].contains(&room.as_str()))
        .collect();
    assert_eq!(map().into_iter().collect::<BTreeSet<_>>(), rooms);
}

/// Rooms in the order of the map in `src/lib.rs`, whose rows begin with ``| [`room`] |``.
fn map() -> Vec<String> {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.filter_map(|row| row.split_once("`] |")).map(|(room, _)| room.to_owned()).collect()
}

fn first_name(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    &text[..end.unwrap_or(text.len())]
}

/// Rooms that each room may use, all of them below it in the map of `src/lib.rs`. The wiring may use all.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "admin",
        &[
            "account",
            "config",
            "dashscope",
            "lifecycle",
            "net",
            "proxy",
            "reports",
            "store",
            "tasks",
            "telemetry",
            "tenant",
            "usage",
            "webhooks",
        ],
    ),
    ("server", &["lifecycle", "net", "proxy", "telemetry", "tenant"]),
    // A reload sets the format of the diagnostics.
    ("lifecycle", &["config", "proxy", "reports", "store", "telemetry", "tenant", "usage"]),
    (
        "proxy",
        &[
            "account",
            "config",
            "dashscope",
            "limits",
            "net",
            "polling",
            "reports",
            "store",
            "tasks",
            "telemetry",
            "tenant",
            "unified",
            "upstream",
            "usage",
        ],
    ),
    (
        "polling",
        &["account", "config", "dashscope", "limits", "store", "tasks", "telemetry", "tenant", "upstream"],
    ),
    ("webhooks", &["config", "dashscope", "net", "reports", "store", "telemetry", "tenant"]),
    ("tasks", &["dashscope", "limits", "store"]),
    ("tenant", &["account", "config", "dashscope", "net", "store", "telemetry"]),
    ("upstream", &["account", "config", "dashscope", "net", "telemetry"]),
    ("account", &["config", "dashscope", "limits", "net", "store", "telemetry"]),
    ("limits", &["config", "dashscope", "store", "usage"]),
    ("reports", &["dashscope", "store", "usage"]),
    ("store", &["config", "dashscope", "net", "unified", "usage"]),
    ("telemetry", &["config", "dashscope", "net"]),
    ("config", &["dashscope", "net", "unified", "usage"]),
    ("net", &[]),
    ("usage", &["dashscope"]),
    ("unified", &["dashscope"]),
    ("dashscope", &[]),
    ("sim", &[]),
    ("lib", &[]),
    ("build", &[]),
];

/// Files that wire rooms together.
const WIRING: [&str; 3] = ["main", "app", "cli"];
