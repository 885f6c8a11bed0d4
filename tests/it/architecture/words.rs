//! Words: types have names of their own, and comments open with their subject.

use std::collections::BTreeMap;

use super::sources;

#[test]
fn comments_open_with_their_subject() {
    let (mut blocks, mut pronouns) = (0, Vec::new());
    for file in sources() {
        let mut continues = false;
        for (number, line) in file.text.lines().enumerate() {
            let words = comment(line).filter(|words| !words.is_empty());
            if let Some(words) = words.filter(|_| !continues) {
                blocks += 1;
                if PRONOUNS.iter().any(|pronoun| opens_with(words, pronoun)) {
                    pronouns.push(format!("{}:{}: {words}", file.path.display(), number + 1));
                }
            }
            continues = words.is_some_and(|words| !words.ends_with(['.', ':']));
        }
    }
    let share = 1000 * pronouns.len() / blocks;
    assert!(share < MOST_PRONOUNS, "{share} of 1000 comments open with a pronoun:\n{}", pronouns.join("\n"));
}

#[test]
fn types_have_names_of_their_own() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in sources() {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(name) = declared_type(line) {
                places.entry(name.to_owned()).or_default().push(format!(
                    "{}:{}",
                    file.path.display(),
                    number + 1
                ));
            }
        }
    }
    let types: usize = places.values().map(Vec::len).sum();
    places.retain(|_, places| places.len() > 1);
    let shared: usize = places.values().map(Vec::len).sum();
    let share = 1000 * shared / types;
    assert!(share < MOST_SHARED_NAMES, "{share} of 1000 types share their name: {places:#?}");
}

/// The words of a line that is only a comment.
fn comment(line: &str) -> Option<&str> {
    let words = line.trim_start().strip_prefix("//")?;
    Some(words.strip_prefix(['/', '!']).unwrap_or(words).trim())
}

fn opens_with(words: &str, opening: &str) -> bool {
    words.strip_prefix(opening).is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_alphanumeric()))
}

/// The name of the struct, enum or trait that a line declares.
fn declared_type(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    let name = ["struct ", "enum ", "trait "].iter().find_map(|keyword| line.strip_prefix(keyword))?;
    name.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next()
}

/// Openings that leave the subject of a comment to be guessed.
const PRONOUNS: [&str; 9] =
    ["What", "Whether", "Whose", "Who", "Of", "Those", "That", "The same", "As above"];
/// Limits in thousandths.
const MOST_PRONOUNS: usize = 20;
const MOST_SHARED_NAMES: usize = 20;
