//! What a person does on the page: logs in, reads, writes, answers a knock, and stays while daemons come and go.

use chat_tests::cluster::TestRoom;
use chat_tests::daemon::StartDaemon;
use chat_tests::eventually::{SOON, eventually_true};
use chat_tests::process::browser::Browser;

use crate::{link, log_in};

/// The key Escape in the WebDriver table.
const ESCAPE: &str = "\u{E00C}";

/// The keys Enter, Tab and ArrowUp.
const ENTER: &str = "\u{E007}";
const TAB: &str = "\u{E004}";
const UP: &str = "\u{E013}";

/// Number of messages on the page with this text.
fn times(browser: &Browser, text: &str) -> u64 {
    let script = format!(
        "return [...document.querySelectorAll('.message .text')].filter((one) => one.innerText === {text:?}).length"
    );
    browser.run(&script).as_u64().expect("a number")
}

#[test]
fn link_opens_the_room_once_and_the_page_shows_reads_and_writes() {
    let room = TestRoom::of(&["alice", "bob"]);
    room["alice"].api().send("said before");
    room.same_history(1);
    let url = link(&room["alice"]);
    let browser = Browser::open(1280, 800);
    browser.go(&url);
    browser.shows("#log", "said before");
    browser.shows("#room-name", &room["alice"].api().status().room.name);
    browser.shows("#summary", "2 of 2 members online · you hold the room");
    assert_eq!(browser.run("return location.hash + document.referrer"), "", "the code is gone");
    assert_eq!(browser.run("return document.cookie"), "", "scripts cannot read the cookie");

    room["bob"].api().send("hello <b>browser</b> & co");
    browser.shows("#log", "hello <b>browser</b> & co");
    browser.types("#text", &format!("typed in the page{ENTER}"));
    browser.shows("#log", "typed in the page");
    browser.shows(".message.mine .mark-held", "✓✓");
    browser.types("#text", &format!("@b{TAB}psst{ENTER}"));
    browser.shows(".message.direct", "psst");
    eventually_true(SOON, "the direct message is at its recipient", || room["bob"].api().history().len() == 4);
    assert_eq!(room["bob"].api().history()[3].to[0].name, "bob");
    assert_eq!(times(&browser, "typed in the page"), 1, "the answer and the stream bring it once");

    browser.types("#text", UP);
    browser.press("r");
    browser.shows("#answered", "Reply to");
    browser.press(&format!("an answer{ENTER}"));
    browser.shows(".message:last-of-type blockquote", "psst");
    assert_eq!(browser.reports(), Vec::<String>::new(), "the browser has nothing to complain of");

    let other = Browser::open(800, 600);
    other.go(&url);
    other.shows("#closed", "used already");
    assert!(!other.text("body").contains("said before"));
}

#[test]
fn page_goes_on_without_a_reload_after_the_daemon_was_restarted() {
    let mut alice = StartDaemon::found("alice").start();
    let bob = StartDaemon::join("bob", &alice.ticket()).start();
    alice.api().send("one");
    let browser = log_in(&alice);
    let url = alice.url();
    browser.shows("#log", "one");
    browser.run("window.same = true");
    alice.kill();
    browser.shows("#link-state", "does not answer");
    browser.types("#text", &format!("written meanwhile{ENTER}"));
    browser.shows("#outbox", "written meanwhile");
    bob.api().send("said meanwhile");
    // The page is at this address: a daemon has its usual port again unless another program took it.
    alice.home().start(&["--api", url.trim_start_matches("http://")]);
    browser.shows("#log", "said meanwhile");
    browser.shows("#log", "written meanwhile");
    browser.sees("document.getElementById('link-state').hidden");
    bob.api().send("said after");
    browser.shows("#log", "said after");
    for text in ["one", "said meanwhile", "written meanwhile", "said after"] {
        assert_eq!(times(&browser, text), 1, "{text}");
    }
    assert_eq!(browser.run("return window.same"), true, "it was not reloaded");
}

#[test]
fn holder_and_paths_are_shown_and_follow_the_role() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    let browser = log_in(&room["bob"]);
    browser.shows("#summary", "alice holds the room");
    browser.sees("document.querySelectorAll('#mesh .path.direct').length === 2");
    browser.sees("document.querySelectorAll('#mesh .path.others').length === 1");
    browser.sees("[...document.querySelectorAll('#mesh .path text')].some((one) => one.textContent.endsWith('ms'))");
    browser.shows("#why-text", "alice holds the room");
    assert!(
        browser.run("return document.getElementById('mesh-text').textContent").to_string().contains("carol: direct")
    );
    room["alice"].kill();
    browser.shows("#log .note.role", "process died");
    browser.sees("!document.getElementById('summary').textContent.includes('alice holds')");
    browser.shows("#holders", "process died");
    browser.sees("document.querySelectorAll('#holders-line .part').length === 2");
    browser.shows("#members li.offline", "alice");
}

#[test]
fn knock_is_answered_where_it_is_shown() {
    let founder = StartDaemon::found("alice").start();
    let browser = log_in(&founder);
    let address = founder.home().address();
    let eve = StartDaemon::found("eve");
    let newcomer = std::thread::spawn(move || eve.args(&["--join", &address]).start());
    browser.shows("#knocks", "eve");
    let words = founder.chat(&["knocks"]).ok();
    let shown = browser.text(".words");
    assert!(!shown.is_empty() && words.contains(&shown), "{words}");
    browser.click(".knock .primary");
    let eve = newcomer.join().expect("it is admitted");
    browser.shows("#members", "eve");
    browser.sees("document.getElementById('knocks').childElementCount === 0");
    eve.api().send("thanks");
    browser.shows("#log", "thanks");
}

#[test]
fn search_finds_old_messages_and_the_history_has_no_end() {
    let founder = StartDaemon::found("alice").start();
    for number in 0..320 {
        founder.api().send(&format!("line {number}"));
    }
    founder.api().send("the last one");
    let browser = log_in(&founder);
    browser.shows("#log", "the last one");
    browser.types("#words", &format!("line 7{ENTER}"));
    browser.shows("#results-text", "1 message with “line 7”");
    browser.press(ENTER);
    browser.shows("#log", "line 8");
    assert!(!browser.text("#log").contains("the last one"));
    browser.click("#newest");
    browser.shows("#log", "the last one");
    browser.types("#words", &format!("line{ENTER}"));
    browser.shows("#results-text", "The last 100 messages");
    browser.types("#words", ESCAPE);
    browser.shows("#log", "the last one");
    eventually_true(SOON, "scrolling back reaches the first message", || {
        browser.run("document.getElementById('scroll').scrollTop = 0");
        browser.text("#log").contains("line 0\n")
    });
    browser.sees("!document.getElementById('beginning').hidden");
}

#[test]
fn revoked_or_signed_out_page_forgets_the_room() {
    let founder = StartDaemon::found("alice").start();
    founder.api().send("for members only");
    let browser = log_in(&founder);
    browser.shows("#log", "for members only");
    let listed = founder.chatd(&["token", "list"]).ok();
    let session = listed.split_whitespace().find(|word| word.starts_with("web-")).expect("it is listed").to_owned();
    founder.chatd(&["token", "revoke", &session]).ok();
    browser.shows("#closed", "session of this page has ended");
    assert!(!browser.run("return document.body.textContent").to_string().contains("for members only"));
    browser.go(&link(&founder));
    browser.shows("#log", "for members only");
    browser.click("#sign-out");
    browser.shows("#closed", "You signed out");
    assert!(!founder.chatd(&["token", "list"]).ok().contains("web-"));
}
