//! What the shells complete: names, invites and knocks of the room, from the daemon.

use std::ffi::OsString;
use std::path::Path;

use chat_tests::process::TestCommand;
use chat_tests::process::binaries::binaries;

use crate::answers::INVITES;
use crate::fake::Fake;
use crate::process::chat;

/// What the program answers to the script of a shell, for the last of the words.
fn candidates(fake: &Fake, shell: &str, words: &[&str]) -> String {
    let index = (words.len() - 1).to_string();
    let arguments: Vec<&str> = ["--"].iter().chain(words).copied().collect();
    let asked = chat(fake.path(), &arguments).env("CHAT_COMPLETE", shell).env("_CLAP_COMPLETE_INDEX", index);
    asked.env("_CLAP_IFS", "\n").run().ok()
}

#[test]
fn names_invites_and_knocks_are_completed_in_every_shell() {
    let fake = Fake::start();
    for (words, found) in [
        (&["chat", "send", ""][..], "@bob"),
        (&["chat", "send", "@B"], "@bob"),
        (&["chat", "remove", ""], "bob"),
        (&["chat", "role", "b"], "bob"),
        (&["chat", "log", "--from", ""], "bob"),
        (&["chat", "tail", "--from", ""], "bob"),
        (&["chat", "admit", ""], "3"),
        (&["chat", "deny", ""], "3"),
        (&["chat", "revoke", "12"], INVITES[1]),
        (&["chat", "join", ""], "192.0.2.7"),
        (&["chat", "kno"], "knocks"),
    ] {
        for shell in ["bash", "zsh", "fish"] {
            let said = candidates(&fake, shell, words);
            assert!(said.contains(found), "{words:?} in {shell}: {said:?}");
            // It made the invites.
            let itself = said.contains("alice") && words[1] != "revoke";
            assert!(!itself, "this peer itself is no choice: {said:?}");
        }
    }
    assert_eq!(candidates(&fake, "bash", &["chat", "send", "@x"]), "");
    assert!(!candidates(&fake, "fish", &["chat", "admit", ""]).contains('\x07'));
}

#[test]
fn completion_without_a_daemon_is_empty_and_says_nothing() {
    let fake = Fake::stopped();
    let asked = chat(fake.path(), &["--", "chat", "remove", ""]).env("CHAT_COMPLETE", "bash");
    let finished = asked.env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n").run();
    assert!(finished.status.success());
    assert_eq!((finished.stdout.contains("bob"), finished.stderr.as_str()), (false, ""));
}

#[test]
fn bash_completes_names_though_it_parts_words_at_their_mark() {
    let fake = Fake::start();
    let mut paths = vec![binaries().directory.clone()];
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let paths: OsString = std::env::join_paths(paths).expect("plain paths");
    for (words, word) in [("chat send @", ""), ("chat send @ b", "b"), ("chat send @ bob hi @ bo", "bo")] {
        let script = format!(
            r#"eval "$(chat completions bash)"; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9
            _chat_joined chat '{word}' @; printf '%s\n' "${{COMPREPLY[@]}}""#
        );
        let bash = TestCommand::new(Path::new("bash"), ["-c", script.as_str()]);
        let said = bash.env("PATH", &paths).env("HOME", fake.path()).env("CHATD_HOME", fake.path()).run().ok();
        assert_eq!(said, "bob\n", "{words}");
    }
}
