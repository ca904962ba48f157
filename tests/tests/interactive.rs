//! `chat` without a command: the interactive room, in a real terminal.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chat_tests::cluster::TestRoom;
use chat_tests::daemon::Daemon;
use chat_tests::eventually::{SOON, eventually, eventually_true};
use chat_tests::process::{Finished, Handle, TestCommand};

/// A terminal in which `chat` runs; gone with its server when dropped.
struct TmuxTerminal {
    socket: PathBuf,
}

impl TmuxTerminal {
    /// Opens one, 100 by 30 characters.
    #[track_caller]
    fn open(daemon: &Daemon) -> Self {
        // A server of its own: one that is ending still has its socket.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tmux-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let terminal = Self { socket: daemon.home().path().with_file_name(name) };
        let script = format!(
            "tmux -S {} -f /dev/null new-session -d -x 100 -y 30 'PS1=\"shell> \" exec bash --norc --noprofile'",
            terminal.socket.display()
        );
        daemon.home().shell(&script).env("TERM", "screen").run().ok();
        terminal.shows("shell>");
        terminal.type_line("chat --plain");
        terminal
    }

    fn tmux(&self, args: &[&str]) -> Finished {
        let socket = self.socket.to_string_lossy().into_owned();
        let mut words = vec!["-S", &socket];
        words.extend(args);
        TestCommand::new(std::path::Path::new("tmux"), words).env("TERM", "screen").run()
    }

    fn type_line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]).ok();
        self.tmux(&["send-keys", "Enter"]).ok();
    }

    fn press(&self, keys: &[&str]) {
        let mut words = vec!["send-keys"];
        words.extend(keys);
        self.tmux(&words).ok();
    }

    /// The text on the screen.
    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).ok()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        eventually(SOON, &format!("the terminal shows '{text}'"), || {
            let screen = self.screen();
            if screen.contains(text) { Ok(()) } else { Err(screen) }
        });
    }

    /// The last line that is not empty.
    fn last_line(&self) -> String {
        self.screen().lines().map(str::trim_end).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
    }
}

impl Drop for TmuxTerminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the terminal\n{}\n---", self.screen());
        }
        // The shell and `chat` still write into the home when their terminal is gone.
        let pane = self.tmux(&["display-message", "-p", "#{pane_pid}"]).ok();
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", pane.trim())).unwrap_or_default();
        let ids = children.split_whitespace().chain([pane.trim()]).filter_map(|id| id.parse().ok());
        let ending: Vec<Handle> = ids.filter_map(|id| Handle::open(id).ok()).collect();
        self.tmux(&["kill-server"]);
        assert!(
            ending.iter().all(|process| process.wait(SOON)) || std::thread::panicking(),
            "chat outlives its terminal"
        );
    }
}

#[test]
fn typed_line_is_sent_and_messages_appear_above_it() {
    let room = TestRoom::of(&["alice", "bob"]);
    let (alice, bob) = (&room["alice"], &room["bob"]);
    alice.api().send("said before");
    room.same_history(1);
    let terminal = TmuxTerminal::open(bob);
    terminal.shows("alice: said before");
    terminal.shows("bob>");
    terminal.type_line("hello from the terminal");
    eventually_true(SOON, "alice reads it", || alice.api().texts().contains(&"hello from the terminal".to_owned()));

    // A half-typed line stays whole while messages arrive.
    terminal.tmux(&["send-keys", "-l", "half a li"]).ok();
    terminal.shows("bob> half a li");
    for number in 0..5 {
        alice.api().send(&format!("interruption {number}"));
    }
    terminal.shows("alice: interruption 4");
    eventually(Duration::from_secs(10), "the line is whole", || match terminal.last_line() {
        line if line == "bob> half a li" => Ok(()),
        line => Err(line),
    });
    terminal.type_line("ne");
    eventually_true(SOON, "alice reads it whole", || alice.api().texts().contains(&"half a line".to_owned()));

    terminal.tmux(&["send-keys", "-l", "@al"]).ok();
    terminal.press(&["Tab"]);
    terminal.shows("bob> @alice");
    terminal.type_line("for you alone");
    eventually_true(SOON, "alice reads it alone", || {
        alice.api().history().iter().any(|message| message.text == "for you alone" && message.to.len() == 1)
    });
    alice.api().send_to(&["bob"], "and for you");
    terminal.shows("alice → you: and for you");

    terminal.type_line("exit");
    eventually(SOON, "the shell is back", || match terminal.last_line() {
        line if line.starts_with("shell>") => Ok(()),
        line => Err(line),
    });
    // The terminal is as it was: what is typed is echoed.
    terminal.type_line("echo re''stored");
    terminal.shows("restored");
}

#[test]
fn interactive_room_ends_on_exit_quit_and_ctrl_d() {
    let room = TestRoom::of(&["alice"]);
    for (text, keys) in [(Some("quit"), &[][..]), (None, &["C-d"]), (None, &["C-c", "C-c"])] {
        let terminal = TmuxTerminal::open(&room["alice"]);
        terminal.shows("alice>");
        if let Some(text) = text {
            terminal.type_line(text);
        }
        for (number, key) in keys.iter().enumerate() {
            if number > 0 {
                terminal.shows("press Ctrl-C again");
            }
            terminal.press(&[key]);
        }
        eventually(SOON, "the shell is back", || match terminal.last_line() {
            line if line.starts_with("shell>") => Ok(()),
            line => Err(line),
        });
    }
}

#[test]
fn interactive_room_waits_for_a_restarting_daemon() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    let terminal = TmuxTerminal::open(&room["bob"]);
    terminal.shows("bob>");
    room["bob"].stop();
    room["alice"].api().send("missed");
    terminal.shows("waiting for it to come back");
    room["bob"].start_again();
    terminal.shows("alice: missed");
    terminal.type_line("and on");
    room.same_history(2);
    let screen = terminal.screen();
    assert_eq!(screen.matches("alice: missed").count(), 1, "{screen}");
}

#[test]
fn interactive_room_without_a_daemon_says_how_to_start_one() {
    let home = chat_tests::home::TestHome::new();
    let said = home.chat(&[]).run().refuses(3);
    assert!(said.contains("chatd start"), "{said}");
}
