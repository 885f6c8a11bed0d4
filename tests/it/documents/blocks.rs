//! The code blocks of the documents. Each has a language that has a check, and is run, checked, or marked: the line
//! `<!-- not run: REASON -->` before a block says why no test runs it.

use super::documents;
use super::shell::commands;

/// A block of code in a document.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// The document's path.
    pub(super) page: String,
    /// The line of the block's fence.
    line: usize,
    pub(super) language: String,
    pub(super) text: String,
    /// Why no test runs the block, if its page says so.
    pub(super) mark: Option<String>,
    /// True for JSON that the shell block before it prints.
    pub(super) is_answer: bool,
}

/// Treatment of a block by the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Run,
    /// The program reads the block, and takes it.
    Checked,
    /// The page says why it can't be run.
    Marked,
}

impl Block {
    /// File and line.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    pub(super) fn fate(&self) -> Fate {
        match &*self.language {
            _ if self.mark.is_some() => Fate::Marked,
            "python" | "js" => Fate::Run,
            "sh" if is_for_readers(&self.page) => Fate::Run,
            "json" if self.is_answer => Fate::Run,
            _ => Fate::Checked,
        }
    }

    /// True if the block prints JSON: what a call of the API answers.
    fn prints_json(&self) -> bool {
        let of_json = |words: &Vec<String>| {
            words.first().is_some_and(|word| word == "curl") || words.iter().any(|word| word == "--json")
        };
        self.language == "sh" && self.fate() == Fate::Run && commands(&self.text).iter().any(of_json)
    }
}

/// True for the pages whose shell blocks are run. The others are for people who change the program: their commands build
/// and measure it.
fn is_for_readers(page: &str) -> bool {
    page == "README.md" || page.starts_with("deploy/guide/")
}

/// The blocks of this language.
pub(super) fn blocks(language: &str) -> Vec<Block> {
    let found: Vec<Block> = all().into_iter().filter(|block| block.language == language).collect();
    assert!(!found.is_empty(), "no block of {language}");
    found
}

/// The blocks of this language that are not marked.
pub(super) fn unmarked(language: &str) -> Vec<Block> {
    blocks(language).into_iter().filter(|block| block.fate() != Fate::Marked).collect()
}

pub(super) fn all() -> Vec<Block> {
    documents().into_iter().flat_map(|(page, text)| of_page(&page, &text)).collect()
}

/// The blocks of a page.
pub(super) fn of_page(page: &str, text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let is_answer = language == "json" && found.last().is_some_and(Block::prints_json);
                open = Some(Block {
                    page: page.to_owned(),
                    line: number + 1,
                    language: language.to_owned(),
                    text: String::new(),
                    mark: reason(before).map(str::to_owned),
                    is_answer,
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "{page}: a block has no end");
    found
}

/// The reason that a mark gives.
fn reason(line: &str) -> Option<&str> {
    line.strip_prefix(MARK)?.strip_suffix("-->").map(str::trim)
}

const MARK: &str = "<!-- not run:";
/// Shortest reason, in bytes: two or three words.
const SHORTEST_REASON: usize = 12;

#[test]
fn each_block_is_of_a_language_that_has_a_check() {
    for block in all() {
        // The checks stand in `walk` and `commands`, `configurations`, `examples`, and `answers`.
        let has_check = ["sh", "toml", "python", "js", "json"].contains(&&*block.language);
        assert!(has_check, "{}: nothing checks {:?}", block.place(), block.language);
    }
}

#[test]
fn each_mark_stands_before_a_block_and_has_a_reason() {
    for (page, text) in documents() {
        let marks = text.lines().filter(|line| line.starts_with("<!--") && line.contains("not run")).count();
        let marked: Vec<Block> =
            of_page(&page, &text).into_iter().filter(|block| block.mark.is_some()).collect();
        assert_eq!(marks, marked.len(), "{page}: a mark is `{MARK} REASON -->`, on the line before a block");
        for block in marked {
            let reason = block.mark.as_deref().unwrap_or_default();
            assert!(
                reason.len() >= SHORTEST_REASON,
                "{}: a mark without a reason: {reason:?}",
                block.place()
            );
        }
    }
}

/// Says for each language what became of its blocks.
#[test]
fn blocks_are_run_and_checked_in_each_language() {
    for (language, folder) in [("English", "deploy/guide/en/"), ("Chinese", "deploy/guide/zh/")] {
        let blocks = all().into_iter().filter(|block| block.page.starts_with(folder));
        let fates: Vec<Fate> = blocks.map(|block| block.fate()).collect();
        let count = |fate: Fate| fates.iter().filter(|other| **other == fate).count();
        let [run, checked, marked] = [Fate::Run, Fate::Checked, Fate::Marked].map(count);
        let said =
            format!("\n{language} guide: {run} blocks run, {checked} checked, {marked} marked as not run\n");
        // Past the capture of a passing test's output.
        std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).expect("standard error");
        assert!(run > 0 && checked > 0 && marked > 0, "{said}");
    }
}

#[test]
fn a_mark_and_an_answer_are_found_where_they_are() {
    let text = "```sh\ncurl u\n```\n\n```json\n{}\n```\n<!-- not run: no account -->\n```sh\ncurl u\n```\n```json\n{}\n```\n";
    let found = of_page("README.md", text);
    let fates: Vec<Fate> = found.iter().map(Block::fate).collect();
    assert_eq!(fates, [Fate::Run, Fate::Run, Fate::Marked, Fate::Checked]);
    assert_eq!((found[2].mark.as_deref(), found[2].place()), (Some("no account"), "README.md:9".to_owned()));
    assert_eq!(reason("<!-- not run: -->"), Some(""));
}
