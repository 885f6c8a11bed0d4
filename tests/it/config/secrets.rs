//! No secret is shown, however the file is broken.

use super::*;
use proptest::prelude::*;

/// Places where a secret may stand, rightly or by mistake; `@` is the secret.
const PLANTED: [&str; 29] = [
    "keyy = \"@\"",
    "@ = 1",
    "\"@\" = 1",
    "[@]",
    "[[\"@\"]]",
    "a.@.b = 1",
    "key = @",
    "key = \"@",
    "key = \"@\" \"@\"",
    "key \"@\"",
    "= \"@\"",
    "\"@\"",
    "key = \"@\"\nkey = \"@\"",
    "# @\n\u{1}@",
    "key = 2027-@",
    "key = 1@",
    "key = tru@",
    "key = \"\\@\"",
    "key = [\"@\", @]",
    "key = { @ = \"@\", @ }",
    "key = \"\"\"@",
    "key = \"${@}\"",
    "key = \"${@\"",
    "key_file = \"@\"",
    "proxy = \"@\"",
    "proxy = \"socks5://me:@\"",
    "url = \"@\"",
    "url = \"postgres://me:@\"",
    "url = \"postgres://db/db?@=1\"",
];

fn shown(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> String {
    match Config::parse(text, Path::new("/nonexistent"), environment) {
        Ok(loaded) => {
            let printed: String = loaded.warnings.iter().map(ToString::to_string).collect();
            report("f", &loaded.warnings) + &printed
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault: {text}");
            let printed: String = faults.iter().map(ToString::to_string).collect();
            report("f", &faults) + &format!("{faults:?}") + &printed
        }
    }
}

/// True when any run of 13 bytes of the secret is in the text: a broken file cuts secrets into pieces.
fn holds_a_piece(text: &str, secret: &str) -> bool {
    secret.as_bytes().windows(13).any(|piece| memchr::memmem::find(text.as_bytes(), piece).is_some())
}

#[test]
fn secrets_in_wrong_places() {
    for secret in ["sk-0f9a8b7c6d5e4f3a2b1c", "vk_9A8b7C6d5E4f3G2h1I0j"] {
        for planted in PLANTED {
            for table in [
                "",
                "[server]\n",
                "[admin]\n",
                "[store]\n",
                "[[accounts]]\n",
                "[[tenants]]\n",
                "[[tenants]]\n[[tenants.keys]]\n",
            ] {
                let text = format!("{table}{}\n{ACCOUNT}", planted.replace('@', secret));
                let shown = shown(&text, &environment);
                assert!(!shown.is_empty());
                assert!(!holds_a_piece(&shown, secret), "{text}\n{shown}");
            }
        }
    }
}

/// Every key of the file takes a secret in turn, in place of its value.
#[test]
fn secrets_as_any_value() {
    let secret = "sk-0f9a8b7c6d5e4f3a2b1c";
    let lines: Vec<&str> = CONTRACT.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some((name, _)) = line.split_once(" = ") else {
            continue;
        };
        for value in
            [format!("\"{secret}\""), secret.to_owned(), format!("[\"{secret}\"]"), "\"${LEAK}\"".into()]
        {
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            lines[at] = format!("{name} = {value}");
            let leak = |name: &str| if name == "LEAK" { Some(secret.to_owned()) } else { environment(name) };
            let shown = shown(&lines.join("\n"), &leak);
            assert!(!holds_a_piece(&shown, secret), "{}\n{shown}", lines[at]);
        }
    }
}

/// A secret that mixes letters and digits, as all secrets made by a machine do.
fn secret() -> impl Strategy<Value = String> {
    "(sk-|vk_|)([a-zA-Z][0-9]){10,20}"
}

/// A small edit of a file, such as a slip of the hand makes.
#[derive(Debug, Clone)]
enum FileEdit {
    Cut(prop::sample::Index),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, char),
    Replace(prop::sample::Index, char),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn slip() -> impl Strategy<Value = FileEdit> {
    let at = any::<prop::sample::Index>;
    let sign = || prop::sample::select("\"'=[]{}\n\r#$.,\\ \t_-0a\0é".chars().collect::<Vec<_>>());
    prop_oneof![
        at().prop_map(FileEdit::Cut),
        at().prop_map(FileEdit::Remove),
        (at(), sign()).prop_map(|(at, sign)| FileEdit::Insert(at, sign)),
        (at(), sign()).prop_map(|(at, sign)| FileEdit::Replace(at, sign)),
        (at(), at()).prop_map(|(one, other)| FileEdit::Swap(one, other)),
    ]
}

fn broken(text: &str, slip: &FileEdit) -> String {
    let mut signs: Vec<char> = text.chars().collect();
    if signs.is_empty() {
        return String::new();
    }
    let length = signs.len();
    match slip {
        FileEdit::Cut(at) => signs.truncate(at.index(length)),
        FileEdit::Remove(at) => drop(signs.remove(at.index(length))),
        FileEdit::Insert(at, sign) => signs.insert(at.index(length), *sign),
        FileEdit::Replace(at, sign) => signs[at.index(length)] = *sign,
        FileEdit::Swap(one, other) => signs.swap(one.index(length), other.index(length)),
    }
    signs.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Secrets stand where they should and at one more, random place; then the file is broken.
    #[test]
    fn secrets_in_broken_files(
        secrets in prop::collection::vec(secret(), 5),
        at in any::<prop::sample::Index>(),
        slips in prop::collection::vec(slip(), 0..4),
    ) {
        let mut text = CONTRACT.replace("9f86d0", &secrets[3]);
        for (name, secret) in ["DASHGATE_ADMIN_TOKEN", "DASHSCOPE_API_KEY", "ACME_KEY"].iter().zip(&secrets) {
            // Some are written in the file, some come from the environment.
            if secret.len() % 2 == 0 {
                text = text.replace(&format!("${{{name}}}"), secret);
            }
        }
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        text.insert_str(places[at.index(places.len())], &secrets[4]);
        for slip in &slips {
            text = broken(&text, slip);
        }
        let environment = |name: &str| match name {
            "DASHGATE_ADMIN_TOKEN" => Some(secrets[0].clone()),
            "DASHSCOPE_API_KEY" => Some(secrets[1].clone()),
            "ACME_KEY" => Some(secrets[2].clone()),
            _ => None,
        };
        let shown = shown(&text, &environment);
        for secret in &secrets {
            prop_assert!(!holds_a_piece(&shown, secret), "{}\n{}", text, shown);
        }
    }

    /// Any text at all is read without a panic, and each fault is inside it.
    #[test]
    fn any_text_is_read(text in "([\\[\\]{}=\"'.,#\n a-c0-9$]|accounts|tenants|keys|server|\\PC){0,60}") {
        let lines = text.split('\n').count();
        for fault in parse(&text).map(|loaded| loaded.warnings).unwrap_or_else(|faults| faults) {
            let position = fault.position.unwrap();
            prop_assert!(position.line >= 1 && position.line <= lines && position.column >= 1);
        }
    }
}

/// Tasks of both tables are on one list, so either could adopt a task of the other.
#[test]
fn an_exclusive_account_is_in_one_table() {
    let workspace = "https://llm-1.cn-beijing.maas.aliyuncs.com";
    let table = |name: &str, url: &str, key: &str, more: &str| {
        format!("[[accounts]]\nname = \"{name}\"\nbase_url = \"{url}\"\nkeys = [\"{key}\"]\n{more}\n")
    };
    let exclusive = "exclusive = true";
    let found = |other: &str| {
        let first = table("a", workspace, "sk-1", "");
        faults(&format!("{first}{other}{TENANT}"))
    };
    let problem = "accounts[1].exclusive: is true, and accounts[0].base_url in line 3 is the same workspace";
    for url in [workspace.to_owned(), format!("{workspace}./x"), workspace.replace("llm", "LLM")] {
        let found = found(&table("b", &url, "sk-2", exclusive));
        assert!(found.len() == 1 && found[0].ends_with(problem), "{found:?}");
    }
    let both = table("a", workspace, "sk-1", exclusive) + &table("b", workspace, "sk-2", exclusive);
    assert_eq!(faults(&(both + TENANT)).len(), 2);
    assert_eq!(found(&table("b", workspace, "sk-2", "")), [""; 0]);
    assert_eq!(found(&table("b", &workspace.replace("llm-1", "llm-2"), "sk-2", exclusive)), [""; 0]);
    // A host that all accounts share tells nothing, but a key is of one account.
    let shared = "https://dashscope.aliyuncs.com";
    let shared = |key| table("a", shared, "sk-1", "") + &table("b", shared, key, exclusive) + TENANT;
    assert_eq!(faults(&shared("sk-2")), [""; 0]);
    assert!(faults(&shared("sk-1"))[0].contains("is the same secret as accounts[0].keys[0]"));
}
