//! The document against the table of paths and the table of problems, both ways. Real answers are held against it
//! by the integration tests.

use std::collections::BTreeSet;

use serde_json::Value;

use super::DOCUMENT;
use super::problem::Problem;
use super::route::{PATHS, is_guarded};
use crate::store::{CommitFault, StoreCause, StoreFault};

fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("JSON")
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("operations");
        item.iter().map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

#[test]
fn it_has_every_path_and_no_other() {
    let document = document();
    let written: BTreeSet<(String, String)> =
        operations(&document).map(|(path, method, _)| (path.to_owned(), method.to_uppercase())).collect();
    let routed: BTreeSet<(String, String)> = PATHS
        .iter()
        .flat_map(|(path, offered)| {
            offered.iter().map(|(method, _)| ((*path).to_owned(), method.as_str().to_owned()))
        })
        .collect();
    assert_eq!(written, routed);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn it_says_what_needs_the_token() {
    let document = document();
    assert_eq!(document["security"][0]["admin_token"], serde_json::json!([]));
    for (path, method, operation) in operations(&document) {
        let open = operation["security"].as_array().is_some_and(Vec::is_empty);
        assert_eq!(open, !is_guarded(path), "{method} {path}");
        let named = operation["parameters"].as_array().into_iter().flatten();
        for name in ["id", "name"] {
            let has_it = named.clone().any(|one| one["$ref"] == format!("#/components/parameters/{name}"));
            assert_eq!(has_it, path.contains(&format!("{{{name}}}")), "{method} {path}");
        }
        for status in ["401", "403"] {
            assert_eq!(operation["responses"][status].is_object(), is_guarded(path), "{method} {path}");
        }
    }
}

#[test]
fn it_has_every_code_of_a_problem_and_no_other() {
    let document = document();
    let listed = |value: &Value| -> BTreeSet<String> {
        let names = value.as_array().into_iter().flatten();
        names.map(|name| name.as_str().expect("text").to_owned()).collect()
    };
    let written = listed(&document["components"]["schemas"]["Error"]["properties"]["code"]["enum"]);
    let real: BTreeSet<String> = every().iter().map(|problem| problem.code().to_owned()).collect();
    assert_eq!(written, real);
    // Each code is listed at an operation, too, except the codes that concern no operation.
    let mut used: BTreeSet<String> =
        ["not_found", "method_not_allowed", "cleartext", "foreign_host"].map(str::to_owned).into();
    collect(&document["paths"], &mut used);
    collect(&document["components"]["responses"], &mut used);
    assert_eq!(used, real);
}

fn collect(value: &Value, codes: &mut BTreeSet<String>) {
    if let Some(code) = value.pointer("/properties/code") {
        let names = code["enum"].as_array().cloned().unwrap_or_else(|| vec![code["const"].clone()]);
        codes.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    match value {
        Value::Object(map) => map.values().for_each(|value| collect(value, codes)),
        Value::Array(items) => items.iter().for_each(|value| collect(value, codes)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn every() -> Vec<Problem> {
    let text = String::new;
    let fault = || StoreFault { store: std::path::Path::new("x").into(), cause: StoreCause::Stuck };
    vec![
        Problem::Off,
        Problem::Unauthorized,
        Problem::ReadOnly,
        Problem::NoCertificate,
        Problem::Cleartext,
        Problem::ForeignHost,
        Problem::NotFound(Vec::new()),
        Problem::WrongMethod(text()),
        Problem::WrongContent,
        Problem::BodyTooLarge,
        Problem::SlowBody,
        Problem::BrokenBody,
        Problem::BadJson(text()),
        Problem::BadField("", "".into()),
        Problem::UnknownTenant(text()),
        Problem::NoSuchTenant(text()),
        Problem::NoSuchEntry(text()),
        Problem::IdTaken(text()),
        Problem::NameTaken(text()),
        Problem::ConfiguredTenant(text()),
        Problem::ChangedMeanwhile(text()),
        Problem::BadTenant(Vec::new()),
        Problem::Configured { id: text(), tenant: text() },
        Problem::NoSuchKey(text()),
        Problem::UnknownSecret { is_mistyped: true },
        Problem::Ended(text()),
        Problem::Unconfirmed(CommitFault::NotMade(fault())),
        Problem::Unconfirmed(CommitFault::Unclear(fault())),
        Problem::NotEntered(CommitFault::NotMade(fault())),
        Problem::NotEntered(CommitFault::Unclear(fault())),
        Problem::Unassured(CommitFault::Unclear(fault())),
        Problem::NoSuchTask(text()),
        Problem::NoSuchOrphan(text()),
        Problem::TaskOwned(text()),
        Problem::NoSuchDelivery(text()),
        Problem::RepricedInPart(fault()),
        Problem::RevokedNotKept(CommitFault::Unclear(fault())),
        Problem::NoRandomness(getrandom::Error::UNSUPPORTED),
        Problem::NoFile,
        Problem::BadConfig(Vec::new()),
        Problem::ReloadBusy,
        Problem::TooManyGroups,
        Problem::ReportsBusy,
        Problem::Unreadable(fault()),
        Problem::Panicked,
    ]
}
