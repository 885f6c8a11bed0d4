//! Figures side by side.

/// A column for each peer, with a name for each line.
pub(crate) fn table(head: &[&str], columns: &[Vec<(String, String)>]) -> String {
    let names: Vec<&str> = columns.first().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let mut rows = vec![std::iter::once("").chain(head.iter().copied()).collect::<Vec<_>>()];
    for (number, name) in names.iter().enumerate() {
        let values = columns.iter().filter_map(|column| column.get(number)).map(|(_, value)| value.as_str());
        rows.push(std::iter::once(*name).chain(values).collect());
    }
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|text| text.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=head.len()).map(width).collect();
    let line = |row: &Vec<&str>| {
        let cells = row.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}
