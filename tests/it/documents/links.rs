//! Each link of a document leads to a file of this repository, and to a heading that is there.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::words::rows_below;
use super::{documents, read, root};

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    for (path, text) in documents() {
        for link in links(&text) {
            assert!(
                !link.contains(':'),
                "{path}: {link} leads out of the repository, where no test follows it"
            );
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { PathBuf::from(&path) } else { beside(&path, file) };
            assert!(root().join(&target).exists(), "{path} links to {link}");
            if !anchor.is_empty() {
                let anchors = anchors(&read(&target.display().to_string()));
                assert!(anchors.contains(anchor), "{path} links to {link}; the headings are {anchors:?}");
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "links checked: {checked}");
}

#[test]
fn a_door_leads_to_each_index_and_the_index_to_every_page() {
    for (door, index) in
        [("README.md", "deploy/guide/en/index.md"), ("deploy/guide/zh/README.md", "deploy/guide/zh/index.md")]
    {
        let targets: BTreeSet<String> = linked_from(door);
        assert!(targets.contains(index), "{door} does not lead to {index}");
        let folder = Path::new(index).parent().expect("a folder").display().to_string();
        let pages = documents().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(&folder));
        let pages: Vec<String> = pages.filter(|path| path != index && path != door).collect();
        assert!(pages.len() > 5, "{pages:?}");
        let linked = linked_from(index);
        for page in pages {
            assert!(linked.contains(&page), "{index} does not lead to {page}");
        }
    }
}

/// The files to which a page links.
fn linked_from(page: &str) -> BTreeSet<String> {
    let targets = links(&read(page)).into_iter().map(|link| {
        let file = link.split('#').next().unwrap_or_default();
        beside(page, file).display().to_string()
    });
    targets.collect()
}

/// A question of users of other gateways has its answer on some page.
#[test]
fn each_question_that_is_asked_often_leads_to_its_answer() {
    for (page, heading) in [
        ("deploy/guide/en/troubleshooting.md", "## Questions that are asked often"),
        ("deploy/guide/zh/troubleshooting.md", "## 常见问题"),
    ] {
        let rows = rows_below(page, heading);
        assert!(rows.len() >= 10, "{page}: questions: {}", rows.len());
        for row in rows {
            let place = row.last().map(|cell| links(cell)).unwrap_or_default();
            assert!(!place.is_empty(), "{page}: no link for {row:?}");
        }
    }
}

#[test]
fn a_link_and_an_anchor_are_found_where_they_are() {
    let text = "# A `b`: c, d\n[x](y.md#z) `[no](link)` ![p](../q.svg)\n```sh\n# no heading [no](link)\n```\n## E-f_g\n";
    assert_eq!(links(text), ["y.md#z", "../q.svg"]);
    assert_eq!(anchors(text), BTreeSet::from(["a-b-c-d".to_owned(), "e-f_g".to_owned()]));
    assert_eq!(beside("a/b/c.md", "../d/e.md"), Path::new("a/d/e.md"));
}

/// The targets of a text's links, without those in code.
pub(super) fn links(text: &str) -> Vec<String> {
    let prose = outside_of_fences(text).collect::<Vec<_>>().join("\n");
    let prose: String = prose.split('`').step_by(2).collect();
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// The names by which the headings of a page are linked to, as GitHub makes them.
pub(super) fn anchors(text: &str) -> BTreeSet<String> {
    let headings = outside_of_fences(text).filter_map(|line| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.trim().to_lowercase())
    });
    let anchor = |title: String| {
        let kept = title.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    headings.map(anchor).collect()
}

pub(super) fn outside_of_fences(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        inside ^= is_fence;
        !inside && !is_fence
    })
}

/// The path of a link's target, from the root of the repository.
fn beside(document: &str, link: &str) -> PathBuf {
    let mut path = Path::new(document).parent().expect("a folder").to_owned();
    for component in Path::new(link).components() {
        if component == Component::ParentDir {
            assert!(path.pop(), "{document}: {link} leads out of the repository");
        } else {
            path.push(component);
        }
    }
    path
}
