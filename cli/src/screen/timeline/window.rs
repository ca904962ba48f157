//! Which part of the history the screen shows: lines of entries, counted from the bottom.

use std::ops::Range;

use ratatui::text::Line;

use super::Timeline;
use super::entry::Serial;
use super::layout::Look;

/// Entries around an edge that are near it.
const NEAR: Serial = 400;

/// The place of the last line on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// The entry of the last line and how many of that entry's lines are below the screen; nothing: the newest line, which
    /// it follows.
    bottom: Option<(Serial, usize)>,
}

impl Window {
    /// Whether the newest entries are on the screen and new ones move it.
    pub(crate) fn follows(&self) -> bool {
        self.bottom.is_none()
    }

    /// Follows the newest entries.
    pub(crate) fn follow(&mut self) {
        self.bottom = None;
    }

    /// An entry was taken out: those behind it have smaller numbers now.
    pub(super) fn removed(&mut self, serial: Serial) {
        if let Some((bottom, _)) = &mut self.bottom
            && *bottom > serial
        {
            *bottom -= 1;
        }
    }

    /// Whether it is near this entry; a window that follows is near the newest ones alone.
    pub(super) fn is_near(&self, edge: Serial) -> bool {
        self.bottom.is_some_and(|(serial, _)| serial - edge < NEAR)
    }
}

impl Timeline {
    /// Moves the window towards older entries by this many lines. Returns the number of lines that are missing in memory.
    pub(crate) fn scroll_up(&mut self, lines: usize, height: usize, look: &Look<'_>) -> usize {
        let Some((mut serial, mut below)) = self.bottom() else { return lines };
        below += lines;
        while serial > self.first() {
            let tall = look.height(self, serial);
            if below < tall {
                break;
            }
            below -= tall;
            serial -= 1;
        }
        self.window.bottom = Some((serial, below));
        self.stop_at_top(height, look)
    }

    /// Moves the window towards newer entries by this many lines. Returns whether it reached the newest entry in memory.
    pub(crate) fn scroll_down(&mut self, lines: usize, look: &Look<'_>) -> bool {
        let Some((mut serial, mut below)) = self.window.bottom else { return true };
        let mut left = lines;
        loop {
            if left <= below {
                self.window.bottom = Some((serial, below - left));
                return false;
            }
            left -= below;
            serial += 1;
            if serial >= self.end() {
                // While more may follow, the place is kept: it is where the next page begins.
                self.window.bottom = if self.is_live() { None } else { Some((self.end() - 1, 0)) };
                return true;
            }
            below = look.height(self, serial);
        }
    }

    /// Moves the window so that this entry is in it, with some of what came before.
    pub(crate) fn show(&mut self, serial: Serial, height: usize, look: &Look<'_>) {
        self.window.bottom = Some((serial, 0));
        // A third of the screen is for what follows.
        if self.scroll_down(height / 3, look) && self.is_live() {
            self.window.follow();
        }
        self.stop_at_top(height, look);
    }

    /// The lines on the screen, at most `height`, oldest first.
    pub(crate) fn lines(&self, height: usize, look: &Look<'_>) -> Vec<Line<'static>> {
        let Some((mut serial, below)) = self.bottom() else { return Vec::new() };
        let mut parts = Vec::new();
        let mut hidden = below;
        let mut found = 0;
        while found < height && serial >= self.first() {
            let mut lines = look.lines(self, serial);
            lines.truncate(lines.len().saturating_sub(hidden));
            hidden = 0;
            found += lines.len();
            parts.push(lines);
            serial -= 1;
        }
        let lines: Vec<Line<'static>> = parts.into_iter().rev().flatten().collect();
        lines.into_iter().skip(found.saturating_sub(height)).collect()
    }

    /// The entries on the screen.
    pub(crate) fn visible(&self, height: usize, look: &Look<'_>) -> Range<Serial> {
        let end = self.bottom().map_or(self.first(), |(serial, _)| serial + 1);
        self.top(height, look)..end
    }

    /// The oldest entry on the screen.
    pub(crate) fn top(&self, height: usize, look: &Look<'_>) -> Serial {
        let Some((mut serial, below)) = self.bottom() else { return self.first() };
        let mut found = look.height(self, serial).saturating_sub(below);
        while found < height && serial > self.first() {
            serial -= 1;
            found += look.height(self, serial);
        }
        serial
    }

    /// The place of the last line, whether the window follows or not.
    fn bottom(&self) -> Option<(Serial, usize)> {
        let newest = self.end() - 1;
        if newest < self.first() {
            return None;
        }
        let (serial, below) = self.window.bottom.unwrap_or((newest, 0));
        Some((serial.clamp(self.first(), newest), below))
    }

    /// Moves the window back so that no line of it is above the oldest entry; returns by how many lines.
    fn stop_at_top(&mut self, height: usize, look: &Look<'_>) -> usize {
        let Some((bottom, below)) = self.bottom() else { return 0 };
        let mut found = look.height(self, bottom).saturating_sub(below);
        let mut serial = bottom;
        while found < height && serial > self.first() {
            serial -= 1;
            found += look.height(self, serial);
        }
        if found >= height {
            return 0;
        }
        if self.scroll_down(height - found, look) && self.is_live() {
            self.window.follow();
        }
        height - found
    }
}
