//! `cargo demo`: three real daemons start, meet, talk, separate and catch up; every step is checked.

use std::collections::BTreeSet;
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chat_proto::api::messages::Message;
use chat_proto::api::peers::PeerView;
use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::id::MessageId;
use chat_tests::api::unless_interrupted;
use chat_tests::eventually::{SOON, eventually, eventually_true};
use chat_tests::home::TestHome;
use chat_tests::process::binaries::binaries;
use chat_tests::process::{Finished, Running, Signal, TestCommand};
use chat_tests::transcript::DemoTranscript;
use tempfile::TempDir;

/// How long the whole story may take. It takes some seconds; a machine that builds something else meanwhile is slower.
const STORY_MAX: Duration = Duration::from_secs(180);

/// Pause between two messages of one peer that talks without a break.
const CHATTER_EVERY: Duration = Duration::from_millis(30);

/// Who takes part.
const NAMES: [&str; 3] = ["alice", "bob", "carol"];

/// The stage: a home for each, below one temporary directory.
struct DemoStage {
    transcript: DemoTranscript,
    homes: Vec<(&'static str, TestHome)>,
    directory: TempDir,
    /// Held while a command runs; true once nothing more may be started.
    over: Mutex<bool>,
}

fn main() -> ExitCode {
    binaries();
    let directory = tempfile::Builder::new().prefix("chat-demo-").tempdir().expect("a temporary directory");
    let homes = NAMES.map(|name| (name, TestHome::below(directory.path(), name))).into();
    let stage = Arc::new(DemoStage { transcript: DemoTranscript::new(), homes, directory, over: Mutex::new(false) });
    let begun = Instant::now();
    let result = perform(&stage);
    let took = begun.elapsed().as_secs_f64();
    let left = stage.clear();
    let transcript = &stage.transcript;
    let why = match (result, left) {
        (Ok(()), None) => {
            let checks = transcript.checks();
            transcript.note(&format!("\nDone: {checks} checks held in {took:.1} s; no process and no file is left."));
            return ExitCode::SUCCESS;
        }
        (Ok(()), Some(left)) => left,
        (Err(why), _) => why,
    };
    transcript.fails(&why);
    ExitCode::FAILURE
}

/// Tells the story on a thread of its own, so that a check that fails, an interrupt and a deadline all end here.
fn perform(stage: &Arc<DemoStage>) -> Result<(), String> {
    let told = Arc::new(Mutex::new("it panicked".to_owned()));
    let teller = told.clone();
    panic::set_hook(Box::new(move |info| {
        let why = info.payload_as_str().unwrap_or("it panicked").to_owned();
        *teller.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }));
    let (done, end) = tokio::sync::oneshot::channel();
    let actors = stage.clone();
    let story = thread::spawn(move || {
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| actors.tell()));
        // After an interrupt no receiver is left.
        let _ = done.send(result.is_ok());
    });
    match unless_interrupted(STORY_MAX, end) {
        Some(Ok(true)) => {
            // It has said that it is done.
            let _ = story.join();
            Ok(())
        }
        Some(Ok(false) | Err(_)) => Err(told.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        None => {
            // Waits for the command that runs, which an interrupt ends as well.
            *stage.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
            Err("interrupted, or too slow".into())
        }
    }
}

impl DemoStage {
    fn tell(&self) {
        self.introduce();
        self.meet();
        self.talk();
        self.whisper();
        self.part();
        self.come_back();
        self.lose_the_holder();
        self.compare();
        self.end();
    }

    fn introduce(&self) {
        let say = &self.transcript;
        say.note("Three peers on this machine, each with a home, an address and a terminal of its own:");
        for (name, home) in &self.homes {
            say.note(&format!(
                "   {name:<6} export CHATD_HOME={} CHATD_LISTEN={} CHATD_API=127.0.0.1:0 CHATD_MDNS=off",
                home.path().display(),
                home.address()
            ));
        }
    }

    fn meet(&self) {
        let say = &self.transcript;
        say.step("Alice opens a room");
        self.chatd("alice", &["start", "--name", "alice", "--room", "lab", "--open"]);

        say.step("Bob comes in with a ticket");
        let ticket = self.chat("alice", &["invite"]);
        self.chatd("bob", &["start", "--name", "bob", "--join", ticket.trim()]);

        say.step("Carol knows an address, and the room is open");
        let address = self.home("alice").address();
        self.chatd("carol", &["start", "--name", "carol", "--join", &address]);

        say.step("All peers see each other");
        for name in NAMES {
            self.sees(name, &NAMES);
        }
        self.chat("carol", &["peers"]);
        say.holds("all three see all three online");
    }

    fn talk(&self) {
        let say = &self.transcript;
        say.step("Messages to the room, and a live view of them");
        let mut tail = self.start("carol", &["tail"]);
        self.chat("alice", &["send", "good morning"]);
        let sent = self.home("bob").shell("uname -sm | chat send");
        self.show("bob", "uname -sm | chat send", sent).ok();
        for wanted in ["alice: good morning", "bob: "] {
            let line = tail.line(SOON, |line| line.contains(wanted));
            say.command("carol", "… the tail shows:");
            say.output(&line);
        }
        say.holds("carol's tail showed both");
    }

    fn whisper(&self) {
        let say = &self.transcript;
        say.step("A direct message to Bob");
        let secret = "the password of the lab is heliotrope";
        self.chat("alice", &["send", "--wait", "delivered", "@bob", secret]);
        let shown = self.chat("bob", &["tail", "-n", "1", "--no-follow"]);
        assert!(shown.contains(secret), "bob does not read it: {shown}");
        let shown = self.chat("carol", &["log"]);
        assert!(!shown.contains("heliotrope"), "carol reads it: {shown}");
        say.holds("bob reads it, carol does not");
        assert_eq!(self.home("carol").files_with("heliotrope"), [""; 0], "carol's files hold it");
        say.holds("no file of carol's daemon holds it in plain text");
    }

    fn part(&self) {
        let say = &self.transcript;
        say.step("Bob's daemon stops, the room goes on");
        self.chatd("bob", &["stop"]);
        self.sees("alice", &["alice", "carol"]);
        self.chat("alice", &["send", "bob has left us"]);
        self.chat("carol", &["send", "we tell him later"]);
        self.chat("alice", &["send", "--copies", "1", "@bob", "for your eyes, when you are back"]);
        self.chat("alice", &["peers"]);
        say.holds("alice sees that bob is away");

        say.step("Alice, who founded the room and wrote to Bob, is killed without warning");
        let alice = self.home("alice").holder().expect("alice runs");
        say.command("alice", &format!("kill -9 {}", alice.pid()));
        alice.signal(Signal::KILL);
        assert!(alice.wait(SOON), "alice does not end");
        self.sees("carol", &["carol"]);
        say.holds("carol is alone, and holds what was said");
    }

    fn come_back(&self) {
        let say = &self.transcript;
        say.step("Bob comes back: his daemon finds the room by itself");
        self.chatd("bob", &["start"]);
        self.reads("bob", "for your eyes, when you are back");
        let shown = self.chat("bob", &["log"]);
        for text in ["good morning", "bob has left us", "we tell him later", "for your eyes"] {
            assert!(shown.contains(text), "bob misses '{text}': {shown}");
        }
        say.holds("bob got what he missed from carol: alice is still away");
        assert_eq!(self.home("carol").files_with("for your eyes"), [""; 0], "carol's files hold it");
        say.holds("the direct message came through carol, who cannot read it");

        say.step("Alice comes back");
        self.chatd("alice", &["start"]);
        self.chat("bob", &["send", "there you are"]);
        for name in NAMES {
            self.sees(name, &NAMES);
            self.reads(name, "there you are");
        }
        say.holds("all three are together again");
    }

    fn lose_the_holder(&self) {
        let say = &self.transcript;
        let holds = |who: &str| {
            let view: Vec<RendezvousView> = self.home(who).chat(&["why", "--json"]).run().json();
            view.first().and_then(|view| view.holder.as_ref()).map(|holder| holder.name.clone())
        };
        say.step("One of the three is the room's rendezvous");
        self.chat("bob", &["why"]);
        let holder = eventually(SOON, "all know the same holder", || match NAMES.map(holds) {
            [Some(one), Some(two), Some(three)] if one == two && two == three => Ok(one),
            told => Err(format!("{told:?}")),
        });
        say.step(&format!("While all three talk, {holder}'s daemon is killed without warning"));
        let others = NAMES.into_iter().filter(|name| *name != holder).collect::<Vec<_>>();
        let said = Mutex::new(Vec::new());
        let quiet = AtomicBool::new(false);
        thread::scope(|scope| {
            let hush = Hush(&quiet);
            for name in NAMES {
                let (said, quiet) = (&said, &quiet);
                scope.spawn(move || self.chatter(name, said, quiet));
            }
            let count = || said.lock().unwrap_or_else(PoisonError::into_inner).len();
            eventually_true(SOON, "they talk", || count() >= 9);
            let daemon = self.home(&holder).holder().expect("it runs");
            say.command(&holder, &format!("kill -9 {}", daemon.pid()));
            daemon.signal(Signal::KILL);
            let next = eventually(SOON, "another one holds the role", || {
                let told: Vec<Option<String>> = others.iter().map(|name| holds(name)).collect();
                match told.as_slice() {
                    [Some(one), Some(two)] if one == two && *one != holder => Ok(one.clone()),
                    _ => Err(format!("{told:?}")),
                }
            });
            let before = count();
            eventually_true(SOON, "they still talk", || count() >= before + 9);
            drop(hush);
            say.holds(&format!("{next} is the rendezvous now, and the conversation went on"));
        });
        self.chat(others[0], &["why"]);
        self.chatd(&holder, &["start"]);
        let said = said.into_inner().unwrap_or_else(PoisonError::into_inner);
        for name in NAMES {
            eventually(SOON, &format!("{name} holds every word"), || {
                let log = self.home(name).chat(&["log", "--all"]).run().ok();
                said.iter().find(|text| !log.contains(text.as_str())).map_or(Ok(()), |text| Err(format!("no '{text}'")))
            });
        }
        say.holds(&format!("none of the {} messages that were acknowledged is missing anywhere", said.len()));
    }

    /// Talks without a break until it is enough, and notes what was acknowledged.
    fn chatter(&self, who: &str, said: &Mutex<Vec<String>>, quiet: &AtomicBool) {
        for number in 1.. {
            let over = self.over.try_lock().is_ok_and(|over| *over);
            if over || quiet.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("{who} says {number}.");
            if self.home(who).chat(&["send", &text]).run().status.success() {
                said.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
            thread::sleep(CHATTER_EVERY);
        }
    }

    fn compare(&self) {
        let say = &self.transcript;
        say.step("The same history everywhere");
        self.chat(NAMES[0], &["log", "-n", "5"]);
        let mut histories = Vec::new();
        for name in NAMES {
            let messages: Vec<Message> = self.home(name).chat(&["log", "--all", "--json"]).run().json();
            let open: Vec<Message> = messages.into_iter().filter(|message| message.to.is_empty()).collect();
            histories.push(open);
        }
        let ids: BTreeSet<MessageId> = histories[0].iter().map(|message| message.id).collect();
        assert!(ids.len() == histories[0].len() && ids.len() >= 23, "five messages and the chatter went to the room");
        assert!(histories.iter().all(|open| *open == histories[0]), "the histories differ");
        say.holds("all three have the same room messages, in the same order, each once");
    }

    fn end(&self) {
        self.transcript.step("Good night");
        for name in NAMES {
            self.chatd(name, &["stop"]);
        }
    }

    fn home(&self, name: &str) -> &TestHome {
        &self.homes.iter().find(|(known, _)| *known == name).expect("one of the three").1
    }

    /// Runs `chat` as one of the peers; returns what it printed.
    fn chat(&self, who: &str, args: &[&str]) -> String {
        self.show(who, &typed("chat", args), self.home(who).chat(args)).ok()
    }

    /// Runs `chatd` as one of the peers.
    fn chatd(&self, who: &str, args: &[&str]) -> String {
        self.show(who, &typed("chatd", args), self.home(who).chatd(args)).ok()
    }

    fn show(&self, who: &str, line: &str, command: TestCommand) -> Finished {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!*over, "the story is over");
        self.transcript.command(who, line);
        let finished = command.run();
        self.transcript.output(&finished.stdout);
        self.transcript.talk(&finished.stderr);
        finished
    }

    /// Starts `chat` as one of the peers and lets it go on.
    fn start(&self, who: &str, args: &[&str]) -> Running {
        self.transcript.command(who, &format!("{} &", typed("chat", args)));
        self.home(who).chat(args).spawn()
    }

    /// Waits until a peer sees exactly these online.
    fn sees(&self, who: &str, online: &[&str]) {
        eventually(SOON, &format!("{who} sees {online:?} online"), || {
            let peers: Vec<PeerView> = self.home(who).chat(&["peers", "--json"]).run().json();
            let mut seen: Vec<&str> =
                peers.iter().filter(|view| view.online).map(|view| view.peer.name.as_str()).collect();
            seen.sort_unstable();
            if seen == online { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }

    /// Waits until a peer can read a text.
    fn reads(&self, who: &str, text: &str) {
        eventually(SOON, &format!("{who} reads '{text}'"), || {
            let log = self.home(who).chat(&["log"]).run().ok();
            if log.contains(text) { Ok(()) } else { Err(log) }
        });
    }

    /// Ends what still runs and removes every file; says what would not go.
    fn clear(&self) -> Option<String> {
        let running = self.homes.iter().filter(|(_, home)| home.holder().is_some());
        let left: Vec<&str> = running.map(|(name, _)| *name).collect();
        self.homes.iter().for_each(|(_, home)| home.end());
        let path = self.directory.path();
        let removed = std::fs::remove_dir_all(path);
        match (removed, left.as_slice()) {
            (Err(error), _) => Some(format!("cannot remove {}: {error}", path.display())),
            (Ok(()), []) => None,
            (Ok(()), left) => Some(format!("the daemons of {left:?} had to be killed")),
        }
    }
}

/// Ends the chatter, also when a check fails.
struct Hush<'a>(&'a AtomicBool);

impl Drop for Hush<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A command as a person types it.
fn typed(program: &str, args: &[&str]) -> String {
    let quoted = |arg: &&str| match arg.chars().all(|c| c.is_alphanumeric() || "@-_.:,=".contains(c)) {
        true => (*arg).to_owned(),
        false => format!("'{arg}'"),
    };
    let words: Vec<String> = args.iter().map(quoted).collect();
    format!("{program} {}", words.join(" "))
}
