//! The status line: room, holder, members online, what is being caught up with, warnings, unread messages.

use chat_client::display::{count, name};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::screen::app::App;
use crate::screen::room::Link;
use crate::screen::theme::ThemePart;
use crate::text::wrap::{columns, fit};

/// Number of old messages from which catching up is worth a word.
const CAUGHT_UP_FROM: u64 = 20;

/// Draws the line.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App, area: Rect) {
    if area.height == 0 {
        return;
    }
    let theme = app.settings.theme;
    let width = usize::from(area.width);
    let mut spans = Vec::new();
    let mut left = width;
    for (text, part) in facts(app) {
        let gap = if spans.is_empty() { " " } else { " │ " };
        let needed = columns(gap) + columns(&text);
        // What does not fit is left out, the first fact and what warns are cut.
        if needed > left && !spans.is_empty() && part == ThemePart::Status {
            continue;
        }
        let text = fit(&text, left.saturating_sub(columns(gap)));
        left = left.saturating_sub(columns(gap) + columns(&text));
        spans.push(Span::styled(gap, theme.style(ThemePart::Status)));
        spans.push(Span::styled(text, theme.style(part)));
    }
    spans.push(Span::styled(" ".repeat(left), theme.style(ThemePart::Status)));
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

/// What is worth saying, most important first.
fn facts(app: &App) -> Vec<(String, ThemePart)> {
    let room = &app.room;
    if let Some(hint) = &app.surface.hint {
        return vec![(chat_client::display::label(hint), ThemePart::Warning)];
    }
    let mut facts = Vec::new();
    if room.link == Link::Lost {
        facts.push(("the daemon is gone, waiting for it".to_owned(), ThemePart::Warning));
    }
    match app.unread() {
        0 if !app.timeline.window.follows() => facts.push(("scrolled back, Esc returns".to_owned(), ThemePart::Status)),
        0 => {}
        unread => facts.push((format!("{unread} unread, Alt-N goes there"), ThemePart::Warning)),
    }
    facts.extend(room.warnings.iter().map(|warning| (warning.clone(), ThemePart::Warning)));
    match room.knocks.len() {
        0 => {}
        1 => facts.push((format!("{} knocks, Alt-A admits", room.knocks[0].1), ThemePart::Warning)),
        more => facts.push((format!("{more} newcomers knock: /knocks"), ThemePart::Warning)),
    }
    if app.outbox.len() > 1 || app.outbox.is_held() {
        let waiting = count(app.outbox.len() as u64, "message", "messages");
        facts.push((format!("{waiting} to send"), ThemePart::Status));
    }
    facts.push((room.name.clone(), ThemePart::Status));
    let online = format!("{}/{} online", room.online(), room.members.len());
    facts.push((online, ThemePart::Status));
    facts.push(match room.holder() {
        Some(holder) if holder.me => ("you hold the room".into(), ThemePart::Status),
        Some(holder) => (format!("{} holds the room", name(&holder.peer)), ThemePart::Status),
        None => ("no holder".into(), ThemePart::Status),
    });
    if room.caught_up >= CAUGHT_UP_FROM {
        facts.push((format!("catching up: {} messages so far", room.caught_up), ThemePart::Status));
    }
    facts.push((name(&room.me), ThemePart::Status));
    facts.push(("F1 helps".into(), ThemePart::Status));
    facts
}
