//! The shape of the sources: what the core may depend on, how long files and functions get, and that a name has one meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{root, sources};

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 500;

/// Longest function, in lines from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Parts of the names of crates that own sockets, threads, files or clocks: runtimes, networks, databases, HTTP.
const NOT_IN_THE_CORE: [&str; 30] = [
    "tokio",
    "async-",
    "smol",
    "futures-executor",
    "n0-",
    "mio",
    "socket2",
    "polling",
    "rustls",
    "ring",
    "quinn",
    "iroh",
    "hyper",
    "reqwest",
    "ureq",
    "axum",
    "tower",
    "http",
    "h2",
    "tungstenite",
    "rusqlite",
    "sqlite",
    "redb",
    "sled",
    "rocksdb",
    "libp2p",
    "crossbeam",
    "rayon",
    "tempfile",
    "rustix",
];

/// What the core must not write itself: its time, randomness and IO are arguments.
const NOT_WRITTEN_IN_THE_CORE: [&str; 12] = [
    "std::thread",
    "std::fs",
    "std::env",
    "std::process",
    "std::io",
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "rand::rng",
    "rand::random",
];

/// Names of types that still have two meanings: this list only gets shorter.
const TWO_MEANINGS_LEFT: [&str; 1] = ["Disk"];

/// Names and lengths of a formatted file's functions.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe "];
        let mut rest = code;
        while let Some(word) = words.iter().find(|word| rest.starts_with(**word)) {
            rest = &rest[word.len()..];
        }
        let Some(signature) = rest.strip_prefix("fn ") else { continue };
        let name = signature.split(['(', '<']).next().unwrap_or_default();
        // A brace ends a function, a semicolon behind its parameters one without a body.
        let over = |rest: &str| rest == "}" || (rest.starts_with(')') && rest.ends_with(';'));
        let ends = |line: &&str| line.strip_prefix(indent).is_some_and(over);
        let in_one_line = line.ends_with('}') || line.ends_with(';');
        let length = if in_one_line { 1 } else { lines[at..].iter().position(ends).map_or(1, |n| n + 1) };
        found.push((name, length));
    }
    found
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{}: {lines} lines", path.display()));
        }
        for (name, lines) in functions(&text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX) {
            long.push(format!("{}: fn {name} has {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_none_is_called_mod() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} begins with what it is for", path.display());
        assert!(!path.ends_with("mod.rs"), "{}: foo.rs beside foo/, not foo/mod.rs", path.display());
    }
}

/// The types that a file defines outside of functions and blocks.
fn types(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.split([' ', '<', '(', '{', ';', ':']).skip_while(|word| {
            word.is_empty() || word.ends_with(')') || ["pub", "unsafe", "crate", "super", "in"].contains(word)
        });
        if let (Some("struct" | "enum" | "trait" | "type" | "union"), Some(name)) = (words.next(), words.next())
            && !line.starts_with(' ')
        {
            found.insert(name);
        }
    }
    found
}

#[test]
fn type_name_has_one_meaning() {
    let sources = sources();
    let mut defined = BTreeMap::<&str, Vec<&PathBuf>>::new();
    for (path, text) in &sources {
        types(text).into_iter().for_each(|name| defined.entry(name).or_default().push(path));
    }
    assert!(defined.contains_key("Node") && defined.contains_key("SendRequest"), "types are found");
    let several = defined.iter().filter(|(name, files)| files.len() > 1 && !TWO_MEANINGS_LEFT.contains(name));
    let several: Vec<String> = several.map(|(name, files)| format!("{name}: {files:?}")).collect();
    assert!(several.is_empty(), "one name, one meaning:\n{}", several.join("\n"));
}

#[test]
fn types_are_found_with_any_visibility() {
    let text = "pub(crate) struct A<T>(T);\npub enum B {\n    struct C\n}\ntype D = u8;\npub unsafe trait E {\n    type F;\n}\n// struct G\n";
    assert_eq!(types(text), BTreeSet::from(["A", "B", "D", "E"]));
}

#[test]
fn long_functions_are_noticed() {
    let body = "        call(x);\n".repeat(80);
    let text = format!(
        "//! Text.\n\nimpl X {{\n    pub(crate) fn a(&self);\n\n    fn b(\n        x: u8,\n    ) {{\n{body}    }}\n\n    fn c() {{}}\n}}\n"
    );
    assert_eq!(functions(&text), [("a", 1), ("b", 84), ("c", 1)]);
}

/// The crates that a crate is built from on this machine, itself included; what only its tests need does not count.
fn dependencies(name: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--package", name, "--edges", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).expect("names are text");
    list.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn forbidden(dependencies: &BTreeSet<String>) -> Vec<&String> {
    dependencies.iter().filter(|name| NOT_IN_THE_CORE.iter().any(|part| name.starts_with(part))).collect()
}

#[test]
fn the_core_depends_on_no_runtime_socket_database_or_http() {
    let core = dependencies("chat-core");
    assert!(core.contains("ed25519-dalek") && core.contains("chat-proto"), "its dependencies are found: {core:?}");
    assert_eq!(forbidden(&core), Vec::<&String>::new());
    let daemon = dependencies("chatd");
    assert!(forbidden(&daemon).len() > 10, "those of the daemon are noticed: {daemon:?}");
}

#[test]
fn the_core_has_no_clock_thread_file_or_randomness_of_its_own() {
    let core = Path::new("daemon/core/src");
    let mut found = Vec::new();
    for (path, text) in sources() {
        let only_for_tests =
            path.iter().any(|part| ["tests", "tests.rs", "sim", "sim.rs"].iter().any(|of| part == *of));
        if path.starts_with(core) && !only_for_tests {
            let written = NOT_WRITTEN_IN_THE_CORE.iter().filter(|word| text.contains(**word));
            found.extend(written.map(|word| format!("{}: {word}", path.display())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
