//! The code blocks of the documents, by language: each language has its check.

use std::path::Path;
use std::process::Command;

use dashgate::config::{Config, EventType};
use strum::VariantArray;
use tempfile::TempDir;
use toml::{Table, Value};

use super::documents;
use super::shell::heredocs;
use super::upstream::WEBHOOK_SECRET;
use crate::clients::ClientScript;
use crate::harness::tls::Authority;

/// A block of code in a document.
pub(super) struct Block {
    /// File and line.
    pub(super) place: String,
    language: String,
    pub(super) text: String,
}

/// The blocks of this language.
pub(super) fn blocks(language: &str) -> Vec<Block> {
    let found: Vec<Block> = all().into_iter().filter(|block| block.language == language).collect();
    assert!(!found.is_empty(), "no block of {language}");
    found
}

fn all() -> Vec<Block> {
    let mut found = Vec::new();
    for (path, text) in documents() {
        let mut open: Option<Block> = None;
        for (number, line) in text.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(language)) => {
                    let place = format!("{path}:{}", number + 1);
                    open = Some(Block { place, language: language.to_owned(), text: String::new() });
                }
                (Some(_), Some(_)) => found.extend(open.take()),
                (Some(block), None) => block.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{path}: a block has no end");
    }
    found
}

#[test]
fn each_block_is_of_a_language_that_has_a_check() {
    for block in all() {
        // The check of sh is in `commands`, the others are in this file.
        let has_check = ["toml", "python", "js", "json", "sh"].contains(&&*block.language);
        assert!(has_check, "{}: nothing checks {:?}", block.place, block.language);
    }
}

#[test]
fn each_fragment_of_a_configuration_is_one_that_the_gateway_takes() {
    let fragments = blocks("toml").into_iter().map(|block| (block.place, block.text));
    let written = blocks("sh").into_iter().flat_map(|block| {
        let files = heredocs(&block.text).into_iter().filter(|(name, _)| name.ends_with(".toml"));
        files.map(move |(_, text)| (block.place.clone(), text)).collect::<Vec<_>>()
    });
    let mut checked = 0;
    for (place, text) in fragments.chain(written) {
        let mut document: Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{place}: {error}"));
        for (key, value) in least() {
            document.entry(key).or_insert(value);
        }
        let folder = TempDir::new().expect("a folder");
        provide(&document, folder.path(), &Authority::new());
        let environment = |name: &str| match name.ends_with("_HOOK") {
            true => Some(WEBHOOK_SECRET.to_owned()),
            false => Some(format!("sk-0123456789abcdef-{name}")),
        };
        let text = toml::to_string(&document).expect("TOML");
        if let Err(faults) = Config::parse(&text, folder.path(), &environment) {
            panic!("{place}: {faults:#?}");
        }
        checked += 1;
    }
    assert!(checked >= 9, "fragments checked: {checked}");
}

/// The tables that every configuration needs.
fn least() -> Table {
    toml::from_str(
        r#"
        accounts = [{ name = "main", base_url = "https://h", keys = ["sk-1"] }]
        tenants = [{ name = "t" }]
        "#,
    )
    .expect("TOML")
}

/// Writes the files that a configuration names.
fn provide(table: &Table, folder: &Path, authority: &Authority) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("written");
    let name = |key: &str| table.get(key).and_then(Value::as_str);
    if let (Some(certificate), Some(key)) = (name("cert"), name("key")) {
        let identity = authority.server();
        write(certificate, identity.certificate);
        write(key, identity.key);
    }
    if let Some(file) = name("client_ca") {
        write(file, authority.pem());
    }
    if let Some(file) = name("client_crl") {
        write(file, authority.revoking(&[1]));
    }
    for file in ["key_file", "password_file"].into_iter().filter_map(name) {
        write(file, format!("sk-0123456789abcdef-{file}"));
    }
    for value in table.values() {
        let tables = value.as_array().into_iter().flatten().chain([value]).filter_map(Value::as_table);
        tables.for_each(|inner| provide(inner, folder, authority));
    }
}

#[test]
fn the_python_examples_run_against_the_gateway() {
    assert!(!blocks("python").is_empty());
    ClientScript::python("documents.py").run();
}

/// Blocks of JSON are payloads of webhooks.
#[test]
fn each_payload_is_of_an_event_that_there_is() {
    for block in blocks("json") {
        let payload: serde_json::Value =
            serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{}: {error}", block.place));
        let is_known = EventType::VARIANTS.iter().any(|event| payload["type"] == event.name());
        assert!(is_known && payload["data"].is_object(), "{}: {payload}", block.place);
    }
}

#[test]
fn each_block_for_node_can_be_read() {
    crate::clients::installed("");
    let folder = TempDir::new().expect("a folder");
    for block in blocks("js") {
        let file = folder.path().join("block.mjs");
        std::fs::write(&file, &block.text).expect("written");
        let output = Command::new("node").arg("--check").arg(&file).output().expect("node");
        assert!(output.status.success(), "{}: {}", block.place, String::from_utf8_lossy(&output.stderr));
    }
}
