//! One word for a thing: the glossaries of both languages have the same rows, and the Chinese pages use its words.

use super::{cells, read, texts_below};

#[test]
fn both_glossaries_have_the_same_words() {
    let english = rows_below("deploy/guide/en/index.md", "## Words");
    let chinese = rows_below("deploy/guide/zh/index.md", "## 术语");
    assert!(english.len() > 15, "{english:#?}");
    assert_eq!(chinese.len(), english.len(), "rows in Chinese, and in English: {chinese:#?}");
    for (english, chinese) in english.iter().zip(&chinese) {
        let word = english.first().expect("a word").trim_matches('`');
        assert!(
            chinese.iter().any(|cell| cell.contains(word)),
            "{word:?} stands in another place: {chinese:?}"
        );
        assert!(chinese.iter().any(|cell| cell.chars().any(super::languages::is_chinese)), "{chinese:?}");
    }
}

#[test]
fn the_chinese_pages_use_the_words_of_the_glossary() {
    let mut faults = Vec::new();
    for (path, text) in texts_below("deploy/guide/zh").into_iter().filter(|(path, _)| path.ends_with(".md")) {
        let prose = text.split("## 术语").next().unwrap_or_default();
        for (number, line) in prose.lines().enumerate() {
            for (wrong, right) in WRONG_WORDS {
                if line.contains(wrong) {
                    faults.push(format!("{path}:{}: {wrong}: say {right}", number + 1));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The rows of the table below a heading, without its head.
pub(super) fn rows_below(page: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(page);
    let (_, section) =
        text.split_once(&format!("\n{heading}")).unwrap_or_else(|| panic!("{page} has no {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| cells(row).into_iter().map(str::to_owned).collect()).collect()
}

/// Words that stand for a thing that has another name in the glossary.
const WRONG_WORDS: [(&str, &str); 30] = [
    ("unified 挂载点", "统一挂载点"),
    ("native 挂载点", "原生挂载点"),
    ("租客", "租户"),
    ("用户密钥", "虚拟密钥"),
    ("虚拟 key", "虚拟密钥"),
    ("虚拟 Key", "虚拟密钥"),
    ("虚拟钥匙", "虚拟密钥"),
    ("上游 key", "上游密钥"),
    ("上游 Key", "上游密钥"),
    ("浏览器 token", "浏览器令牌"),
    ("帐号", "账号"),
    ("帐户", "账号"),
    ("帐单", "账单"),
    ("帐本", "账本"),
    ("工作空间", "业务空间"),
    ("漏桶", "令牌桶"),
    ("速率限制", "限流"),
    ("频率限制", "限流"),
    ("复本", "副本"),
    ("主导节点", "主导副本"),
    ("领导者", "主导副本"),
    ("排水", "排空"),
    ("撤销密钥", "吊销"),
    ("轮替", "轮换"),
    ("热加载", "重新加载"),
    ("长轮询", "挂起的轮询"),
    ("孤立任务", "孤儿任务"),
    ("文本生成视频", "文生视频"),
    ("图片生成视频", "图生视频"),
    ("流水账", "账本"),
];
