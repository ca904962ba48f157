//! The column of members: presence, path and round-trip time, the holder marked.

use chat_client::display::name;
use chat_proto::api::peers::{PathView, PeerView, RoleView};
use chat_proto::time::Timestamp;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use crate::screen::app::App;
use crate::screen::theme::{Theme, ThemePart};
use crate::screen::timeline::layout::author;
use crate::text::render;
use crate::text::wrap::{columns, fit};

/// Draws the column.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let theme = app.settings.theme;
    let block = Block::new().borders(Borders::LEFT).border_style(theme.style(ThemePart::Frame));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let width = usize::from(inside.width);
    let height = usize::from(inside.height);
    let mut members: Vec<&PeerView> = app.room.members.iter().collect();
    // Those who are here first; the daemon's order otherwise.
    members.sort_by_key(|member| !member.online);
    let now = render::now();
    let mut lines: Vec<Line<'static>> = members.iter().map(|member| line(member, width, theme, now)).collect();
    if lines.len() > height && height > 0 {
        let more = lines.len() - (height - 1);
        lines.truncate(height - 1);
        lines.push(Line::styled(format!(" and {more} more: /peers"), theme.style(ThemePart::Quiet)));
    }
    frame.render_widget(Paragraph::new(lines), inside);
}

/// `◆ alice      0.4ms`.
fn line(member: &PeerView, width: usize, theme: Theme, now: Timestamp) -> Line<'static> {
    let (sign, sign_part) = match member.role {
        RoleView::Holder => ("◆", ThemePart::Holder),
        RoleView::Standby => ("◇", ThemePart::Quiet),
        RoleView::Member => (" ", ThemePart::Quiet),
    };
    let about = about(member, now);
    let room = width.saturating_sub(3 + columns(&about));
    let called = fit(&name(&member.peer), room);
    let gap = " ".repeat(room.saturating_sub(columns(&called)) + 1);
    let part = match (member.me, member.online) {
        (true, _) => ThemePart::Me,
        (false, true) => author(&member.peer),
        (false, false) => ThemePart::Quiet,
    };
    Line::from(vec![
        Span::styled(sign, theme.style(sign_part)),
        Span::raw(" "),
        Span::styled(called, theme.style(part)),
        Span::raw(gap),
        Span::styled(about, theme.style(ThemePart::Quiet)),
    ])
}

fn about(member: &PeerView, now: Timestamp) -> String {
    if member.me {
        return "you".into();
    }
    if !member.online {
        return match member.last_seen {
            Some(seen) => format!("{} ago", render::span(render::between(seen, now))),
            None => "never".into(),
        };
    }
    let time = member.rtt_ms.map_or_else(String::new, render::rtt);
    match member.path {
        PathView::Direct => time,
        PathView::Relayed => format!("relay {time}"),
        // It is connected to other members.
        PathView::None => "via others".into(),
    }
}
