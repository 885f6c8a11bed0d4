//! Each fragment of a configuration in the documents is one that the gateway takes.

use std::path::Path;

use dashgate::config::Config;
use tempfile::TempDir;
use toml::{Table, Value};

use super::blocks::unmarked;
use super::shell::heredocs;
use super::world::WEBHOOK_SECRET;
use crate::harness::tls::Authority;

#[test]
fn each_fragment_of_a_configuration_is_one_that_the_gateway_takes() {
    let fragments = unmarked("toml").into_iter().map(|block| (block.place(), block.text));
    let written = super::blocks::blocks("sh").into_iter().flat_map(|block| {
        let files = heredocs(&block.text).into_iter().filter(|(name, _)| name.ends_with(".toml"));
        files.map(move |(_, text)| (block.place(), text)).collect::<Vec<_>>()
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
