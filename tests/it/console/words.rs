//! The words of the page: each language has the same keys, and no key is missing or of no use.

use std::collections::{BTreeMap, BTreeSet};

use crate::console::files;

/// Keys and texts of each language.
fn dictionaries() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (name, text) in files() {
        let Some(language) = name.strip_prefix("words/") else { continue };
        let entries = text
            .lines()
            .filter_map(|line| line.trim().strip_suffix("\",")?.strip_prefix('"')?.split_once("\": \""));
        let entries: BTreeMap<String, String> =
            entries.map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
        let lines = text.lines().filter(|line| line.trim().starts_with('"')).count();
        assert_eq!(
            entries.len(),
            lines,
            "{name}: a key stands there twice, or a line is not `\"key\": \"text\",`"
        );
        found.insert(language.to_owned(), entries);
    }
    found
}

fn names(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

#[test]
fn the_languages_have_the_same_keys_and_names() {
    let all = dictionaries();
    assert_eq!(all.keys().map(String::as_str).collect::<Vec<_>>(), ["en.js", "zh.js"]);
    let (english, chinese) = (&all["en.js"], &all["zh.js"]);
    assert_eq!(english.keys().collect::<Vec<_>>(), chinese.keys().collect::<Vec<_>>());
    for (key, text) in english.iter().filter(|(key, _)| *key != "tenant.more_hint") {
        let translated = &chinese[key];
        assert!(!text.is_empty() && !translated.is_empty(), "{key}");
        assert_eq!(names(text), names(translated), "{key}");
    }
}

#[test]
fn every_key_is_used_and_every_used_key_is_there() {
    let english = &dictionaries()["en.js"];
    let code: String =
        files().into_iter().filter(|(name, _)| !name.starts_with("words/")).map(|(_, text)| text).collect();
    let mut groups = BTreeSet::new();
    for rest in behind(&code, "t(") {
        if let Some(key) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
            let is_key = key.contains('.') && !key.contains(['/', ' ', '-']);
            assert!(!is_key || english.contains_key(key), "no words for {key}");
        } else if let Some(start) = rest.strip_prefix('`').and_then(|rest| rest.split("${").next()) {
            groups.insert(start.to_owned());
        }
    }
    for rest in behind(&code, "worded(\"") {
        groups.insert(format!("{}.", rest.split('"').next().expect("a group")));
    }
    let is_used =
        |key: &str| code.contains(&format!("\"{key}\"")) || groups.iter().any(|group| key.starts_with(group));
    let unused: Vec<&String> = english.keys().filter(|key| !is_used(key)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

/// The code behind each call of a function, whose name begins there.
fn behind<'c>(code: &'c str, call: &'c str) -> impl Iterator<Item = &'c str> {
    let is_whole =
        |at: usize| !code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '.');
    code.match_indices(call).filter(move |(at, _)| is_whole(*at)).map(move |(at, _)| &code[at + call.len()..])
}
