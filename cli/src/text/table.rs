//! Columns that line up, whatever the width of the characters.

use unicode_width::UnicodeWidthStr;

use crate::text::ui::Colour;
use crate::text::wrap::fold;

/// Space between two columns.
const GAP: usize = 2;

/// Alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Figures.
    Right,
}

/// A row and how it is painted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// One cell for each column.
    pub(crate) cells: Vec<String>,
    /// Parameters of the colour sequence; nothing: plain.
    pub(crate) sgr: Option<&'static str>,
}

impl From<Vec<String>> for Row {
    fn from(cells: Vec<String>) -> Self {
        Self { cells, sgr: None }
    }
}

/// Narrowest column of words, in cells of the terminal.
const NARROWEST: usize = 8;

/// The lines of a table: the titles, then each row; no line ends in spaces. Where it would be wider than `width`, words are
/// wrapped within their columns.
pub(crate) fn table(columns: &[(&str, Side)], rows: &[Row], colour: Colour, width: Option<usize>) -> Vec<String> {
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| cell.width());
        cells.chain([columns[column].0.width()]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns.len()).map(widest).collect();
    narrow(&mut widths, columns, width.unwrap_or(usize::MAX));
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, (_, side)), width) in cells.zip(columns).zip(&widths) {
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            match side {
                Side::Left => line += &format!("{cell}{pad}"),
                Side::Right => line += &format!("{pad}{cell}"),
            }
            line += &" ".repeat(GAP);
        }
        line.truncate(line.trim_end().len());
        line
    };
    let titles = line(&mut columns.iter().map(|(title, _)| *title));
    let mut lines = vec![colour.paint("1", &titles)];
    for row in rows {
        let cells: Vec<Vec<String>> =
            row.cells.iter().zip(&widths).map(|(cell, width)| fold(cell, (*width).max(1), 0)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for part in 0..height {
            let text = line(&mut cells.iter().map(|cell| cell.get(part).map_or("", String::as_str)));
            lines.push(row.sgr.map_or_else(|| text.clone(), |sgr| colour.paint(sgr, &text)));
        }
    }
    lines
}

/// Takes from the widest columns of words until the table fits, or they are as narrow as they may be.
fn narrow(widths: &mut [usize], columns: &[(&str, Side)], room: usize) {
    let gaps = GAP * columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > room {
        let words = (0..widths.len()).filter(|at| columns[*at].1 == Side::Left);
        let may_shrink = |at: &usize| widths[*at] > NARROWEST.max(columns[*at].0.width());
        let Some(widest) = words.filter(may_shrink).max_by_key(|at| widths[*at]) else { return };
        widths[widest] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_wide_characters_line_up() {
        let rows = [
            vec!["李".to_owned(), "3".to_owned(), String::new()].into(),
            Row { cells: vec!["bob".into(), "12".into(), "x".into()], sgr: Some("2") },
        ];
        let lines = table(&[("NAME", Side::Left), ("N", Side::Right), ("", Side::Left)], &rows, Colour::Off, None);
        assert_eq!(lines, ["NAME   N", "李     3", "bob   12  x"]);
    }

    #[test]
    fn words_are_wrapped_within_their_columns_where_the_table_is_too_wide() {
        let rows =
            [vec!["a-name-of-twenty-two-xx".to_owned(), "3".to_owned(), "steadier than alice".to_owned()].into()];
        let columns = [("NAME", Side::Left), ("N", Side::Right), ("WHY", Side::Left)];
        let lines = table(&columns, &rows, Colour::Off, Some(30));
        let expected = ["NAME           N  WHY", "a-name-of-twe  3  steadier", "nty-two-xx        than alice"];
        assert_eq!(lines, expected);
        assert_eq!(table(&columns, &rows, Colour::Off, Some(3))[1], "a-name-o  3  steadier", "figures are never cut");
    }

    #[test]
    fn painted_row_is_closed() {
        let rows = [Row { cells: vec!["a".into()], sgr: Some("2") }];
        assert_eq!(table(&[("T", Side::Left)], &rows, Colour::On, None), ["\x1b[1mT\x1b[0m", "\x1b[2ma\x1b[0m"]);
    }
}
