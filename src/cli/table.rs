//! Tables that fit a terminal.
//!
//! Columns are as wide as their contents. Where a width is given no line is
//! wider: columns that may be cut are, the widest first, and at last the line.

use super::text::{cut, width};

/// Narrowest a column is cut to.
const COLUMN_MIN: usize = 8;
/// Between columns.
const GAP: usize = 2;

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Column {
    title: &'static str,
    may_be_cut: bool,
}

impl Table {
    /// A table with these titles; a column whose title ends with `…` may be cut.
    #[must_use]
    pub fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| Column {
            title: title.trim_end_matches('…'),
            may_be_cut: title.ends_with('…'),
        };
        Self {
            columns: titles.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Cells are one line each: what would break it is made harmless.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let one_line = |cell: String| super::text::sanitize(&cell).replace(['\n', '\t'], " ");
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    /// The lines, at most `max` wide where that is given.
    #[must_use]
    pub fn render(&self, max: Option<usize>) -> String {
        let widths = self.widths(max);
        let titles: Vec<String> = self.columns.iter().map(|c| c.title.to_owned()).collect();
        let mut out = String::new();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = String::new();
            for (index, (cell, width_of)) in row.iter().zip(&widths).enumerate() {
                let cell = cut(cell, *width_of);
                let fill = width_of - width(&cell);
                line.push_str(&cell);
                if index + 1 < row.len() {
                    line.extend(std::iter::repeat_n(' ', fill + GAP));
                }
            }
            let line = line.trim_end();
            out.push_str(&max.map_or_else(|| line.to_owned(), |max| cut(line, max)));
            out.push('\n');
        }
        out
    }

    fn widths(&self, max: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|c| width(c.title)).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        let Some(max) = max else { return widths };
        let gaps = GAP * widths.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(max);
        while excess > 0 {
            let cuttable = self.columns.iter().zip(&mut widths);
            let widest = cuttable
                .filter(|(column, width)| column.may_be_cut && **width > COLUMN_MIN)
                .max_by_key(|(_, width)| **width);
            let Some((_, widest)) = widest else { break };
            *widest -= 1;
            excess -= 1;
        }
        widths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Table {
        let mut table = Table::new(&["SESSION", "STATE", "PROMPT…"]);
        table.row(
            [
                "myrepo-3f9a1c2e",
                "running 4m",
                "fix the flaky test in the parser",
            ]
            .map(str::to_owned),
        );
        table.row(["a-00000001", "exited (0) 2h ago", "二つ\nlines"].map(str::to_owned));
        table
    }

    #[test]
    fn it_is_whole_where_there_is_no_width() {
        let expected = "\
SESSION          STATE              PROMPT
myrepo-3f9a1c2e  running 4m         fix the flaky test in the parser
a-00000001       exited (0) 2h ago  二つ lines
";
        assert_eq!(sessions().render(None), expected);
        assert_eq!(sessions().render(Some(200)), expected);
    }

    #[test]
    fn it_cuts_what_may_be_cut() {
        let expected = "\
SESSION          STATE              PROMPT
myrepo-3f9a1c2e  running 4m         fix the f…
a-00000001       exited (0) 2h ago  二つ lines
";
        assert_eq!(sessions().render(Some(46)), expected);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for max in 1..90 {
            let text = sessions().render(Some(max));
            assert!(
                text.lines().all(|line| width(line) <= max),
                "{max}:\n{text}"
            );
            assert_eq!(text.lines().count(), 3);
        }
    }

    #[test]
    fn an_empty_one_has_its_titles() {
        assert_eq!(Table::new(&["POD", "IMAGE…"]).render(None), "POD  IMAGE\n");
    }
}
