//! The `see:` lines of error messages lead into the guide.

use std::process::Command;

use dashgate::cli::guide::GuidePlace;
use serde_json::Value;
use strum::VariantArray;
use tempfile::TempDir;

use super::links::anchors;
use super::{guide, read, root};

#[test]
fn each_place_that_a_message_names_is_there() {
    for place in GuidePlace::VARIANTS {
        let (page, anchor) = place.page_and_anchor();
        for language in ["en", "zh"] {
            let path = format!("deploy/guide/{language}/{page}");
            assert!(root().join(&path).exists(), "{place:?} names {path}, which is not there");
        }
        let anchors = anchors(&guide(page));
        assert!(anchor.is_empty() || anchors.contains(anchor), "{place}: the headings are {anchors:?}");
    }
}

/// A fault of a setting names the section of the guide whose tables have the setting.
#[test]
fn each_setting_is_in_the_section_that_its_fault_names() {
    let schema: Value = serde_json::from_str(&read("deploy/dashgate.schema.json")).expect("JSON");
    for table in schema["properties"].as_object().expect("tables").keys() {
        let place = GuidePlace::of_setting(table);
        let (page, anchor) = place.page_and_anchor();
        let page = guide(page);
        let is_it = |section: &&str| anchors(&format!("## {section}")).contains(anchor);
        let section = page.split("\n## ").find(is_it).unwrap_or_else(|| panic!("{place}: no section"));
        let tables = [format!("`[{table}]`"), format!("`[[{table}]]`")];
        assert!(tables.iter().any(|table| section.contains(table)), "{place} has no table of [{table}]");
    }
}

#[test]
fn messages_say_where_to_read_on() {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("wrong.toml"), "[server]\nlisten = 1\n[[tenants]]\nnam = \"t\"\n")
        .expect("written");
    let said = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dashgate"));
        command.env_remove("DASHSCOPE_API_KEY").env_remove("DASHGATE_CONFIG").current_dir(folder.path());
        let output = command.args(arguments).output().expect("the dashgate binary");
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    for (arguments, places) in [
        (&["check", "-c", "wrong.toml"][..], &[GuidePlace::ServerSettings, GuidePlace::TenantSettings][..]),
        (&["serve", "-c", "absent.toml"], &[GuidePlace::Settings]),
        (&["serve"], &[GuidePlace::Start]),
        (&["keys", "list", "--admin", "http://127.0.0.1:1"], &[GuidePlace::Keys]),
        (&["store", "backup", "--from", "absent.db", "--to", "copy"], &[GuidePlace::Store]),
    ] {
        let said = said(arguments);
        for place in places {
            assert!(
                said.lines().any(|line| line == place.to_string()),
                "{arguments:?}: no {place} in {said}"
            );
        }
    }
}
