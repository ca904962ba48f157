//! How the page looks and whether it can be used without eyes, without a pointer and on a telephone.

use std::path::Path;
use std::process::Command;

use chat_tests::cluster::TestRoom;
use chat_tests::eventually::{SOON, eventually_true};
use chat_tests::process::browser::{Browser, ColourScheme};
use serde_json::{Value, json};

use crate::{link, log_in};

/// The version of axe-core whose rules are applied.
const AXE: &str = "axe-core@4.10.3";

/// Views of the page on a narrow screen.
const VIEWS: [&str; 4] = ["room", "mesh", "members", "why"];

fn room() -> TestRoom {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    room["alice"].api().send("a link https://example.org/with/a/rather/long/path/that/has/no/blank/in/it/to/wrap/at");
    room["bob"].api().send(&"w".repeat(300));
    room["carol"].api().send_to(&["bob"], "only to you");
    room["bob"].api().send("> alice: a quotation\nand an answer, @carol");
    eventually_true(SOON, "all of it is at bob", || room["bob"].api().history().len() == 4);
    room
}

#[test]
fn narrow_page_has_no_horizontal_scroll_in_any_view() {
    let room = room();
    let browser = Browser::open(390, 844);
    browser.go(&link(&room["bob"]));
    browser.shows("#log", "and an answer");
    for width in [320, 390, 600, 860] {
        browser.resize(width, 700);
        for view in VIEWS {
            browser.run(&format!("document.querySelector('.views [data-view={view}]').click()"));
            let wider = browser.run(
                "return [...document.querySelectorAll('html, body, main, .scroll, .side, .panel')] \
                 .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.className || one.tagName)",
            );
            assert_eq!(wider, json!([]), "{view} at {width}");
            let outside = browser.run(
                "return [...document.querySelectorAll('button, input, textarea')] \
                 .filter((one) => one.offsetParent && one.getBoundingClientRect().right > innerWidth + 1).length",
            );
            assert_eq!(outside, 0, "{view} at {width}");
        }
    }
}

#[test]
fn page_has_no_serious_accessibility_fault() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Some(axe) = axe(directory.path()) else { return };
    let room = room();
    let browser = log_in(&room["bob"]);
    browser.shows("#log", "and an answer");
    browser.sees("document.querySelectorAll('#ranking li').length === 3");
    for (width, scheme) in
        [(1280, ColourScheme::Dark), (1280, ColourScheme::Light), (390, ColourScheme::Dark), (390, ColourScheme::Light)]
    {
        browser.resize(width, 800);
        browser.colours(scheme);
        for view in VIEWS {
            browser.run(&format!("document.querySelector('.views [data-view={view}]').click()"));
            let faults = serious_faults(&browser, &axe);
            assert!(faults.is_empty(), "{view} at {width}, {scheme:?}: {faults:#?}");
        }
    }
    browser.click("#help-button");
    assert_eq!(serious_faults(&browser, &axe), Vec::<String>::new(), "the keys");
    browser.run("document.getElementById('help').close()");
    browser.click("#sign-out");
    browser.shows("#closed", "signed out");
    assert_eq!(serious_faults(&browser, &axe), Vec::<String>::new(), "without a session");
}

/// What axe finds that is serious or critical, in lines.
fn serious_faults(browser: &Browser, axe: &str) -> Vec<String> {
    let script = format!(
        "const done = arguments[arguments.length - 1]; {axe}; \
         axe.run(document, {{resultTypes: ['violations']}}).then((found) => done(found.violations), (error) => done(String(error)));"
    );
    let found = browser.run_async(&script);
    let faults = found.as_array().unwrap_or_else(|| panic!("axe failed: {found}"));
    let serious = faults.iter().filter(|fault| fault["impact"] == "serious" || fault["impact"] == "critical");
    let line = |fault: &Value| {
        let nodes = fault["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        let nodes: Vec<String> =
            nodes.iter().map(|node| format!("{} ({})", node["html"], node["failureSummary"])).collect();
        format!("{}: {}", fault["id"], nodes.join("; "))
    };
    serious.map(line).collect()
}

/// The text of axe-core from the npm registry; nothing, with a word, where it cannot be had.
fn axe(directory: &Path) -> Option<String> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", "--prefix"])
        .arg(directory)
        .arg(AXE);
    match npm.output() {
        Ok(done) if done.status.success() => {}
        other => {
            assert!(std::env::var_os("CI").is_none(), "npm gives no {AXE}: {other:?}");
            eprintln!("SKIPPED: accessibility is not checked, npm gives no {AXE}: {other:?}");
            return None;
        }
    }
    Some(std::fs::read_to_string(directory.join("node_modules/axe-core/axe.min.js")).expect("axe-core has this file"))
}

#[test]
fn page_can_be_used_by_keyboard_and_honours_reduced_motion() {
    let room = room();
    let browser = log_in(&room["bob"]);
    browser.shows("#log", "and an answer");
    browser.devtools(
        "Emulation.setEmulatedMedia",
        json!({"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}),
    );
    browser.sees("document.getElementById('mesh-holder').classList.contains('placed')");
    assert_eq!(browser.run("return getComputedStyle(document.getElementById('mesh-holder')).transitionDuration"), "0s");
    room["alice"].api().send("no dot travels");
    browser.shows("#log", "no dot travels");
    assert_eq!(browser.run("return document.querySelectorAll('.pulse').length"), 0);
    browser.run("document.activeElement.blur()");
    browser.press("/");
    assert_eq!(browser.run("return document.activeElement.id"), "words");
    browser.press("\u{E00C}");
    assert_eq!(browser.run("return document.activeElement.id"), "text");
    browser.press("\u{E013}");
    browser.sees("document.activeElement.matches('.message:last-of-type')");
    browser.press("\u{E013}");
    browser.sees("document.activeElement.innerText.includes('and an answer')");
    let unnamed = browser.run(
        "return [...document.querySelectorAll('button, input, textarea')] \
         .filter((one) => one.offsetParent && !(one.innerText || one.ariaLabel || one.labels?.[0]?.innerText || one.labels?.[0]?.textContent)).length",
    );
    assert_eq!(unnamed, 0, "every control has a name");
}
