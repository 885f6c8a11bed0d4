//! Instructions of a request by stage, by callgrind: the gateway's own stages by their modules, the rest by crate.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::Options;
use crate::build;
use crate::figures::Report;
use crate::instructions::{self, CALLS, COUNTED, World};
use crate::peer::Kind;

/// Instructions by part, of all that were counted.
type Parts = BTreeMap<String, u64>;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    eprintln!("instructions by stage: building a program that still knows its functions ...");
    let program = build::release(".", "stages", &WITH_NAMES)?.join("dashgate");
    for call in CALLS {
        let parts = instructions::of(options, World::SMALL, call, &program, parts).await?;
        let mut each: Vec<(String, u64)> = parts.into_iter().collect();
        each.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        let (large, small): (Vec<_>, Vec<_>) =
            each.into_iter().partition(|(_, count)| *count >= u64::from(COUNTED) * SHOWN_FROM);
        let rest = ("the rest".to_owned(), small.iter().map(|(_, count)| count).sum());
        for (part, count) in large.into_iter().chain([rest]) {
            let thousands = count as f64 / f64::from(COUNTED) / 1e3;
            report.add(&format!("{}: {part}", call.name()), "thousands", Kind::Dashgate, thousands);
        }
    }
    Ok(())
}

/// Settings of a build like the release in which functions keep their places and names: after inlining at link time, or
/// without names, instructions can't be assigned to a stage.
const WITH_NAMES: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_STRIP", "none"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only"),
];

/// Reads callgrind's format ("Callgrind Format Specification"): costs stand below the function, file and object that
/// they are of; behind `calls=` stands a cost that is not the function's own.
fn parts(counts: &Path) -> io::Result<Parts> {
    let mut parts = Parts::new();
    let (mut object, mut file, mut part) = (String::new(), String::new(), String::new());
    let mut is_of_callee = false;
    for line in BufReader::new(File::open(counts)?).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(name) = line.strip_prefix("ob=") {
            name.clone_into(&mut object);
        } else if let Some(name) = line.strip_prefix("fl=") {
            name.clone_into(&mut file);
        } else if let Some(name) = line.strip_prefix("fn=") {
            part = part_of(name, &file, &object);
        } else if line.starts_with("calls=") {
            is_of_callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '*')) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if !std::mem::take(&mut is_of_callee) {
                *parts.entry(part.clone()).or_default() += cost.unwrap_or(0);
            }
        }
    }
    if parts.is_empty() {
        return Err(io::Error::other("callgrind has written no costs"));
    }
    Ok(parts)
}

/// The part that a function belongs to: for dashgate's functions the module, and below `proxy` the stage.
fn part_of(function: &str, file: &str, object: &str) -> String {
    if file.contains("sqlite3") {
        return "SQLite".to_owned();
    }
    if file.contains("jemalloc") || function.contains("_rjem_") {
        return "memory allocation".to_owned();
    }
    if !function.contains("::") {
        return if object.contains("libc.so") { "libc: copies, system calls" } else { "others in C" }
            .to_owned();
    }
    let path = function.trim_start_matches(['<', '&', '*']);
    let mut segments = path.split("::");
    let name = |segment: Option<&str>| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        segment.unwrap_or("").split(|c| !word(c)).next().unwrap_or("").to_owned()
    };
    match (name(segments.next()).as_str(), name(segments.next()).as_str()) {
        ("dashgate", "proxy") => format!("proxy::{}", name(segments.next())),
        ("dashgate", module) => module.to_owned(),
        ("core" | "alloc" | "std" | "hashbrown", _) => "the standard library".to_owned(),
        (crate_name, _) => format!("crate {crate_name}"),
    }
}

/// Instructions of a request below which a part is not shown by itself.
const SHOWN_FROM: u64 = 400;
