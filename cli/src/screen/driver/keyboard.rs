//! Reads keys on a thread of its own, and recognises text that is pasted into a terminal that does not bracket it.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEventKind, poll, read};
use rustix::event::{PollFd, PollFlags};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;

use crate::screen::app::{Focus, ScreenInput};

/// Maximum number of batches of keys that wait; the terminal keeps the rest.
const QUEUE: usize = 64;

/// Maximum number of events in a batch.
const BATCH_MAX: usize = 16 * 1024;

/// Lines that come at once and are not typed: a paste.
const PASTED_LINES: usize = 4;

/// Pause after which a paste has ended.
const PASTE_PAUSE: Duration = Duration::from_millis(30);

/// Pause after which what was typed is handed over; what is there already takes less.
const KEY_PAUSE: Duration = Duration::from_millis(1);

/// Lines that one step of the wheel scrolls.
const WHEEL_LINES: isize = 3;

/// Starts reading. The thread ends with the process.
pub(super) fn start() -> Receiver<Vec<ScreenInput>> {
    let (sender, receiver) = channel(QUEUE);
    thread::spawn(move || {
        let mut pasted = None;
        while let Some((batch, first)) = batch() {
            let goes_on = pasted.is_some_and(|pasted| first.saturating_duration_since(pasted) < PASTE_PAUSE);
            // What follows a paste that did not fit one batch is part of it.
            let cut = batch.len() >= BATCH_MAX;
            let inputs = inputs(batch, if goes_on { 0 } else { PASTED_LINES });
            pasted = cut.then(Instant::now);
            if !inputs.is_empty() && sender.blocking_send(inputs).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Waits until the terminal is gone. Reading does not end then: crossterm takes the end of the input for a pause, and asks again
/// and again. Waiting for nothing but the hang-up costs nothing.
pub(super) fn gone() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let terminal = io::stdin();
        loop {
            let mut watched = [PollFd::new(&terminal, PollFlags::empty())];
            match rustix::event::poll(&mut watched, None) {
                Ok(_) if watched[0].revents().is_empty() => {}
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        // The screen may have ended before its terminal.
        let _ = sender.send(());
    });
    receiver
}

/// What is there, at least one event; while lines pour in, what follows within a moment as well. Also when the first event came.
fn batch() -> Option<(Vec<Event>, Instant)> {
    let mut batch = vec![read().ok()?];
    let first = Instant::now();
    let mut lines = 0;
    loop {
        lines += usize::from(batch.last().is_some_and(is_line_end));
        let wait = if lines >= PASTED_LINES { PASTE_PAUSE } else { KEY_PAUSE };
        if batch.len() >= BATCH_MAX || !poll(wait).ok()? {
            return Some((batch, first));
        }
        batch.push(read().ok()?);
    }
}

fn is_line_end(event: &Event) -> bool {
    matches!(text_of(event), Some('\n'))
}

/// The character that an event stands for in a paste.
fn text_of(event: &Event) -> Option<char> {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return None };
    if *kind == KeyEventKind::Release {
        return None;
    }
    match (*modifiers, *code) {
        (KeyModifiers::NONE, KeyCode::Enter) | (KeyModifiers::CONTROL, KeyCode::Char('j')) => Some('\n'),
        (KeyModifiers::NONE, KeyCode::Tab) => Some('\t'),
        (KeyModifiers::NONE | KeyModifiers::SHIFT, KeyCode::Char(c)) => Some(c),
        _ => None,
    }
}

/// The events of a batch as the model takes them; several lines in one batch are a paste.
fn inputs(batch: Vec<Event>, pasted_lines: usize) -> Vec<ScreenInput> {
    let mut inputs = Vec::new();
    let mut run: Vec<Event> = Vec::new();
    for event in batch {
        if text_of(&event).is_some() {
            run.push(event);
        } else {
            end_run(&mut run, &mut inputs, pasted_lines);
            inputs.extend(input(event));
        }
    }
    end_run(&mut run, &mut inputs, pasted_lines);
    inputs
}

fn end_run(run: &mut Vec<Event>, inputs: &mut Vec<ScreenInput>, pasted_lines: usize) {
    let events = std::mem::take(run);
    let lines = events.iter().filter(|event| is_line_end(event)).count();
    if !events.is_empty() && lines >= pasted_lines {
        inputs.push(ScreenInput::Paste(events.iter().filter_map(text_of).collect()));
    } else {
        inputs.extend(events.into_iter().filter_map(input));
    }
}

fn input(event: Event) -> Option<ScreenInput> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(ScreenInput::Key(key)),
        Event::Key(_) => None,
        Event::Paste(text) => Some(ScreenInput::Paste(text)),
        Event::Resize(width, height) => Some(ScreenInput::Resize(width, height)),
        Event::FocusGained => Some(ScreenInput::Focus(Focus::Here)),
        Event::FocusLost => Some(ScreenInput::Focus(Focus::Elsewhere)),
        Event::Mouse(mouse) if mouse.kind == MouseEventKind::ScrollUp => Some(ScreenInput::Wheel(-WHEEL_LINES)),
        Event::Mouse(mouse) if mouse.kind == MouseEventKind::ScrollDown => Some(ScreenInput::Wheel(WHEEL_LINES)),
        Event::Mouse(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<Event> {
        let code = |c| if c == '\n' { KeyCode::Enter } else { KeyCode::Char(c) };
        text.chars().map(|c| Event::Key(KeyEvent::new(code(c), KeyModifiers::NONE))).collect()
    }

    #[test]
    fn many_lines_at_once_are_one_paste() {
        let inputs = inputs(keys("one\ntwo\nthree\nfour\nfive"), PASTED_LINES);
        assert!(matches!(inputs.as_slice(), [ScreenInput::Paste(text)] if text == "one\ntwo\nthree\nfour\nfive"));
    }

    #[test]
    fn lines_typed_ahead_are_keys() {
        let typed = inputs(keys("one\ntwo\n"), PASTED_LINES);
        assert_eq!(typed.len(), 8);
        assert!(typed.iter().all(|input| matches!(input, ScreenInput::Key(_))));
        let rest = inputs(keys("the rest of a paste\n"), 0);
        assert!(matches!(rest.as_slice(), [ScreenInput::Paste(text)] if text == "the rest of a paste\n"));
    }
}
