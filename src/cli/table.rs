//! Tables that fit a terminal.
//!
//! Columns are as wide as their contents. Where a width is given no line is
//! wider: columns that may be cut are, the widest first; then those that matter
//! least are left out. The first column, which names what the row is about, is
//! neither cut nor left out, however narrow the terminal.

use super::text::{cut, width};
use super::ui::Style;

/// Narrowest a column is cut to.
const COLUMN_MIN: usize = 8;
/// Between columns.
const GAP: usize = 2;

/// A table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    untitled: bool,
}

#[derive(Clone, Debug)]
struct Column {
    title: &'static str,
    may_be_cut: bool,
    /// Place in the order in which columns are left out; the last by default.
    left_out: usize,
}

/// One cell: a text, and how it is set off.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    style: Option<Style>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, style: None }
    }
}

impl Cell {
    /// A text in a style.
    #[must_use]
    pub const fn styled(text: String, style: Option<Style>) -> Self {
        Self { text, style }
    }
}

/// How a table is rendered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// How wide its lines may be.
    pub max: Option<usize>,
    /// Whether styles show.
    pub colour: bool,
}

impl Table {
    /// A table with these titles; a column whose title ends with `…` may be cut.
    /// Columns are left out from the right, unless [`Table::leaving_out`] says otherwise.
    #[must_use]
    pub fn new(titles: &[&'static str]) -> Self {
        let column = |(index, title): (usize, &&'static str)| Column {
            title: title.trim_end_matches('…'),
            may_be_cut: title.ends_with('…'),
            left_out: titles.len() + titles.len() - index,
        };
        Self {
            columns: titles.iter().enumerate().map(column).collect(),
            rows: Vec::new(),
            untitled: false,
        }
    }

    /// The same, with the columns that matter least, least first.
    #[must_use]
    pub fn leaving_out(mut self, titles: &[&str]) -> Self {
        for column in &mut self.columns {
            if let Some(place) = titles.iter().position(|title| *title == column.title) {
                column.left_out = place;
            }
        }
        self
    }

    /// The same without the line of titles, if `without`.
    #[must_use]
    pub const fn without_titles(mut self, without: bool) -> Self {
        self.untitled = without;
        self
    }

    /// Adds a row. Cells are one line each: what would break it is made harmless.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let one_line = |cell: C| {
            let mut cell: Cell = cell.into();
            cell.text = super::text::sanitize(&cell.text).replace(['\n', '\t'], " ");
            cell
        };
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    /// The lines.
    #[must_use]
    pub fn render(&self, look: Look) -> String {
        let widths = self.widths(look.max);
        let titles: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| column.title.to_owned().into())
            .collect();
        let titles = (!self.untitled).then_some(&titles);
        let mut out = String::new();
        for row in titles.into_iter().chain(&self.rows) {
            let mut fill = 0;
            for (cell, column) in row.iter().zip(&widths) {
                let Some(column) = *column else { continue };
                let text = cut(&cell.text, column);
                let taken = width(&text);
                if taken > 0 {
                    out.extend(std::iter::repeat_n(' ', fill));
                    fill = 0;
                    match cell.style.filter(|_| look.colour) {
                        Some(style) => out.push_str(&style.paint(&text)),
                        None => out.push_str(&text),
                    }
                }
                fill += column - taken + GAP;
            }
            out.push('\n');
        }
        out
    }

    /// How wide each column is; nothing for one that is left out.
    fn widths(&self, max: Option<usize>) -> Vec<Option<usize>> {
        let title = |column: &Column| {
            if self.untitled {
                0
            } else {
                width(column.title)
            }
        };
        let mut natural: Vec<usize> = self.columns.iter().map(title).collect();
        for row in &self.rows {
            for (widest, cell) in natural.iter_mut().zip(row) {
                *widest = (*widest).max(width(&cell.text));
            }
        }
        let mut widths: Vec<Option<usize>> = natural.into_iter().map(Some).collect();
        let Some(max) = max else { return widths };
        loop {
            let shown = widths.iter().flatten().count();
            let taken = widths.iter().flatten().sum::<usize>() + GAP * shown.saturating_sub(1);
            let excess = taken.saturating_sub(max);
            if excess == 0 || shown <= 1 {
                return widths;
            }
            let least: usize = self
                .columns
                .iter()
                .zip(&widths)
                .fold(0, |sum, (column, w)| {
                    let spare = w.map_or(0, |w| w.saturating_sub(COLUMN_MIN));
                    sum + if column.may_be_cut { spare } else { 0 }
                });
            if least >= excess {
                self.narrow(&mut widths, excess);
                return widths;
            }
            self.leave_one_out(&mut widths);
        }
    }

    /// Takes so much from the columns that may be cut, from the widest first.
    fn narrow(&self, widths: &mut [Option<usize>], excess: usize) {
        for _ in 0..excess {
            let cuttable = self.columns.iter().zip(widths.iter_mut());
            let widest = cuttable
                .filter_map(|(column, width)| width.as_mut().filter(|_| column.may_be_cut))
                .max_by_key(|width| **width);
            if let Some(widest) = widest {
                *widest -= 1;
            }
        }
    }

    fn leave_one_out(&self, widths: &mut [Option<usize>]) {
        let columns = self.columns.iter().zip(widths.iter_mut()).skip(1);
        let least = columns
            .filter(|(_, width)| width.is_some())
            .min_by_key(|(column, _)| column.left_out);
        if let Some((_, width)) = least {
            *width = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    fn at(max: usize) -> Look {
        Look {
            max: Some(max),
            colour: false,
        }
    }

    #[test]
    fn it_is_whole_where_there_is_no_width() {
        let expected = "\
SESSION          STATE              PROMPT
myrepo-3f9a1c2e  running 4m         fix the flaky test in the parser
a-00000001       exited (0) 2h ago  二つ lines
";
        assert_eq!(sessions().render(Look::default()), expected);
        assert_eq!(sessions().render(at(200)), expected);
    }

    #[test]
    fn it_cuts_what_may_be_cut() {
        let expected = "\
SESSION          STATE              PROMPT
myrepo-3f9a1c2e  running 4m         fix the f…
a-00000001       exited (0) 2h ago  二つ lines
";
        assert_eq!(sessions().render(at(46)), expected);
    }

    #[test]
    fn then_it_leaves_out_what_matters_least() {
        let expected = "\
SESSION          PROMPT
myrepo-3f9a1c2e  fix the flaky test…
a-00000001       二つ lines
";
        assert_eq!(sessions().leaving_out(&["STATE"]).render(at(36)), expected);
        let ids = "SESSION\nmyrepo-3f9a1c2e\na-00000001\n";
        assert_eq!(sessions().render(at(5)), ids, "an id is never cut");
    }

    #[test]
    fn an_empty_one_has_its_titles_unless_they_are_not_wanted() {
        let table = Table::new(&["POD", "IMAGE…"]);
        assert_eq!(table.render(Look::default()), "POD  IMAGE\n");
        assert_eq!(table.without_titles(true).render(Look::default()), "");
    }

    #[test]
    fn styles_take_no_room() {
        let look = Look {
            max: Some(12),
            colour: true,
        };
        let mut table = Table::new(&["A", "B"]);
        table.row([
            Cell::styled("good".to_owned(), Some(Style::Good)),
            "x".to_owned().into(),
        ]);
        assert_eq!(table.render(look), "A     B\n\u{1b}[32mgood\u{1b}[0m  x\n");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal_unless_an_id_is(
            rows in proptest::collection::vec(proptest::collection::vec("\\PC{0,30}", 4), 0..6),
            max in 1usize..80,
        ) {
            let mut table = Table::new(&["ID", "NAME…", "STATE", "PROMPT…"]);
            for row in &rows {
                table.row(row.iter().cloned());
            }
            let ids = rows.iter().map(|row| width(&crate::cli::text::sanitize(&row[0])));
            let longest = ids.max().unwrap_or(0).max(2);
            let text = table.render(at(max));
            prop_assert_eq!(text.lines().count(), rows.len() + 1);
            for line in text.lines() {
                prop_assert!(width(line) <= max.max(longest), "{}:\n{}", max, text);
            }
        }
    }
}
