//! Circles: files of one room do not use each other in a circle, so that a file can be read after the
//! files that it uses.
//!
//! A module and its parent count as one place: a child may use the parent's types, and the parent calls its children.
//! Names that a parent re-exports count as names of the file that defines them. Tests are left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{SourceFile, sources};

#[test]
fn files_of_a_room_use_each_other_in_no_circle() {
    let graph = Graph::of(&sources());
    let circles: BTreeMap<BTreeSet<&str>, Vec<&str>> = graph
        .edges
        .keys()
        .filter_map(|module| graph.circle(module))
        .map(|circle| (circle.iter().copied().collect(), circle))
        .collect();
    let found: Vec<String> =
        circles.values().map(|path| format!("{} ▶ {}", path.join(" ▶ "), path[0])).collect();
    assert!(found.is_empty(), "circles:\n{}", found.join("\n"));
}

/// Modules of one file each, and the modules of the same room that each uses.
struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn of(sources: &[SourceFile]) -> Graph {
        let files: BTreeMap<String, File> = sources
            .iter()
            .filter(|source| !source.module.last().is_some_and(|name| name.ends_with("_tests")))
            .map(|source| (source.module.join("::"), File::read(&source.text)))
            .collect();
        let edges = files.keys().map(|module| (module.clone(), uses(&files, module))).collect();
        Graph { edges }
    }

    /// The shortest circle through a module.
    fn circle<'a>(&'a self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next = VecDeque::from([start]);
        while let Some(module) = next.pop_front() {
            for used in self.edges.get(module)? {
                if used == start {
                    let mut circle = vec![module];
                    while circle[circle.len() - 1] != start {
                        circle.push(before[circle[circle.len() - 1]]);
                    }
                    circle.reverse();
                    return Some(circle);
                }
                if !before.contains_key(used.as_str()) {
                    before.insert(used, module);
                    next.push_back(used);
                }
            }
        }
        None
    }
}

/// Paths that a file uses, and names that it re-exports with the paths behind them.
struct File {
    used: Vec<String>,
    exported: BTreeMap<String, String>,
}

impl File {
    fn read(text: &str) -> File {
        let mut file = File { used: Vec::new(), exported: BTreeMap::new() };
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        let code = code.join("\n");
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut rest = String::new();
        for statement in code.split_inclusive(';') {
            let begin = statement.rfind("use ").filter(|begin| is_start_of_use(&statement[..*begin]));
            let Some(begin) = begin else {
                rest.push_str(statement);
                continue;
            };
            rest.push_str(&statement[..begin]);
            let line = statement[..begin].rsplit('\n').next().unwrap_or_default();
            let paths = paths_of_tree(statement[begin + 4..].trim_end_matches(';'));
            if line.trim_start().starts_with("pub") {
                let named =
                    paths.into_iter().map(|path| (path.rsplit("::").next().unwrap_or("").to_owned(), path));
                file.exported.extend(named);
            } else {
                file.used.extend(paths);
            }
        }
        let inline = rest.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_:".contains(letter));
        file.used.extend(inline.filter(|path| path.contains("::")).map(str::to_owned));
        file
    }
}

/// True when a `use` behind this text begins a statement: only blanks and a visibility stand before it in its line.
fn is_start_of_use(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default().trim();
    line.is_empty() || line.starts_with("pub")
}

/// The paths of a `use` tree: `a::{b, c::D}` gives `a::b` and `a::c::D`.
fn paths_of_tree(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((stem, branches)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or_default().trim().to_owned()];
    };
    let branches = branches.trim_end().strip_suffix('}').unwrap_or(branches);
    let mut depth = 0;
    let parts = branches.split(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    let parts = parts.filter(|part| !part.trim().is_empty());
    parts.flat_map(paths_of_tree).map(|path| format!("{}{path}", stem.trim())).collect()
}

/// Modules of the same room that a module uses, without its ancestors and descendants.
fn uses(files: &BTreeMap<String, File>, module: &str) -> BTreeSet<String> {
    let family = |other: &str| {
        other == module
            || other.starts_with(&format!("{module}::"))
            || module.starts_with(&format!("{other}::"))
    };
    let room = module.split("::").next();
    let used = files[module].used.iter().filter_map(|path| definition(files, module, path, 0));
    used.filter(|used| used.split("::").next() == room && !family(used)).collect()
}

/// The module whose file defines the name at the end of a path that stands in `module`.
fn definition(files: &BTreeMap<String, File>, module: &str, path: &str, depth: usize) -> Option<String> {
    let mut names: VecDeque<&str> = path.split("::").collect();
    let mut place: Vec<&str> = module.split("::").collect();
    match *names.front()? {
        "crate" => place.clear(),
        "super" | "self" => {}
        child if files.contains_key(&format!("{module}::{child}")) => {}
        _ => return None,
    }
    while let Some(&name @ ("crate" | "super" | "self")) = names.front() {
        names.pop_front();
        if name == "super" {
            place.pop();
        }
    }
    while let Some(name) = names.front() {
        let child = place.iter().chain([name]).copied().collect::<Vec<_>>().join("::");
        if !files.contains_key(&child) {
            break;
        }
        place.push(name);
        names.pop_front();
    }
    let place = place.join("::");
    let exported = names.front().and_then(|name| files.get(&place)?.exported.get(*name));
    match exported {
        Some(behind) if depth < 5 => definition(files, &place, behind, depth + 1).or(Some(place)),
        Some(_) | None => files.contains_key(&place).then_some(place),
    }
}
