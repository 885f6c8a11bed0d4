//! A reader of the shell that the documents use: words, quotes, comments, pipes, redirections, files written in place.

/// The simple commands of a text, in their order; a substituted command comes before the command that holds it.
pub(super) fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let text = without_heredocs(text).replace("\\\n", " ");
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => word.get_or_insert_default().extend(letters.by_ref().take_while(|next| *next != '\'')),
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(next) = letters.next().filter(|next| *next != '"') {
                    word.push(next);
                    if next == '$' && letters.peek() == Some(&'(') {
                        word.push_str(&substituted(&mut letters, &mut found));
                    }
                }
            }
            '$' if letters.peek() == Some(&'(') => {
                let inner = substituted(&mut letters, &mut found);
                word.get_or_insert_default().push_str(&format!("${inner}"));
            }
            '#' if word.is_none() => while letters.next_if(|next| *next != '\n').is_some() {},
            ' ' | '\n' | ';' | '|' | '&' | '>' | '<' => {
                words.extend(word.take());
                if "\n;|&".contains(letter) && !words.is_empty() {
                    found.push(std::mem::take(&mut words));
                }
                if "<>".contains(letter) {
                    // The redirection's file is the next word, so that `without_redirections` can drop both.
                    words.push(letter.to_string());
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    if !words.is_empty() {
        found.push(words);
    }
    found.into_iter().map(without_redirections).collect()
}

/// Takes `(...)` from the text, and notes its commands.
fn substituted(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    found: &mut Vec<Vec<String>>,
) -> String {
    let inner: String = letters.by_ref().skip(1).take_while(|next| *next != ')').collect();
    found.extend(commands(&inner));
    format!("({inner})")
}

fn without_redirections(words: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == ">" || word == "<" {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept
}

/// The files that a text writes by `cat > NAME <<'END'`.
pub(super) fn heredocs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(HEREDOC) {
        let name = before.rsplit("cat > ").next().expect("a name").to_owned();
        let (body, after) = behind.split_once("\nEND\n").expect("its end");
        found.push((name, format!("{body}\n")));
        rest = after;
    }
    found
}

fn without_heredocs(text: &str) -> String {
    let bodies = heredocs(text).into_iter().map(|(_, body)| format!("{HEREDOC}{body}END\n"));
    bodies.fold(text.to_owned(), |text, body| text.replace(&body, "\n"))
}

const HEREDOC: &str = " <<'END'\n";

#[test]
fn commands_are_told_apart() {
    let text = "A=1 sudo x --y 'a b' \\\n  \"c $D\" # no\n\ncat > f.toml <<'END'\nno command\nEND\n\
                p | q >/dev/null && r\ne=s-$(t 1) \"u $(v)\"\n";
    let expected = [
        &["A=1", "sudo", "x", "--y", "a b", "c $D"][..],
        &["cat"],
        &["p"],
        &["q"],
        &["r"],
        &["t", "1"],
        &["v"],
        &["e=s-$(t 1)", "u $(v)"],
    ];
    assert_eq!(commands(text), expected);
    assert_eq!(heredocs(text), [("f.toml".to_owned(), "no command\n".to_owned())]);
}
