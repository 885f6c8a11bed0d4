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
            '>' | '<' => {
                // The number of a descriptor, as in `2>`, is no word.
                words.extend(word.take().filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit())));
                while letters.next_if(|next| ">&".contains(*next)).is_some() {}
                // The redirection's file is the next word, so that `without_redirections` can drop both.
                words.push(letter.to_string());
            }
            ' ' | '\n' | ';' | '|' | '&' => {
                words.extend(word.take());
                if "\n;|&".contains(letter) && !words.is_empty() {
                    found.push(std::mem::take(&mut words));
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

/// Takes `(...)` from the text, and notes its commands. A parenthesis in quotes is no end.
fn substituted(
    letters: &mut std::iter::Peekable<std::str::Chars<'_>>,
    found: &mut Vec<Vec<String>>,
) -> String {
    let (mut inner, mut quote, mut depth) = (String::new(), None, 0);
    for letter in letters.by_ref() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (Some(_) | None, _) => {}
        }
        if depth == 0 {
            break;
        }
        inner.push(letter);
    }
    inner.remove(0);
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

/// The files that a text writes by `cat > NAME <<'END'`, and what it appends by `cat >> NAME <<'END'`.
pub(super) fn heredocs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(HEREDOC) {
        let name = before.rsplit("cat >").next().expect("a name").trim_start_matches('>').trim().to_owned();
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
                p | q >/dev/null 2>&1 && r 2 >> log &\ne=s-$(t 'a\\(b)') \"u $(v)\"\n";
    let expected = [
        &["A=1", "sudo", "x", "--y", "a b", "c $D"][..],
        &["cat"],
        &["p"],
        &["q"],
        &["r", "2"],
        &["t", "a\\(b)"],
        &["v"],
        &["e=s-$(t 'a\\(b)')", "u $(v)"],
    ];
    assert_eq!(commands(text), expected);
    assert_eq!(heredocs(text), [("f.toml".to_owned(), "no command\n".to_owned())]);
}
