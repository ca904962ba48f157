//! Draws the model. Nothing here changes it.

mod members;
mod status;
mod windows;

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use super::app::{App, PROMPT_COLUMNS};
use super::compose::composer::Composer;
use super::overlay::Overlay;
use super::theme::{Theme, ThemePart};
use super::timeline::More;
use super::timeline::layout::BEGINNING;

/// Draws the screen.
pub(crate) fn draw(frame: &mut Frame<'_>, app: &App) {
    let areas = app.areas();
    let theme = app.settings.theme;
    history(frame, app, areas.history);
    if let Some(area) = areas.members {
        members::draw(frame, app, area);
    }
    status::draw(frame, app, areas.status);
    let cursor = input(frame, &app.composer, areas.input, theme);
    if let Some(completion) = &app.completion {
        windows::completion(frame, completion, areas.input, theme);
    }
    match &app.overlay {
        None => frame.set_cursor_position(cursor),
        Some(Overlay::Pager(pager)) => windows::pager(frame, pager, areas.history, theme),
        Some(Overlay::Question(question)) => {
            windows::question(frame, question, areas.status.union(areas.input), theme);
        }
        Some(Overlay::Search(search)) => windows::search(frame, search, areas.history, app),
    }
}

fn history(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let look = App::look(&app.room, &app.settings, &app.surface, area.width);
    let height = usize::from(area.height);
    let lines = app.timeline.lines(height, &look);
    let missing = height.saturating_sub(lines.len());
    // The newest line is at the bottom, however few there are.
    let top = u16::try_from(missing).unwrap_or(area.height);
    let style = app.settings.theme.style(ThemePart::Quiet);
    let word = match app.timeline.older {
        More::No if app.timeline.is_empty() => Some(BEGINNING),
        More::No => None,
        More::Maybe | More::Asked => Some("reading the history …"),
    };
    if let Some(word) = word.filter(|_| missing > 0 && area.height > 0) {
        let line = Rect { y: area.y + top - 1, height: 1, ..area };
        frame.render_widget(Paragraph::new(Line::styled(word, style)), line);
    }
    let below = Rect { y: area.y + top, height: area.height - top, ..area };
    frame.render_widget(Paragraph::new(lines), below);
}

/// Draws the text that is typed; returns where the cursor is.
fn input(frame: &mut Frame<'_>, composer: &Composer, area: Rect, theme: Theme) -> Position {
    let width = usize::from(area.width).saturating_sub(PROMPT_COLUMNS);
    let (rows, (row, column)) = composer.rows(width);
    let height = usize::from(area.height).max(1);
    let first = (row + 1).saturating_sub(height).min(rows.len().saturating_sub(height));
    let lines: Vec<Line<'_>> = rows
        .iter()
        .enumerate()
        .skip(first)
        .take(height)
        .map(|(number, row)| {
            let sign = if number == 0 { "> " } else { "  " };
            let text = &composer.text()[row.start..row.end];
            Line::from(vec![Span::styled(sign, theme.style(ThemePart::Quiet)), Span::styled(shown(text), Style::new())])
        })
        .collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
    let x = area.x + u16::try_from(PROMPT_COLUMNS + column).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
    let y = area.y + u16::try_from(row - first).unwrap_or(0).min(area.height.saturating_sub(1));
    Position { x, y }
}

/// A tab takes one column where it is typed.
fn shown(text: &str) -> String {
    text.replace('\t', " ")
}

#[cfg(test)]
mod tests;
