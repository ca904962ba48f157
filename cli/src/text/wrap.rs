//! Wraps styled text at words, in cells of the terminal: wide characters take two, combining ones none of their own.

use ratatui::buffer::CellWidth;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;

/// Columns between two tab stops.
const TAB_COLUMNS: usize = 4;

/// Columns that a text takes on one line.
pub(crate) fn columns(text: &str) -> usize {
    text.graphemes(true).map(|cluster| usize::from(cluster.cell_width())).sum()
}

/// The start of a text that fits `width` columns; with an ellipsis where it was cut.
pub(crate) fn fit(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut fitted = String::new();
    let mut used = 0;
    for cluster in text.graphemes(true) {
        used += usize::from(cluster.cell_width());
        if used + 1 > width {
            break;
        }
        fitted.push_str(cluster);
    }
    if width > 0 {
        fitted.push('…');
    }
    fitted
}

/// One cluster of characters and how it looks.
struct Glyph<'a> {
    text: &'a str,
    columns: usize,
    style: Style,
}

/// Wraps one paragraph. The first line begins at once, the others after `indent`; every line has at most `width` columns,
/// unless a single character is wider.
pub(crate) fn wrap(paragraph: &[(&str, Style)], width: usize, indent: usize) -> Vec<Line<'static>> {
    let glyphs = glyphs(paragraph);
    let indent = if indent + 8 <= width { indent } else { 0 };
    let mut lines = Vec::new();
    let mut start = 0;
    loop {
        let room = if lines.is_empty() { width } else { width - indent.min(width) }.max(1);
        let (end, next) = line_end(&glyphs, start, room);
        let pad = if lines.is_empty() { 0 } else { indent };
        lines.push(line(&glyphs[start..end], pad));
        if next >= glyphs.len() {
            return lines;
        }
        start = next;
    }
}

/// Wraps a plain text, line by line: what follows the first line begins after `indent`.
pub(crate) fn fold(text: &str, width: usize, indent: usize) -> Vec<String> {
    text.split('\n')
        .flat_map(|line| wrap(&[(line, Style::new())], width, indent))
        .map(|line| line.to_string())
        .collect()
}

/// Where a line that begins at `start` ends, and where the next one begins.
fn line_end(glyphs: &[Glyph<'_>], start: usize, room: usize) -> (usize, usize) {
    let mut used = 0;
    let mut space = None;
    for (at, glyph) in glyphs.iter().enumerate().skip(start) {
        let is_space = glyph.text == " ";
        if used + glyph.columns > room && at > start {
            // A space behind a full line is where it breaks.
            if is_space {
                return (at, at + 1);
            }
            return space.map_or((at, at), |space: usize| (space, space + 1));
        }
        used += glyph.columns;
        // Spaces in front are the indentation of code, not a gap between words.
        if is_space && glyphs[start..at].iter().any(|before| before.text != " ") {
            space = Some(at);
        }
    }
    (glyphs.len(), glyphs.len())
}

fn glyphs<'a>(paragraph: &[(&'a str, Style)]) -> Vec<Glyph<'a>> {
    let mut glyphs = Vec::new();
    let mut column = 0;
    for (text, style) in paragraph {
        for cluster in text.graphemes(true) {
            if cluster == "\t" {
                let spaces = TAB_COLUMNS - column % TAB_COLUMNS;
                glyphs.extend((0..spaces).map(|_| Glyph { text: " ", columns: 1, style: *style }));
                column += spaces;
            } else if !cluster.contains(char::is_control) {
                let columns = usize::from(cluster.cell_width());
                glyphs.push(Glyph { text: cluster, columns, style: *style });
                column += columns;
            }
        }
    }
    glyphs
}

fn line(glyphs: &[Glyph<'_>], indent: usize) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    if indent > 0 {
        spans.push(Span::raw(" ".repeat(indent)));
    }
    let mut text = String::new();
    for (at, glyph) in glyphs.iter().enumerate() {
        text.push_str(glyph.text);
        if glyphs.get(at + 1).is_none_or(|next| next.style != glyph.style) {
            spans.push(Span::styled(std::mem::take(&mut text), glyph.style));
        }
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
        wrap(&[(text, Style::new())], width, indent).iter().map(Line::to_string).collect()
    }

    #[test]
    fn text_is_wrapped_at_words_with_an_indent() {
        assert_eq!(wrapped("one two three four", 10, 2), ["one two", "  three", "  four"]);
        assert_eq!(wrapped("one two", 7, 0), ["one two"]);
        assert_eq!(wrapped("", 7, 0), [""]);
        assert_eq!(wrapped("    code stays", 9, 0), ["    code", "stays"]);
    }

    #[test]
    fn word_that_is_longer_than_a_line_is_split() {
        assert_eq!(wrapped("abcdefghij kl", 4, 0), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrapped("abcdefghij", 10, 4), ["abcdefghij"]);
    }

    #[test]
    fn wide_and_combining_characters_keep_their_width() {
        assert_eq!(wrapped("漢字漢字", 5, 0), ["漢字", "漢字"]);
        assert_eq!(wrapped("e\u{301}e\u{301}e\u{301}", 2, 0), ["e\u{301}e\u{301}", "e\u{301}"]);
        assert_eq!(wrapped("👩‍👩‍👧‍👦👩‍👩‍👧‍👦", 2, 0), ["👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"]);
        assert_eq!(wrapped("a\tb", 10, 0), ["a   b"]);
    }

    #[test]
    fn text_is_cut_with_an_ellipsis() {
        assert_eq!((fit("alice", 5), fit("alice", 4), fit("漢字", 3)), ("alice".into(), "ali…".into(), "漢…".into()));
        assert_eq!(fit("alice", 0), "");
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_word_is_lost(text in "[a-z漢é👍 ]{0,80}", width in 2_usize..30, indent in 0_usize..8) {
            let lines = wrapped(&text, width, indent);
            prop_assert!(lines.iter().all(|line| columns(line) <= width), "{lines:?}");
            let bare = |text: &str| text.replace(' ', "");
            prop_assert_eq!(bare(&lines.concat()), bare(&text));
        }
    }
}
