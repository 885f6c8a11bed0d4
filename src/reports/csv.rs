//! Rows of a table, quoted as RFC 4180 says.

/// Adds a cell of text. What a spreadsheet would run as a formula gets an apostrophe before it.
pub(super) fn push_text(line: &mut String, text: &str) {
    separate(line);
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if !runs && !text.contains(['"', ',', '\r', '\n']) {
        line.push_str(text);
        return;
    }
    line.push('"');
    if runs {
        line.push('\'');
    }
    line.push_str(&text.replace('"', "\"\""));
    line.push('"');
}

/// Adds a cell that holds a number of ours.
pub(super) fn push_number(line: &mut String, number: &str) {
    separate(line);
    line.push_str(number);
}

/// Ends the row.
pub(super) fn end(text: &mut String) {
    text.push_str("\r\n");
}

fn separate(line: &mut String) {
    if !line.is_empty() && !line.ends_with('\n') {
        line.push(',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_run_nothing() {
        for (text, cell) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "\"'\r=1\""),
            ("a=1", "a=1"),
        ] {
            let mut line = String::from("x");
            push_text(&mut line, text);
            assert_eq!(line, format!("x,{cell}"));
        }
    }
}
