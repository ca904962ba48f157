//! Other pages in the browser of a person who has the room open: pages of another site, of another port of the same address,
//! and of a name that was rebound to the daemon's address. They read nothing, write nothing and frame nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use chat_tests::api::{DaemonApi, RawCall};
use chat_tests::daemon::{Daemon, StartDaemon};
use chat_tests::eventually::SOON;
use chat_tests::process::browser::Browser;
use serde_json::Value;

use crate::{link, log_in};

/// A text that no other page may see.
const SECRET: &str = "the code of the door is 4711";

/// Tries everything that a page can do against the API at `API`, and reports what it got.
const ATTACK: &str = r#"<!doctype html><title>prizes</title><body><script type="module">
const got = {};
const attempt = async (name, what) => {
  try { got[name] = String(await what()); } catch (error) { got[name] = `failed: ${error.name}`; }
};
const cors = { credentials: 'include', mode: 'cors' };
const json = { 'content-type': 'application/json' };
const message = JSON.stringify({ text: 'planted' });
await attempt('read', async () => (await fetch('API/v1/messages', cors)).text());
await attempt('read_opaque', async () => (await fetch('API/v1/messages', { ...cors, mode: 'no-cors' })).text());
await attempt('read_with_key', async () => (await fetch('API/v1/messages', { ...cors, headers: { 'chat-page-key': '0'.repeat(64) } })).text());
await attempt('stream', async () => new Promise((resolve) => {
  const source = new EventSource('API/v1/events?since=all', { withCredentials: true });
  source.onmessage = (event) => resolve(event.data);
  source.addEventListener('message', (event) => resolve(event.data));
  source.onerror = () => resolve('failed: stream');
}));
await attempt('write_simple', async () => (await fetch('API/v1/messages', { ...cors, mode: 'no-cors', method: 'POST', headers: { 'content-type': 'text/plain' }, body: message })).type);
await attempt('write_json', async () => (await fetch('API/v1/messages', { ...cors, method: 'POST', headers: json, body: message })).text());
await attempt('guess', async () => (await fetch('API/v1/web/sessions', { ...cors, method: 'POST', headers: json, body: JSON.stringify({ code: '0'.repeat(64) }) })).text());
await attempt('guess_simple', async () => (await fetch('API/v1/web/sessions', { ...cors, mode: 'no-cors', method: 'POST', body: JSON.stringify({ code: '0'.repeat(64) }) })).type);
await attempt('file', async () => (await fetch('API/web/app.js', cors)).text());
const loads = (element, source) => new Promise((resolve) => {
  element.onload = () => resolve('loaded');
  element.onerror = () => resolve('failed: load');
  element.src = source;
  document.body.append(element);
});
await attempt('script', () => loads(document.createElement('script'), 'API/v1/messages'));
await attempt('picture', () => loads(new Image(), 'API/web/icon.svg'));
await attempt('form', async () => {
  const sink = document.createElement('iframe');
  sink.name = 'sink';
  const form = document.createElement('form');
  Object.assign(form, { method: 'POST', action: 'API/v1/messages', enctype: 'text/plain', target: 'sink' });
  const field = document.createElement('input');
  Object.assign(field, { name: '{"text": "planted", "x": "', value: '"}' });
  form.append(field);
  document.body.append(sink, form);
  const done = new Promise((resolve) => { sink.onload = resolve; });
  form.submit();
  await done;
  return sink.contentDocument?.body?.innerText ?? 'failed: opaque';
});
await attempt('frame', async () => {
  const frame = document.createElement('iframe');
  frame.id = 'framed';
  await Promise.race([loads(frame, 'API/web/'), new Promise((resolve) => setTimeout(resolve, 3000))]);
  return frame.contentDocument?.body?.innerText ?? 'failed: opaque';
});
await attempt('window', async () => {
  const other = window.open('API/web/');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  return other?.document?.body?.innerText ?? 'failed: opaque';
});
window.got = got;
</script>"#;

/// A server of another origin: its page attacks, and it keeps the heads of all requests that it gets.
struct HostileServer {
    port: u16,
    heads: Receiver<String>,
}

impl HostileServer {
    fn start(daemon: &Daemon) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it listens").port();
        let page = ATTACK.replace("API", &daemon.url());
        let (keep, heads) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                    page.len()
                );
                let _ = stream.write_all(answer.as_bytes());
                if keep.send(head.join("\n")).is_err() {
                    return;
                }
            }
        });
        Self { port, heads }
    }
}

/// A daemon with a secret, and the browser in which its page is open.
fn victim() -> (Daemon, Browser) {
    let daemon = StartDaemon::found("alice").start();
    daemon.api().send(SECRET);
    let browser = log_in(&daemon);
    browser.shows("#log", SECRET);
    (daemon, browser)
}

/// Opens an attacking page beside the room, and checks that it got and did nothing.
fn attacked_from(browser: &Browser, daemon: &Daemon, address: &str) {
    browser.go(address);
    browser.sees("window.got");
    let got = browser.run("return window.got");
    for (attempt, result) in got.as_object().expect("attempts") {
        let result = result.as_str().unwrap_or_default();
        let opaque = result == "opaque" || result.is_empty();
        assert!(opaque || result.starts_with("failed"), "{address}: {attempt}: {result}");
    }
    assert_eq!(got.as_object().map(serde_json::Map::len), Some(14), "{got}");
    let framed = browser.run("return document.getElementById('framed').contentDocument");
    assert_eq!(framed, Value::Null, "the frame is not the attacker's to look into, and shows an error page");
    assert_eq!(daemon.api().texts(), [SECRET], "{address}");
}

#[test]
fn page_of_another_site_or_port_neither_reads_nor_writes() {
    let (daemon, browser) = victim();
    let elsewhere = HostileServer::start(&daemon);
    attacked_from(&browser, &daemon, &format!("http://evil.example:{}/", elsewhere.port));
    attacked_from(&browser, &daemon, &format!("http://127.0.0.1:{}/", elsewhere.port));
    // The room is still open for its own page.
    browser.go(&format!("{}/web/", daemon.url()));
    browser.shows("#log", SECRET);
}

#[test]
fn page_of_another_site_cannot_frame_the_room() {
    let (daemon, browser) = victim();
    let elsewhere = HostileServer::start(&daemon);
    browser.go(&format!("http://evil.example:{}/", elsewhere.port));
    browser.sees("window.got");
    let reports = browser.reports().join("\n");
    assert!(reports.contains("frame-ancestors 'none'"), "{reports}");
}

#[test]
fn cookie_that_another_port_collects_is_worth_nothing() {
    let (daemon, browser) = victim();
    let neighbour = HostileServer::start(&daemon);
    browser.go(&format!("http://127.0.0.1:{}/v1/", neighbour.port));
    let head = neighbour.heads.recv_timeout(SOON).expect("the browser asks");
    let cookie =
        head.lines().find_map(|line| line.strip_prefix("Cookie: ")).expect("browsers share cookies between ports");
    assert!(cookie.starts_with("chatd-"), "{cookie}");
    let tcp = DaemonApi::tcp(&daemon.url(), None);
    let key = "0".repeat(64);
    for headers in [&[("Cookie", cookie)][..], &[("Cookie", cookie), ("chat-page-key", &key)]] {
        let reply = tcp.call(RawCall { method: "GET", path: "/v1/messages", headers, body: None }).expect("an answer");
        assert_eq!(reply.status, 401, "{}", reply.text());
    }
}

#[test]
fn rebound_name_gets_neither_the_page_nor_the_room() {
    let founder = StartDaemon::found("alice").start();
    founder.api().send(SECRET);
    let browser = log_in(&founder);
    browser.shows("#log", SECRET);
    let port = founder.url().rsplit(':').next().expect("a port").to_owned();
    for path in ["/web/", "/v1/messages", "/healthz"] {
        browser.go(&format!("http://rebound.example:{port}{path}"));
        browser.shows("body", "is not this daemon's");
        assert!(!browser.text("body").contains(SECRET));
    }
    // A link that is opened under that name is no use either, and is not used up.
    let link = link(&founder);
    browser.go(&link.replace("127.0.0.1", "rebound.example"));
    browser.shows("body", "is not this daemon's");
    browser.go("about:blank");
    browser.go(&link);
    browser.shows("#log", SECRET);
}
