//! `cargo run -p chat-tests --example captures [FOLDER]`: pictures of the screen of `chat`, as SVG, of a small room with real
//! daemons whose holder has just died. Without a folder they are written to `.github/screens`.

#[path = "../tests/screen/terminal.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod terminal;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{env, fs};

use chat_tests::cluster::TestRoom;
use vt100::{Cell, Color};

use terminal::TestTerminal;

/// Columns and lines of the pictures.
const SIZES: [(u16, u16); 3] = [(80, 24), (200, 50), (40, 10)];

/// A cell of the pictures in pixels, and its text.
const CELL: (f64, f64) = (8.4, 18.0);
const FONT_PIXELS: f64 = 14.0;

/// Colours of the terminal: text, background, and the sixteen (those of xterm, a little brighter blue).
const TEXT: &str = "#d8dee9";
const BACKGROUND: &str = "#16181d";
const PALETTE: [&str; 16] = [
    "#2e3440", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9", "#7f848e", "#f07178",
    "#b5e890", "#ffd68a", "#82c4ff", "#dd9bf0", "#7fd8e0", "#ffffff",
];

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map_or_else(default_folder, PathBuf::from);
    fs::create_dir_all(&folder)?;
    let mut room = TestRoom::of(&["alice", "bob", "carol", "dave"]);
    let mut terminals: Vec<(u16, u16, TestTerminal)> = SIZES
        .iter()
        .map(|(columns, rows)| (*columns, *rows, TestTerminal::open(room["bob"].home(), *columns, *rows)))
        .collect();
    for (_, _, terminal) in &terminals {
        terminal.shows("alice");
    }
    talk(&room);
    room["alice"].kill();
    for (_, _, terminal) in &mut terminals {
        terminal.shows("holds the room now");
        terminal.press("and the room did not notice");
        terminal.shows("did not notice");
    }
    let mut out = io::stdout();
    for (columns, rows, terminal) in &terminals {
        let path = folder.join(format!("{columns}x{rows}.svg"));
        fs::write(&path, picture(terminal, *columns, *rows))?;
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}

fn default_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/screens")
}

/// What is said in the pictures.
fn talk(room: &TestRoom) {
    let (alice, bob, carol, dave) = (room["alice"].api(), room["bob"].api(), room["carol"].api(), room["dave"].api());
    carol.send("the build of last night is green on all four machines");
    let asked =
        alice.send("how many disks does the new one have? I see sda to sdc, and the fourth bay blinks").message.id;
    room.same_history(2);
    let answer = asked.to_string();
    room["dave"].chat(&["send", "--reply", &answer, "four, one is a spare: 漢字 and 👍 need two columns"]).ok();
    room.same_history(3);
    bob.send("then the backup can begin");
    room.same_history(4);
    carol.send("bob: it began an hour ago, 40 % done");
    alice.send_to(&["bob"], "the key of the rack is in the second drawer");
    room["carol"].chat(&["send", "/me makes coffee"]).ok();
    room.same_history(6);
    dave.send("two cups, please");
}

/// The screen as a picture.
fn picture(terminal: &TestTerminal, columns: u16, rows: u16) -> String {
    let (width, height) = (f64::from(columns) * CELL.0, f64::from(rows) * CELL.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" font-family=\"ui-monospace, Menlo, Consolas, \
         'DejaVu Sans Mono', monospace\" font-size=\"{FONT_PIXELS}\" xml:space=\"preserve\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{BACKGROUND}\"/>\n",
        width + 16.0,
        height + 16.0
    );
    for row in 0..rows {
        for run in terminal.cells(row, columns, runs) {
            draw(&mut svg, row, &run);
        }
    }
    svg + "</svg>\n"
}

/// Neighbouring cells that look alike.
struct TextRun {
    column: u16,
    columns: u16,
    text: String,
    look: CellLook,
}

#[derive(PartialEq)]
struct CellLook {
    text: Option<String>,
    background: Option<String>,
    bold: bool,
    italic: bool,
    dim: bool,
}

fn runs(cells: &[&Cell]) -> Vec<TextRun> {
    let mut runs: Vec<TextRun> = Vec::new();
    for (column, cell) in (0u16..).zip(cells) {
        if cell.is_wide_continuation() {
            continue;
        }
        let columns = if cell.is_wide() { 2 } else { 1 };
        let text = if cell.has_contents() { cell.contents() } else { " " };
        let look = look(cell);
        match runs.last_mut() {
            // A wide character has a run of its own, so that it is as wide as two.
            Some(last) if last.look == look && columns == 1 && last.columns as usize == last.text.chars().count() => {
                last.columns += columns;
                last.text.push_str(text);
            }
            Some(_) | None => runs.push(TextRun { column, columns, text: text.to_owned(), look }),
        }
    }
    runs
}

fn look(cell: &Cell) -> CellLook {
    let (mut text, mut background) = (colour(cell.fgcolor()), colour(cell.bgcolor()));
    if cell.inverse() {
        (text, background) = (Some(background.unwrap_or(BACKGROUND.into())), Some(text.unwrap_or(TEXT.into())));
    }
    CellLook { text, background, bold: cell.bold(), italic: cell.italic(), dim: cell.dim() }
}

fn colour(colour: Color) -> Option<String> {
    match colour {
        Color::Default => None,
        Color::Idx(index) if index < 16 => Some(PALETTE[usize::from(index)].to_owned()),
        Color::Idx(index) if index < 232 => {
            let step = |part: u8| if part == 0 { 0 } else { 55 + 40 * u32::from(part) };
            let cube = index - 16;
            Some(format!("#{:02x}{:02x}{:02x}", step(cube / 36), step(cube / 6 % 6), step(cube % 6)))
        }
        Color::Idx(index) => {
            let grey = 8 + 10 * u32::from(index - 232);
            Some(format!("#{grey:02x}{grey:02x}{grey:02x}"))
        }
        Color::Rgb(red, green, blue) => Some(format!("#{red:02x}{green:02x}{blue:02x}")),
    }
}

fn draw(svg: &mut String, row: u16, run: &TextRun) {
    let (x, y) = (8.0 + f64::from(run.column) * CELL.0, 8.0 + f64::from(row) * CELL.1);
    let width = f64::from(run.columns) * CELL.0;
    let CellLook { text, background, bold, italic, dim } = &run.look;
    // Writing to a text does not fail.
    if let Some(background) = background {
        let height = CELL.1;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{background}\"/>"
        );
    }
    if run.text.trim().is_empty() {
        return;
    }
    // Viewers drop spaces at the ends, and would stretch what is left.
    let text_of_run = run.text.trim_end();
    let bare = text_of_run.trim_start();
    let x = x + (text_of_run.len() - bare.len()) as f64 * CELL.0;
    let width = width - (run.text.len() - bare.len()) as f64 * CELL.0;
    let escaped = bare.replace('&', "&amp;").replace('<', "&lt;");
    let fill = text.as_deref().unwrap_or(TEXT);
    let mut style = String::new();
    for (is, word) in
        [(*bold, " font-weight=\"bold\""), (*italic, " font-style=\"italic\""), (*dim, " opacity=\"0.65\"")]
    {
        if is {
            style += word;
        }
    }
    let baseline = y + FONT_PIXELS - 0.5;
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{baseline:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{fill}\"{style}>{escaped}</text>"
    );
}
