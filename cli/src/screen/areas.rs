//! Where the parts of the screen are, from 40×10 to 300×100 characters.

use ratatui::layout::Rect;

/// Width from which the members have a column.
const MEMBERS_FROM: u16 = 72;

/// Width of that column at most.
const MEMBERS_MAX: u16 = 34;

/// Rectangles of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Areas {
    /// The history.
    pub(crate) history: Rect,
    /// The members, with a gap and a line to their left.
    pub(crate) members: Option<Rect>,
    /// The status line.
    pub(crate) status: Rect,
    /// What is typed.
    pub(crate) input: Rect,
}

/// Whether the members have a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Where there is room.
    Shown,
    /// Never.
    Hidden,
}

impl Areas {
    /// The rectangles for a screen of this size and a text of this many lines.
    pub(crate) fn of(width: u16, height: u16, rows: usize, column: Column) -> Self {
        let most = (height / 3).clamp(1, 12);
        let input_height = u16::try_from(rows).unwrap_or(most).clamp(1, most).min(height);
        let status_height = u16::from(height > input_height);
        let history_height = height - input_height - status_height;
        let members_width =
            if width >= MEMBERS_FROM && column == Column::Shown { (width / 4).min(MEMBERS_MAX) } else { 0 };
        let gap = u16::from(members_width > 0);
        let history = Rect::new(0, 0, width - members_width - gap, history_height);
        let members = Rect::new(history.width + gap, 0, members_width, history_height);
        Self {
            history,
            members: (members_width > 0).then_some(members),
            status: Rect::new(0, history_height, width, status_height),
            input: Rect::new(0, history_height + status_height, width, input_height),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_cover_the_screen_at_every_size() {
        for (width, height) in [(1, 1), (2, 3), (40, 10), (80, 24), (200, 50), (300, 100)] {
            for rows in [1, 3, 50] {
                let areas = Areas::of(width, height, rows, Column::Shown);
                let members = areas.members.map_or(0, |members| members.width + 1);
                assert_eq!(areas.history.width + members, width);
                assert_eq!(areas.history.height + areas.status.height + areas.input.height, height);
                assert!(areas.input.height >= 1);
            }
        }
        assert_eq!(Areas::of(80, 24, 1, Column::Hidden).members, None);
        assert!(Areas::of(80, 24, 1, Column::Shown).members.is_some());
        assert_eq!(Areas::of(40, 10, 1, Column::Shown).members, None);
    }
}
