//! Tables for people: columns as wide as their widest cells.

/// Lines of cells, each line with the same number. The first `left` columns stand to the left, the rest to the right.
pub(super) fn table(lines: &[Vec<String>], left: usize) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut shown = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let gap = if column > 0 { "  " } else { "" };
            let padded =
                if column < left { format!("{gap}{cell:<width$}") } else { format!("{gap}{cell:>width$}") };
            shown.push_str(&padded);
        }
        let end = shown.trim_end().len();
        shown.truncate(end);
        shown.push('\n');
    }
    shown
}
