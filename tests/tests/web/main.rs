//! The room in a real browser: what a person does with it, how it looks, and what a hostile page in the same browser cannot do.
//!
//! Promise P7: a page of another origin, a rebound name, a frame and a guessed link get nothing.

mod hostile;
mod looks;
mod room;

use chat_tests::daemon::Daemon;
use chat_tests::process::browser::Browser;

/// A new link to the page of a daemon.
fn link(daemon: &Daemon) -> String {
    daemon.chat(&["web", "--no-open"]).ok().trim().to_owned()
}

/// A browser that shows the room of a daemon.
fn log_in(daemon: &Daemon) -> Browser {
    let browser = Browser::open(1280, 800);
    browser.go(&link(daemon));
    browser.shows("#summary", "online");
    browser
}
