//! The guide says the same in English and in Chinese: the same pages, headings, tables and blocks, in the same order. Only
//! what people read is translated: comments in blocks, and text in quotes.

use std::collections::BTreeMap;

use super::blocks::{Block, of_page};
use super::links::outside_of_fences;
use super::shell::{commands, heredocs};
use super::{cells, in_backticks, read, texts_below};

/// The door of each language: the README of the repository, and that of the Chinese guide.
const DOOR: &str = "README.md";

#[test]
fn both_languages_have_the_same_pages() {
    let (english, chinese) = (pages("en"), pages("zh"));
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&chinese), names(&english), "the pages in Chinese, and in English");
}

#[test]
fn a_page_has_the_same_headings_in_both_languages() {
    each_page("headings", |_, english, chinese| {
        let levels = |text: &str| outside_of_fences(text).filter_map(level).collect::<Vec<_>>();
        same(&levels(english), &levels(chinese))
    });
}

#[test]
fn a_page_has_the_same_rows_in_both_languages() {
    each_page("rows of tables", |name, english, chinese| {
        // The doors name other clients first.
        if name == DOOR {
            return Ok(());
        }
        let [english, chinese] = [english, chinese].map(rows);
        // Names of settings, their defaults, reasons and calls are the same; other words are translated.
        let is_same = |(english, chinese): &(&String, &String)| {
            !is_code(english) || in_backticks(english) == in_backticks(chinese)
        };
        for (english, chinese) in english.iter().zip(&chinese) {
            if let Some((english, chinese)) = english.iter().zip(chinese).find(|cells| !is_same(cells)) {
                return Err(format!("{english:?} in English, {chinese:?} in Chinese"));
            }
        }
        let counts = [english.len(), chinese.len()].map(|count| format!("{count} rows"));
        if counts[0] == counts[1] { Ok(()) } else { Err(format!("{counts:?}")) }
    });
}

#[test]
fn a_page_has_the_same_blocks_in_both_languages() {
    each_page("blocks", |_, english, chinese| {
        let [english, chinese] = [english, chinese].map(|text| of_page("page", text));
        let kinds = |blocks: &[Block]| {
            let kinds = blocks.iter().map(|block| {
                format!("{}{}", block.language, if block.mark.is_some() { ", not run" } else { "" })
            });
            kinds.collect::<Vec<_>>()
        };
        same(&kinds(&english), &kinds(&chinese))?;
        english.iter().zip(&chinese).try_for_each(|(english, chinese)| {
            let words = |block: &Block| words_of(&block.language, &block.text);
            same(&words(english), &words(chinese))
        })
    });
}

/// The rows of a page's tables, as cells.
fn rows(text: &str) -> Vec<Vec<String>> {
    let rows = outside_of_fences(text).filter(|line| line.starts_with('|'));
    rows.map(|row| cells(row).into_iter().map(str::to_owned).collect()).collect()
}

/// True for a cell that holds code and no words.
fn is_code(cell: &str) -> bool {
    cell.contains('`') && !cell.split('`').step_by(2).any(|prose| prose.contains(char::is_alphanumeric))
}

/// Compares all pages that both languages have, and tells the differences of all.
fn each_page(what: &str, compare: impl Fn(&str, &str, &str) -> Result<(), String>) {
    let (english, chinese) = (pages("en"), pages("zh"));
    let mut faults = Vec::new();
    let mut compared = 0;
    for (name, english) in &english {
        let Some(chinese) = chinese.get(name) else { continue };
        compared += 1;
        faults.extend(compare(name, english, chinese).err().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{what} that differ:\n{}", faults.join("\n"));
    assert!(compared > 0, "no page is there in both languages");
}

/// Pages of a language, by name.
fn pages(language: &str) -> BTreeMap<String, String> {
    let folder = format!("deploy/guide/{language}/");
    let pages = texts_below(&folder).into_iter().filter_map(|(path, text)| {
        let name = path.strip_prefix(&folder)?;
        name.ends_with(".md").then(|| (name.to_owned(), text))
    });
    let mut pages: BTreeMap<String, String> = pages.collect();
    pages.entry(DOOR.to_owned()).or_insert_with(|| read(DOOR));
    pages
}

/// The first difference of two lists.
fn same(english: &[String], chinese: &[String]) -> Result<(), String> {
    let mut pairs = english.iter().zip(chinese).enumerate();
    if let Some((at, (english, chinese))) =
        pairs.find(|(_, (english, chinese))| !is_translation(english, chinese))
    {
        return Err(format!("number {}: {english:?} in English, {chinese:?} in Chinese", at + 1));
    }
    if english.len() == chinese.len() {
        return Ok(());
    }
    Err(format!("{} in English, {} in Chinese", english.len(), chinese.len()))
}

/// `##`, for example.
fn level(line: &str) -> Option<String> {
    let title = line.trim_start_matches('#');
    (title.len() < line.len()).then(|| line[..line.len() - title.len()].to_owned())
}

/// A block without its comments, in pieces: words of commands, or lines.
fn words_of(language: &str, text: &str) -> Vec<String> {
    let comment = if language == "js" { "//" } else { "#" };
    // A comment begins a line, or stands behind a blank: in words like `main#2` or `https://` it is none.
    let begins_comment = |line: &str, at: usize| at == 0 || language != "json" && line[..at].ends_with(' ');
    let without_comment = |line: &str| {
        let at = line.match_indices(comment).map(|(at, _)| at).find(|at| begins_comment(line, *at));
        line[..at.unwrap_or(line.len())].trim_end().to_owned()
    };
    let lines = |text: &str| {
        let lines = text
            .lines()
            .map(without_comment)
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    if language != "sh" {
        return lines(text);
    }
    let files = heredocs(text).into_iter().flat_map(|(name, body)| [vec![name], lines(&body)].concat());
    commands(text).into_iter().flatten().chain(files).collect()
}

/// True if both are the same, or differ only in Chinese text in the second, where the first has text too.
fn is_translation(english: &str, chinese: &str) -> bool {
    if english == chinese {
        return true;
    }
    // Without letters and blanks, and what Chinese has in their place, the rest is code.
    let code =
        |text: &str| text.chars().filter(|letter| "{}[]()=:$/\\\"'#|".contains(*letter)).collect::<String>();
    chinese.chars().any(is_chinese) && code(english) == code(chinese)
}

/// True for ideographs.
pub(super) fn is_chinese(letter: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&letter)
}

#[test]
fn a_translation_differs_in_words_for_people_only() {
    let english = words_of("sh", "a --b \"a cat\"   # why\ncat > f.toml <<'END'\nc = 1 # d\nEND\n");
    let chinese = words_of("sh", "a --b \"一只猫\" # 为什么\ncat > f.toml <<'END'\nc = 1   # 某\nEND\n");
    assert_eq!(english, ["a", "--b", "a cat", "cat", "f.toml", "c = 1"]);
    assert_eq!(same(&english, &chinese), Ok(()));
    assert!(same(&english, &words_of("sh", "a --c \"一只猫\"")).is_err());
    assert!(!is_translation("{\"prompt\":\"a cat\"}", "{\"prompt\":\"猫\",\"n\":1}"));
    assert_eq!(words_of("json", "{ \"a\": \"b # c\" }"), ["{ \"a\": \"b # c\" }"]);
    assert_eq!(words_of("js", "a('https://h'); // b"), ["a('https://h');"]);
    assert_eq!(level("### A"), Some("###".to_owned()));
}
