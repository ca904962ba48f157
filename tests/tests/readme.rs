//! The README's quickstart works as printed: its commands run in three shells, in a network of their own.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use chat_tests::eventually::{SOON, eventually};
use chat_tests::home::TestHome;
use chat_tests::process::binaries::binaries;
use chat_tests::process::{TestCommand, lines};

/// What a shell prints when a command has ended, followed by its exit code.
const ENDED: &str = "-- ended with ";

/// A block of the quickstart.
#[derive(Debug)]
enum Block {
    /// Commands for this terminal.
    Commands(u32, Vec<String>),
    /// What the last of them prints; of the times only the form counts.
    Output(Vec<String>),
}

/// The blocks of the section, in order.
fn quickstart() -> Vec<Block> {
    let readme = include_str!("../../README.md");
    let section = readme.split("\n## ").find_map(|section| section.strip_prefix("Quickstart\n"));
    let mut blocks = Vec::new();
    let mut terminal = 0;
    let mut inside: Option<(&str, Vec<String>)> = None;
    for line in section.expect("the README has a quickstart").lines() {
        match (&mut inside, line.strip_prefix("```")) {
            (None, Some(kind)) => inside = Some((kind, Vec::new())),
            (Some(_), Some(_)) => match inside.take() {
                Some(("sh", commands)) => blocks.push(Block::Commands(terminal, commands)),
                Some(("text", output)) => blocks.push(Block::Output(output)),
                other => panic!("a block of another kind: {other:?}"),
            },
            (Some((_, block)), None) => block.push(line.to_owned()),
            (None, None) => {
                if let Some(number) = line.strip_prefix("**Terminal ") {
                    terminal = number[..1].parse().expect("a number");
                }
            }
        }
    }
    blocks
}

/// A line without its date and time.
fn timeless(line: &str) -> String {
    let digits = |word: &str| word.chars().all(|c| c.is_ascii_digit() || c == ':' || c == '-');
    line.split(' ').skip_while(|word| digits(word)).collect::<Vec<_>>().join(" ")
}

/// A shell that takes typed commands.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    output: Receiver<String>,
    /// Whether a command goes on, such as a tail.
    busy: bool,
}

impl Shell {
    fn open(network: u32, home: &Path) -> Self {
        let args = ["--target", &network.to_string(), "--net", "bash"].map(str::to_owned);
        let path = std::env::var("PATH").expect("a path");
        let command = TestCommand::new(Path::new("nsenter"), args)
            .env("HOME", home)
            .env("PATH", format!("{}:{path}", binaries().directory.display()));
        let mut command = command.into_inner();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash and util-linux");
        let stdin = child.stdin.take().expect("piped");
        let output = lines(child.stdout.take().expect("piped"));
        Self { child, stdin, output, busy: false }
    }

    /// Types a command and waits until it has ended; gives what it printed. A tail goes on.
    fn run(&mut self, command: &str) -> Vec<String> {
        assert!(!self.busy, "the README types '{command}' where a command still runs");
        self.busy = command == "chat tail";
        // Its own standard input would be the commands that follow.
        let line = match self.busy {
            true => format!("{command} < /dev/null"),
            false => format!("{{ {command}; }} < /dev/null 2>&1; code=$?; echo; echo \"{ENDED}$code\""),
        };
        writeln!(self.stdin, "{line}").expect("the shell runs");
        if self.busy {
            return Vec::new();
        }
        let end = Instant::now() + Duration::from_secs(60);
        let mut printed = Vec::new();
        loop {
            let Ok(line) = self.output.recv_timeout(end.saturating_duration_since(Instant::now())) else {
                panic!("'{command}' does not end; it printed {printed:#?}")
            };
            if let Some(code) = line.strip_prefix(ENDED) {
                assert_eq!(code, "0", "'{command}' printed {printed:#?}");
                return printed;
            }
            printed.push(line);
        }
    }

    /// Waits until the command that goes on prints this, but for the time.
    fn shows(&self, wanted: &str) {
        let end = Instant::now() + SOON;
        let mut printed = Vec::new();
        while !printed.iter().any(|line: &String| timeless(line) == timeless(wanted)) {
            match self.output.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => printed.push(line),
                Err(_) => panic!("'{wanted}' is not shown; it shows {printed:#?}"),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn quickstart_works_as_printed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // They end the daemons that the quickstart leaves.
    let homes = ["alice", "bob", "carol"].map(|name| TestHome::below(directory.path(), &format!("chatd-{name}")));
    let apart = ["--net", "bash", "-c", "ip link set lo up && echo ready && exec sleep 600"];
    let mut network = TestCommand::new(Path::new("unshare"), apart).spawn();
    network.line(SOON, |line| line == "ready");
    let mut shells: BTreeMap<u32, Shell> =
        (1..=3).map(|number| (number, Shell::open(network.pid(), directory.path()))).collect();
    let mut ticket = String::new();
    let mut last = (0, String::new());
    for block in quickstart() {
        match block {
            Block::Commands(terminal, commands) => {
                for command in commands {
                    let shell = shells.get_mut(&terminal).expect("one of three terminals");
                    let printed = shell.run(&command.replace("TICKET", &ticket));
                    if let Some(line) = printed.iter().find(|line| line.starts_with("chat1")) {
                        ticket.clone_from(line);
                    }
                    last = (terminal, command);
                }
            }
            Block::Output(expected) => {
                let (terminal, command) = &last;
                let shell = shells.get_mut(terminal).expect("one of three terminals");
                if shell.busy {
                    expected.iter().for_each(|line| shell.shows(line));
                } else {
                    // A person takes longer to read than messages to arrive.
                    eventually(SOON, &format!("'{command}' prints what the README says"), || {
                        let printed = shell.run(command);
                        let found = |line: &&String| !printed.iter().any(|other| timeless(other) == timeless(line));
                        expected.iter().find(found).map_or(Ok(()), |line| Err(format!("no '{line}' in {printed:#?}")))
                    });
                }
            }
        }
    }
    shells[&3].shows("14:05 alice: good evening");
    shells[&3].shows("14:05 bob: where is alice");
    drop(shells);
    for home in &homes {
        home.chatd(&["stop"]).run().ok();
    }
}
