//! Pictures of the guide come from the program: those of the console from `console::pictures`, that of the dashboard from
//! `deploy/grafana/picture.py`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{documents, read, root};
use crate::console::pictures::PICTURES;

#[test]
fn the_guide_shows_each_picture_of_the_console_in_both_languages() {
    let made: BTreeSet<String> = PICTURES.iter().map(|name| format!("{name}.png")).collect();
    let folder = std::fs::read_dir(root().join("deploy/guide/en/pictures")).expect("a folder");
    let kept: BTreeSet<String> =
        folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    assert_eq!(kept, made, "the pictures of the guide, and those that a test makes");
    for language in ["en", "zh"] {
        let folder = format!("deploy/guide/{language}/");
        let pages = documents().into_iter().filter(|(path, _)| path.starts_with(&folder));
        let text: String = pages.map(|(_, text)| text).collect();
        for name in &made {
            assert!(text.contains(&format!("pictures/{name})")), "no page of {folder} shows {name}");
        }
    }
}

/// The picture has the panels that the script draws, and the dashboard has them too.
#[test]
fn the_picture_of_the_dashboard_has_panels_of_the_dashboard() {
    let script = read("deploy/grafana/picture.py");
    let (_, panels) = script.split_once("PANELS = [").expect("panels");
    let (panels, _) = panels.split_once("\n]").expect("their end");
    let titles: Vec<&str> = panels.split("(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(titles.len() > 5, "{titles:?}");
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/dashgate.json")).expect("JSON");
    let dashboard = dashboard["panels"].to_string();
    let picture = read("deploy/grafana/dashgate.svg");
    for title in titles {
        assert!(dashboard.contains(&format!("\"title\":{title:?}")), "the dashboard has no panel {title}");
        assert!(picture.contains(title), "the picture has no panel {title}; draw it anew");
    }
}
