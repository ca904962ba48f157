//! `cargo bench -p chat-tests --bench screen`: what the screen of `chat` costs, in a terminal emulator and with a real daemon:
//! scrolling through 100,000 messages, memory, keys while 1,000 messages a second arrive, and processor time while nothing happens.
//! A number as argument replaces the 100,000.

#[path = "../tests/screen/terminal.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod terminal;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chat_tests::cluster::TestRoom;
use chat_tests::home::TestHome;
use chat_tests::load::post;
use chat_tests::usage;

use terminal::TestTerminal;

/// Messages in the history.
const MESSAGES: usize = 100_000;

/// Programs that write the history at once; what they say differs, so that each page looks different.
const WRITERS: usize = 16;

/// Pages that are scrolled.
const PAGES: usize = 500;

/// Keys that are pressed while messages arrive.
const KEYS: usize = 200;

/// Messages that arrive a second.
const RATE: usize = 1_000;

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(60);

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    let messages = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(MESSAGES);
    let room = TestRoom::of(&["alice"]);
    let home = room["alice"].home();
    let took = write_history(home, messages);
    writeln!(out, "{messages} messages written in {:.0} s", took.as_secs_f64())?;

    let mut terminal = TestTerminal::open(home, 80, 24);
    terminal.shows("1/1 online");
    let opened = usage::resident_kib(terminal.pid())?;
    let mut pages = scroll(&mut terminal);
    let scrolled = usage::resident_kib(terminal.pid())?;
    tell(&mut out, &format!("scroll a page, {} pages", pages.len()), &mut pages)?;
    writeln!(out, "memory of chat: {:.1} MiB opened, {:.1} MiB scrolled", mib(opened), mib(scrolled))?;
    terminal.press("\x1b");
    terminal.hides("scrolled back");

    let before = usage::of(terminal.pid())?.cpu;
    let (mut keys, rate) = type_under_load(&mut terminal, home);
    let cpu = usage::of(terminal.pid())?.cpu.saturating_sub(before);
    tell(&mut out, &format!("a key on the screen while {rate:.0} messages/s arrive"), &mut keys)?;
    writeln!(
        out,
        "memory of chat: {:.1} MiB, processor time {:.1} s",
        mib(usage::resident_kib(terminal.pid())?),
        cpu.as_secs_f64()
    )?;

    thread::sleep(Duration::from_secs(3));
    let before = usage::of(terminal.pid())?.cpu;
    thread::sleep(IDLE);
    let cpu = usage::of(terminal.pid())?.cpu.saturating_sub(before);
    writeln!(out, "idle for {} s: {} ms of a processor", IDLE.as_secs(), cpu.as_millis())
}

/// Writes messages that all differ, from several programs at once.
fn write_history(home: &TestHome, messages: usize) -> Duration {
    let begun = Instant::now();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                // A command may take a minute.
                for part in 0..10 {
                    let lines: String = (0..messages / WRITERS / 10)
                        .map(|number| format!("message {writer}-{part}-{number} with a few words of text\n"))
                        .collect();
                    home.chat(&[]).input(lines).run().ok();
                }
            });
        }
    });
    begun.elapsed()
}

/// How long each page takes from the key to the screen.
fn scroll(terminal: &mut TestTerminal) -> Vec<Duration> {
    let mut screen = terminal.screen();
    let mut took = Vec::new();
    while took.len() < PAGES && !screen.contains("beginning of the history") {
        let begun = Instant::now();
        terminal.press("\x1b[5~");
        screen = terminal.changes(&screen);
        took.push(begun.elapsed());
    }
    took
}

/// How long each key takes to the screen while messages arrive, and how many a second do.
fn type_under_load(terminal: &mut TestTerminal, home: &TestHome) -> (Vec<Duration>, f64) {
    let (ends, posted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let socket = home.socket();
    let writer = thread::spawn({
        let (ends, posted) = (ends.clone(), posted.clone());
        move || {
            let begun = Instant::now();
            while !ends.load(Ordering::Relaxed) {
                let due = posted.load(Ordering::Relaxed) as f64 / RATE as f64;
                thread::sleep(Duration::from_secs_f64(due).saturating_sub(begun.elapsed()));
                post(&socket, 8, 5, 60);
                posted.fetch_add(40, Ordering::Relaxed);
            }
            posted.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
        }
    });
    thread::sleep(Duration::from_secs(2));
    let mut typed = String::from("> ");
    let mut took = Vec::new();
    for number in 0..KEYS {
        let key = char::from(b'a' + u8::try_from(number % 26).unwrap_or(0));
        if typed.len() > 40 {
            terminal.press("\x15");
            typed.truncate(2);
            terminal.shows("\n> ");
        }
        typed.push(key);
        let begun = Instant::now();
        terminal.press(&key.to_string());
        terminal.shows(&typed);
        took.push(begun.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    ends.store(true, Ordering::Relaxed);
    (took, writer.join().expect("the writer ends"))
}

fn tell(out: &mut impl Write, what: &str, took: &mut [Duration]) -> io::Result<()> {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    writeln!(out, "{what}: median {:.1} ms, p95 {:.1} ms, most {:.1} ms", at(0.5), at(0.95), at(1.0))
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
