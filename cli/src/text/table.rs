//! Columns that line up, whatever the width of the characters.

use unicode_width::UnicodeWidthStr;

use crate::text::ui::Colour;

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

/// The lines of a table: the titles, then each row; no line ends in spaces.
pub(crate) fn table(columns: &[(&str, Side)], rows: &[Row], colour: Colour) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| cell.width());
        cells.chain([columns[column].0.width()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
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
        let text = line(&mut row.cells.iter().map(String::as_str));
        lines.push(row.sgr.map_or_else(|| text.clone(), |sgr| colour.paint(sgr, &text)));
    }
    lines
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
        let lines = table(&[("NAME", Side::Left), ("N", Side::Right), ("", Side::Left)], &rows, Colour::Off);
        assert_eq!(lines, ["NAME   N", "李     3", "bob   12  x"]);
    }

    #[test]
    fn painted_row_is_closed() {
        let rows = [Row { cells: vec!["a".into()], sgr: Some("2") }];
        assert_eq!(table(&[("T", Side::Left)], &rows, Colour::On), ["\x1b[1mT\x1b[0m", "\x1b[2ma\x1b[0m"]);
    }
}
