//! The terminal: taken over at the start, given back however the program ends, and in between whenever it is stopped.

use std::io::{self, Write};

use chat_client::chat_settings::{Notify, OnOff};
use crossterm::cursor::Show;
use crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, DisableMouseCapture, EnableBracketedPaste, EnableFocusChange,
    EnableMouseCapture,
};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, SetTitle, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;

/// Keeps the title of the terminal on a stack, and takes it back (xterm).
const PUSH_TITLE: &str = "\x1b[22;2t";
const POP_TITLE: &str = "\x1b[23;2t";

/// The wheel sends no arrow keys while the whole screen is ours: those recall what was typed.
const NO_WHEEL_KEYS: &str = "\x1b[?1007l";

/// The screen of a terminal that is ours.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<io::BufWriter<io::Stdout>>>,
    mouse: OnOff,
    in_tmux: InTmux,
}

/// Whether sequences for the outer terminal need an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InTmux {
    Yes,
    No,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn take_over(mouse: OnOff) -> io::Result<Self> {
        let backend = CrosstermBackend::new(io::BufWriter::with_capacity(64 * 1024, io::stdout()));
        let in_tmux = if std::env::var_os("TMUX").is_some() { InTmux::Yes } else { InTmux::No };
        enter(mouse)?;
        restore_on_panic();
        Ok(Self { terminal: Terminal::new(backend).inspect_err(|_| leave())?, mouse, in_tmux })
    }

    /// Columns and lines.
    pub(super) fn size() -> (u16, u16) {
        size().unwrap_or((80, 24))
    }

    /// Draws what changed.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render).map(|_| ())
    }

    /// Forgets what is on the screen: everything is drawn anew.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        // Terminal::clear asks the terminal for the cursor and reads the answer, which the keyboard's thread would get.
        let (width, height) = Self::size();
        self.terminal.resize(Rect::new(0, 0, width, height))
    }

    /// Gives the terminal back while the process is stopped; [`Screen::again`] takes it over again.
    pub(super) fn give_back(&mut self) {
        leave();
    }

    /// Takes the terminal over again.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(super) fn again(&mut self) -> io::Result<()> {
        // The shell has set other modes since: forget what was saved of the old ones.
        let _ = disable_raw_mode();
        enter(self.mouse)?;
        self.clear()
    }

    /// Rings the bell.
    pub(super) fn bell(&mut self) {
        self.write("\x07");
    }

    /// Sets the title.
    pub(super) fn title(&mut self, title: &str) {
        let _ = execute!(io::stdout(), SetTitle(title));
    }

    /// Notifies the desktop. The text has no control characters.
    pub(super) fn notify(&mut self, how: Notify, text: &str) {
        let sequence = match how {
            Notify::Osc9 => format!("\x1b]9;{text}\x07"),
            Notify::Osc777 => format!("\x1b]777;notify;chat;{}\x07", text.replace(';', ",")),
            Notify::Off => return,
        };
        match self.in_tmux {
            InTmux::No => self.write(&sequence),
            InTmux::Yes => self.write(&format!("\x1bPtmux;{}\x1b\\", sequence.replace('\x1b', "\x1b\x1b"))),
        }
    }

    fn write(&mut self, sequence: &str) {
        // A terminal that is gone shows itself when the screen is drawn.
        let mut out = io::stdout().lock();
        let _ = out.write_all(sequence.as_bytes()).and_then(|()| out.flush());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter(mouse: OnOff) -> io::Result<()> {
    enable_raw_mode()?;
    let mut out = io::stdout();
    let begun = (|| {
        out.write_all(PUSH_TITLE.as_bytes())?;
        queue!(out, EnterAlternateScreen, EnableBracketedPaste, EnableFocusChange)?;
        out.write_all(NO_WHEEL_KEYS.as_bytes())?;
        if mouse == OnOff::On {
            queue!(out, EnableMouseCapture)?;
        }
        out.flush()
    })();
    begun.inspect_err(|_| leave())
}

fn leave() {
    let mut out = io::stdout();
    let _ = queue!(out, DisableMouseCapture, DisableFocusChange, DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = out.write_all(POP_TITLE.as_bytes()).and_then(|()| out.flush());
    let _ = disable_raw_mode();
}

/// A panic is reported on a terminal that shows it.
fn restore_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        leave();
        report(panic);
    }));
}
