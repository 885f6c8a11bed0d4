//! Tables for people: columns as wide as their widest cells.

/// Columns of a table that is shown piece by piece. They grow with each piece, and do not shrink.
#[derive(Debug, Default)]
pub(super) struct Columns(Vec<usize>);

impl Columns {
    /// Lines of cells, each line with the same number. The first `left` columns stand to the left, the rest to the right.
    pub(super) fn lines(&mut self, lines: &[Vec<String>], left: usize) -> String {
        for line in lines {
            self.0.resize(self.0.len().max(line.len()), 0);
            for (width, cell) in self.0.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut shown = String::new();
        for line in lines {
            for (column, (cell, width)) in line.iter().zip(&self.0).enumerate() {
                let gap = if column > 0 { "  " } else { "" };
                let padded = if column < left {
                    format!("{gap}{cell:<width$}")
                } else {
                    format!("{gap}{cell:>width$}")
                };
                shown.push_str(&padded);
            }
            let end = shown.trim_end().len();
            shown.truncate(end);
            shown.push('\n');
        }
        shown
    }
}

/// A whole table, as [`Columns::lines`] shows it.
pub(super) fn table(lines: &[Vec<String>], left: usize) -> String {
    Columns::default().lines(lines, left)
}
