//! `cargo run -p chat-tests --bin pictures`: draws the pictures of the README anew: a room of five that has talked, and whose
//! role has moved twice, in a browser, wide and as narrow as a telephone, dark and light. `--to DIR` puts them elsewhere.

use std::path::PathBuf;

use chat_tests::cluster::TestRoom;
use chat_tests::process::browser::{Browser, ColourScheme};
use clap::Parser;

/// What the members say, in order; a text that begins with names is for these members alone.
const TALK: [(&str, &[&str], &str); 10] = [
    ("alice", &[], "the build is green again, the flaky test was a clock that jumped"),
    ("bob", &[], "nice. which commit? I want it on the release branch today"),
    ("alice", &[], "4f2c91a, it is one line: https://example.org/lab/commit/4f2c91a"),
    ("carol", &[], "deployed to staging, p95 is 31 ms"),
    ("dave", &[], "the second rack is back, cable 14 was loose"),
    ("erin", &["bob"], "may I restart the relay at noon?"),
    ("bob", &["erin"], "yes, the role moves by itself"),
    (
        "alice",
        &[],
        "release notes so far:\n- streams resume by cursor\n- tokens with a scope\n- the room in the browser",
    ),
    ("carol", &[], "@bob can you look at the graph when you are back?"),
    ("dave", &[], "thanks, @bob"),
];

/// What is said while the page is open.
const LATER: [(&str, &str); 2] = [
    ("bob", "> carol: can you look at the graph when you are back?\nlooks good: one spike at 10:14, then nothing"),
    ("carol", "then it ships"),
];

/// Pictures for the README.
#[derive(Debug, Parser)]
struct PictureArgs {
    /// Where the pictures go
    #[arg(long, default_value = ".github")]
    to: PathBuf,
}

fn main() {
    let PictureArgs { to } = PictureArgs::parse();
    let mut room = TestRoom::of(&["alice", "bob", "carol", "dave", "erin"]);
    for (number, (author, recipients, text)) in TALK.into_iter().enumerate() {
        if recipients.is_empty() {
            room[author].api().send(text);
        } else {
            room[author].api().send_to(recipients, text);
        }
        // Each hears what the others said, so that the order is that of the conversation.
        let readers = ["alice", "carol", "dave"].map(|name| &room[name]);
        let public = TALK[..=number].iter().filter(|(_, recipients, _)| recipients.is_empty()).count();
        chat_tests::cluster::same_history(&readers, public, chat_tests::eventually::SOON);
    }
    let browser = Browser::open(1280, 800);
    browser.go(room["bob"].chat(&["web", "--no-open"]).ok().trim());
    browser.shows("#log", "thanks, @bob");
    // The role moves, and comes to an observer whose figures are known.
    room["alice"].kill();
    // "carol holds the room now", or "you hold the room now".
    browser.shows("#log .note.role", " the room now");
    room["alice"].start_again();
    room.all_online();
    for (author, text) in LATER {
        room[author].api().send(text);
        browser.shows("#log", text.rsplit('\n').next().unwrap_or_default());
    }
    browser.sees("document.querySelectorAll('#mesh .path.direct').length === 4");
    browser.sees("document.querySelectorAll('#ranking li').length === 5");
    // Nothing moves any more.
    browser.sees("document.getAnimations().length === 0");
    for (scheme, name) in [(ColourScheme::Dark, "dark"), (ColourScheme::Light, "light")] {
        browser.colours(scheme);
        browser.resize(1280, 800);
        browser.picture(&to.join(format!("web-{name}.png")));
        browser.resize(390, 844);
        for view in ["room", "mesh"] {
            browser.run(&format!("document.querySelector('.views [data-view={view}]').click()"));
            browser.picture(&to.join(format!("web-phone-{view}-{name}.png")));
        }
        browser.run("document.querySelector('.views [data-view=room]').click()");
    }
}
