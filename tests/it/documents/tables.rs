//! The tables of the guide against what the program has: settings with defaults, reasons, groups of calls, alerts,
//! calls of the admin API, fields of the access log.

use std::collections::{BTreeMap, BTreeSet};

use dashgate::dashscope::operation::Group;
use dashgate::telemetry::metrics::Reason;
use serde_json::Value;

use super::{cells, guide, in_backticks, read, texts_below};
use crate::deploy::schema_places::{PathStep, places};
use crate::deploy::tools;
use crate::harness::calls::{generate, poll, submit, task};
use crate::harness::{Gateway, Upstream, eventually};

#[test]
fn the_settings_page_has_every_setting_with_its_default() {
    let schema: Value = serde_json::from_str(&read("deploy/dashgate.schema.json")).expect("JSON");
    let settings = places(&schema).into_iter().filter_map(|place| match place.path.last()? {
        // A table of the file's first level is the heading of its settings.
        PathStep::Key(_) if place.path.len() > 1 => {
            Some((place.pattern(), place.schema.get("default").cloned()))
        }
        PathStep::Key(_) | PathStep::First => None,
    });
    let settings: BTreeMap<String, Option<Value>> = settings.collect();
    assert!(settings.len() > 80, "settings of the schema: {}", settings.len());
    let names = |of: &BTreeMap<String, Option<Value>>| of.keys().cloned().collect::<BTreeSet<_>>();
    for (language, place) in LANGUAGES {
        let page = read(&format!("deploy/guide/{language}/settings.md"));
        let documented = documented_settings(&page, place);
        assert_eq!(
            names(&documented),
            names(&settings),
            "{language}: the guide's settings, and the schema's"
        );
        for (name, default) in &settings {
            assert_eq!(
                &documented[name], default,
                "{language}, {name}: the guide's default, and the schema's"
            );
        }
    }
}

/// The guide's languages, each with the words behind which a page of settings names the tables of a setting.
const LANGUAGES: [(&str, &str); 2] = [("en", "\nIn: "), ("zh", "\n位置：")];

/// Settings of the tables that stand behind a line "In: `[table]`". A default is a value in backticks.
fn documented_settings(page: &str, place: &str) -> BTreeMap<String, Option<Value>> {
    let mut documented = BTreeMap::new();
    for paragraphs in page.split(place).skip(1) {
        let (tables, rest) = paragraphs.split_once("\n\n").expect("a table");
        let tables = in_backticks(tables);
        assert!(!tables.is_empty(), "{paragraphs}");
        for row in rest.lines().take_while(|line| line.starts_with('|')).filter(|row| row.starts_with("| `"))
        {
            let [key, _, default] = cells(row)[..] else { panic!("a row of three cells: {row}") };
            let key = in_backticks(key).concat();
            let default = default.starts_with('`').then(|| {
                let value: toml::Table =
                    toml::from_str(&format!("value = {}", in_backticks(default).concat()))
                        .unwrap_or_else(|error| panic!("{row}: {error}"));
                serde_json::to_value(&value["value"]).expect("JSON")
            });
            for table in &tables {
                let name = format!("{}.{key}", table.trim_matches(['[', ']']));
                assert!(
                    documented.insert(name.clone(), default.clone()).is_none(),
                    "{name} is documented twice"
                );
            }
        }
    }
    documented
}

#[test]
fn the_refusals_page_has_every_reason() {
    let mut reasons: Vec<String> = Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    reasons.sort();
    for (language, _) in LANGUAGES {
        let documented = first_cells(&read(&format!("deploy/guide/{language}/refusals.md")), "| `");
        assert_eq!(documented, reasons, "{language}: the guide's reasons in their order, and the program's");
    }
}

#[test]
fn each_group_of_calls_is_told_with_its_calls() {
    let page = guide("paths.md");
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let documented: BTreeSet<String> =
        rows.filter_map(|row| cells(row).get(1).map(|cell| in_backticks(cell))).flatten().collect();
    let groups: BTreeSet<String> = Group::ALL.iter().map(|group| group.name().to_owned()).collect();
    assert_eq!(documented, groups, "the guide's groups, and the program's");
}

#[test]
fn observability_has_every_alert() {
    let rules = read("deploy/prometheus/rules.yml");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: BTreeSet<String> = alerts.map(str::to_owned).collect();
    let documented: BTreeSet<String> =
        first_cells(&guide("observability.md"), "| `Dashgate").into_iter().collect();
    assert_eq!(documented, alerts, "the guide's alerts, and those of rules.yml");
}

#[test]
fn the_guide_has_every_call_of_the_admin_api() {
    let document: Value = serde_json::from_str(&read("src/admin/openapi.json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    let calls = paths.filter(|(path, _)| path.starts_with("/admin/")).flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").keys().filter(|method| *method != "parameters");
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let calls: BTreeSet<String> = calls.collect();
    let page = guide("keys.md");
    let documented = first_cells(&page, "| `").into_iter();
    let documented: BTreeSet<String> =
        documented.map(|call| call.split('?').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(documented, calls, "the guide's calls, and the document's");
}

#[test]
fn observability_has_every_field_of_the_access_log() {
    let upstream = Upstream::answering(task("task-1", "SUCCEEDED"));
    let gateway = Gateway::start(upstream.address);
    for request in [generate("{}"), submit(), poll("task-1"), generate("{}").replace("Bearer", "Bearing")] {
        gateway.ask(request);
    }
    eventually("each request has its line", || gateway.lines().len() >= 4);
    let lines = gateway.lines();
    let written = lines.iter().flat_map(|line| line.as_object().expect("an object").keys().cloned());
    let written: BTreeSet<String> = written.collect();
    assert!(written.contains("reason") && written.contains("task_id"), "{written:?}");
    let page = guide("observability.md");
    let (_, section) = page.split_once("## Access log").expect("a section");
    let (section, _) = section.split_once("\n## ").expect("its end");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let documented: BTreeSet<String> = rows.flat_map(|row| in_backticks(cells(row)[0])).collect();
    let undocumented: Vec<_> = written.difference(&documented).collect();
    assert!(
        undocumented.is_empty(),
        "fields of the access log that the guide does not have: {undocumented:?}"
    );
}

#[test]
fn the_issue_forms_are_whole() {
    let check = "import sys, yaml\n\
        form = yaml.safe_load(sys.stdin)\n\
        assert form['name'] and form['description'] and form['body'], form\n\
        for item in form['body']:\n    \
            assert item['type'] in ('markdown', 'input', 'textarea', 'dropdown', 'checkboxes'), item\n    \
            assert item['type'] == 'markdown' or item['id'] and item['attributes']['label'], item\n";
    let forms =
        texts_below(".github/ISSUE_TEMPLATE").into_iter().filter(|(path, _)| !path.ends_with("config.yml"));
    let mut checked = 0;
    for (_, text) in forms {
        tools::run(
            std::process::Command::new(tools::installed("python/bin/python")).args(["-c", check]),
            &text,
        );
        checked += 1;
    }
    assert_eq!(checked, 2, "forms");
}

/// The code in the first cells of the rows that begin so.
fn first_cells(page: &str, start: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with(start));
    rows.map(|row| in_backticks(cells(row)[0]).concat()).collect()
}
