//! The line that is typed, on threads of its own: rustyline reads it, and prints what arrives above it.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustyline::completion::Completer;
use rustyline::config::{ColorMode, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, ExternalPrinter, Helper};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::line_command::{self, COMMANDS, LineCommand};
use crate::error::CliError;
use crate::text::ui::Colour;

/// Maximum number of lines that wait to be printed above the prompt; the event stream waits behind them.
const PRINT_QUEUE: usize = 256;

/// LineCommand lines that wait to be read: a paste of several.
const LINE_QUEUE: usize = 16;

/// Number of lines that Up recalls. They are kept in memory only: a direct message does not belong in a file.
const HISTORY_LINES: usize = 500;

/// An action of the user.
#[derive(Debug)]
pub(super) enum EditorInput {
    /// LineCommand a line.
    Line(String),
    /// Pressed Ctrl-C once.
    Interrupt,
    /// Pressed Ctrl-C while something was typed, which Up brings back.
    Kept,
    /// Wants to leave: Ctrl-D, or Ctrl-C twice.
    Leave,
    /// The terminal failed.
    Failed(ReadlineError),
}

/// What the line editor shows of the room; it changes while a line is typed.
#[derive(Debug, Clone, Default)]
pub(super) struct EditorView(Arc<Mutex<ViewState>>);

#[derive(Debug, Default)]
struct ViewState {
    prompt: String,
    names: Vec<String>,
    /// What is being typed: the editor drops it on Ctrl-C.
    line: String,
}

impl EditorView {
    /// Sets the prompt, seen from the next line on.
    pub(super) fn set_prompt(&self, prompt: String) {
        self.with(|view| view.prompt = prompt);
    }

    /// Sets the names that Tab completes.
    pub(super) fn set_names(&self, names: Vec<String>) {
        self.with(|view| view.names = names);
    }

    fn with<T>(&self, act: impl FnOnce(&mut ViewState) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The two ends of the editor that the room holds.
pub(super) struct LineEditor {
    /// What the person does.
    pub(super) input: Receiver<EditorInput>,
    /// Text to print above the line.
    pub(super) print: Sender<String>,
}

/// Starts reading lines.
///
/// # Errors
/// When the terminal cannot be used.
pub(super) fn start(shared: EditorView, colour: Colour) -> Result<LineEditor, CliError> {
    let colours = if colour == Colour::On { ColorMode::Enabled } else { ColorMode::Disabled };
    let config = Config::builder()
        .max_history_size(HISTORY_LINES)
        .map_err(CliError::Terminal)?
        .auto_add_history(true)
        .completion_type(CompletionType::List)
        .color_mode(colours)
        .build();
    let mut editor: Editor<Names, DefaultHistory> = Editor::with_config(config).map_err(CliError::Terminal)?;
    editor.set_helper(Some(Names(shared.clone())));
    let (print, texts) = channel(PRINT_QUEUE);
    // A terminal that cannot be edited on has no line to print above.
    match editor.create_external_printer() {
        Ok(printer) => thread::spawn(move || print_above(printer, texts)),
        Err(_) => thread::spawn(move || print_plainly(texts)),
    };
    let (lines, input) = channel(LINE_QUEUE);
    thread::spawn(move || read(&mut editor, &shared, &lines));
    Ok(LineEditor { input, print })
}

fn read(editor: &mut Editor<Names, DefaultHistory>, shared: &EditorView, lines: &Sender<EditorInput>) {
    let mut interrupted = false;
    loop {
        let prompt = shared.with(|view| view.prompt.clone());
        let input = match editor.readline(&prompt) {
            Ok(line) => EditorInput::Line(line),
            Err(ReadlineError::Interrupted) if keep_line(editor, shared) => EditorInput::Kept,
            Err(ReadlineError::Interrupted) if !interrupted => EditorInput::Interrupt,
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => EditorInput::Leave,
            Err(ReadlineError::Signal(_)) => continue,
            Err(error) => EditorInput::Failed(error),
        };
        interrupted = matches!(input, EditorInput::Interrupt);
        // The terminal must not be taken over again for a line that is not going to be read.
        let last = match &input {
            EditorInput::Line(line) => line_command::parse(line) == LineCommand::Leave,
            EditorInput::Leave | EditorInput::Failed(_) => true,
            EditorInput::Interrupt | EditorInput::Kept => false,
        };
        if lines.blocking_send(input).is_err() || last {
            break;
        }
    }
}

/// Puts what was being typed into the history; returns whether there was something.
fn keep_line(editor: &mut Editor<Names, DefaultHistory>, shared: &EditorView) -> bool {
    let line = shared.with(|view| std::mem::take(&mut view.line));
    // A history that cannot take it is full of nothing else: it is in memory.
    !line.trim().is_empty() && editor.add_history_entry(line).is_ok()
}

fn print_above(mut printer: impl ExternalPrinter, mut texts: Receiver<String>) {
    while let Some(text) = texts.blocking_recv() {
        if printer.print(text + "\n").is_err() {
            break;
        }
    }
}

fn print_plainly(mut texts: Receiver<String>) {
    while let Some(text) = texts.blocking_recv() {
        if writeln!(io::stdout().lock(), "{text}").is_err() {
            break;
        }
    }
}

/// Completes names and commands.
struct Names(EditorView);

impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.0.with(|view| candidates(&view.names, line, at)))
    }
}

impl Highlighter for Names {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Colour::On.paint("1", prompt).into()
    }
}

/// Gives no hints; it is shown the line after each change.
impl Hinter for Names {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.0.with(|view| line.clone_into(&mut view.line));
        None
    }
}

impl Validator for Names {}

impl Helper for Names {}

/// Where the word before `at` begins, and what it could become.
fn candidates(names: &[String], line: &str, at: usize) -> (usize, Vec<String>) {
    let typed = line.get(..at).unwrap_or_default();
    let start = typed
        .rfind(char::is_whitespace)
        .map_or(0, |space| typed[space..].chars().next().map_or(0, char::len_utf8) + space);
    let word = &typed[start..];
    let found = match word.strip_prefix('@') {
        Some(name) => {
            let name = name.to_lowercase();
            names
                .iter()
                .filter(|known| known.to_lowercase().starts_with(&name))
                .map(|known| format!("@{known} "))
                .collect()
        }
        None if start == 0 && word.starts_with('/') => {
            COMMANDS.iter().filter(|known| known.starts_with(word)).map(|known| (*known).to_owned()).collect()
        }
        None => Vec::new(),
    };
    (start, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_completes_names_anywhere_and_commands_at_the_start() {
        let names = ["bob".to_owned(), "Bea".to_owned(), "李".to_owned()];
        for (line, at, start, found) in [
            ("@b", 2, 0, vec!["@bob ", "@Bea "]),
            ("@bob @BE", 8, 5, vec!["@Bea "]),
            ("ask\u{3000}@李", 10, 6, vec!["@李 "]),
            ("@b hello", 2, 0, vec!["@bob ", "@Bea "]),
            ("b", 1, 0, vec![]),
            ("/p", 2, 0, vec!["/peers"]),
            ("a /p", 4, 2, vec![]),
            ("", 0, 0, vec![]),
        ] {
            let found: Vec<String> = found.into_iter().map(str::to_owned).collect();
            assert_eq!(candidates(&names, line, at), (start, found), "{line:?}");
        }
    }
}
