//! Windows over the history, and the list of candidates over the input line.

use chat_client::display::{label, name};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use crate::screen::app::App;
use crate::screen::compose::completion::Completion;
use crate::screen::overlay::{Pager, Question, Search, SearchState};
use crate::screen::theme::{Theme, ThemePart};
use crate::screen::timeline::layout::start;
use crate::text::render;
use crate::text::wrap::{columns, fit, wrap};

/// Draws the candidates above the input line.
pub(super) fn completion(frame: &mut Frame<'_>, completion: &Completion, input: Rect, theme: Theme) {
    let widest = completion.candidates.iter().map(|(text, _)| columns(&label(text))).max().unwrap_or(0);
    let about = completion.candidates.iter().map(|(_, about)| columns(about)).max().unwrap_or(0);
    let room = usize::from(input.width);
    let width = (widest + about + 3).clamp(6, room.max(6));
    let height = u16::try_from(completion.candidates.len()).unwrap_or(u16::MAX).min(input.y);
    let x = u16::try_from(completion.start.min(room.saturating_sub(width))).unwrap_or(0);
    let width = u16::try_from(width).unwrap_or(input.width).min(input.width);
    let area = Rect { x: input.x + x, y: input.y - height, width, height };
    let lines: Vec<Line<'static>> = completion
        .candidates
        .iter()
        .enumerate()
        .map(|(number, (text, about))| {
            let part = if number == completion.selected { ThemePart::Selected } else { ThemePart::Status };
            let text = label(text).replace('\u{FFFD}', " ");
            let pad = " ".repeat(widest.saturating_sub(columns(&text)));
            let line = fit(&format!(" {text}{pad} {about}"), usize::from(width));
            let rest = " ".repeat(usize::from(width).saturating_sub(columns(&line)));
            Line::styled(line + &rest, theme.style(part))
        })
        .collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
}

/// Draws a text to read.
pub(super) fn pager(frame: &mut Frame<'_>, pager: &Pager, area: Rect, theme: Theme) {
    let inside = window(frame, area, pager.title, "Up, Down, PageUp, PageDown move; Esc closes", theme);
    let width = usize::from(inside.width);
    let lines: Vec<Line<'static>> = pager
        .lines
        .iter()
        .skip(pager.top)
        .take(usize::from(inside.height))
        .flat_map(|line| wrap(&[(line.as_str(), Style::new())], width, 4))
        .take(usize::from(inside.height))
        .collect();
    frame.render_widget(Paragraph::new(lines), inside);
}

/// Draws a question in place of the input line.
pub(super) fn question(frame: &mut Frame<'_>, question: &Question, area: Rect, theme: Theme) {
    let style = theme.style(ThemePart::Question);
    let text = format!("{} [y/n] ", question.text);
    let mut lines = wrap(&[(text.as_str(), style)], usize::from(area.width), 0);
    lines.truncate(usize::from(area.height));
    frame.render_widget(Clear, area);
    let column = lines.last().map_or(0, Line::width);
    let row = lines.len().saturating_sub(1);
    frame.render_widget(Paragraph::new(lines), area);
    let x = area.x + u16::try_from(column).unwrap_or(0).min(area.width.saturating_sub(1));
    frame.set_cursor_position(Position { x, y: area.y + u16::try_from(row).unwrap_or(0) });
}

/// Draws the search: the words, and what was found, newest first.
pub(super) fn search(frame: &mut Frame<'_>, search: &Search, area: Rect, app: &App) {
    let theme = app.settings.theme;
    let foot = match &search.state {
        SearchState::Idle => "Enter searches, Esc closes".to_owned(),
        SearchState::Asked => "searching …".to_owned(),
        SearchState::Complete if search.found.is_empty() => "nothing was found".to_owned(),
        SearchState::Complete | SearchState::More => {
            format!("{} of {}: Enter goes there", search.selected + 1, found(search))
        }
        SearchState::Failed(reason) => label(reason),
    };
    let inside = window(frame, area, "search", &foot, theme);
    let width = usize::from(inside.width);
    let words = search.words.text().to_owned();
    let line = Line::from(vec![Span::styled("find: ", theme.style(ThemePart::Quiet)), Span::raw(fit(&words, width))]);
    frame.render_widget(Paragraph::new(line), Rect { height: inside.height.min(1), ..inside });
    let column = 6 + columns(&words[..search.words.cursor()]);
    let x = inside.x + u16::try_from(column).unwrap_or(0).min(inside.width.saturating_sub(1));
    frame.set_cursor_position(Position { x, y: inside.y });

    let list = Rect { y: inside.y + inside.height.min(1), height: inside.height.saturating_sub(1), ..inside };
    let height = usize::from(list.height).max(1);
    let first = (search.selected + 1).saturating_sub(height);
    let zone = &app.surface.zone;
    let lines: Vec<Line<'static>> = search
        .found
        .iter()
        .enumerate()
        .skip(first)
        .take(height)
        .map(|(number, message)| {
            let at = render::date_time(message.time, zone);
            let text = format!("{at} {}: {}", name(&message.from), start(&message.text, width));
            let part = if number == search.selected { ThemePart::Selected } else { ThemePart::Text };
            Line::styled(fit(&text, width), theme.style(part))
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), list);
}

fn found(search: &Search) -> String {
    let more = if search.state == SearchState::More { "+" } else { "" };
    format!("{}{more}", search.found.len())
}

/// Draws a frame over the history; returns its inside.
fn window(frame: &mut Frame<'_>, area: Rect, title: &str, foot: &str, theme: Theme) -> Rect {
    frame.render_widget(Clear, area);
    let style = theme.style(ThemePart::Frame);
    let foot = fit(foot, usize::from(area.width).saturating_sub(4));
    // A screen of a few lines has none for the frame.
    let borders = match area.height {
        0..=2 => return area,
        3 => Borders::TOP,
        _ => Borders::TOP | Borders::BOTTOM,
    };
    let block = Block::new()
        .borders(borders)
        .border_style(style)
        .title(format!(" {title} "))
        .title_bottom(Line::from(format!(" {foot} ")));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    inside
}
