//! A headless Chromium, driven through ChromeDriver by plain WebDriver calls (<https://www.w3.org/TR/webdriver2/>): about ten
//! of them are needed, which the harness's own HTTP client makes.
//!
//! It takes the programs `chromedriver` and `chromium`, of Debian's packages `chromium-driver` and `chromium`. Where they are
//! missing and this process may install packages, it does.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use data_encoding::BASE64;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{DaemonApi, RawCall};
use crate::eventually::{SOON, eventually};
use crate::process::lines;

/// Colours that the page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourScheme {
    /// Light on dark.
    Dark,
    /// Dark on light.
    Light,
}

/// A window of a browser with a profile of its own, which ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    calls: DaemonApi,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// A window of this size, in pixels. Names of `.example` lead to this machine, as a rebound name would.
    ///
    /// # Panics
    /// When there is no browser and none can be installed.
    #[track_caller]
    pub fn open(width: u32, height: u32) -> Self {
        install();
        let profile = tempfile::tempdir().expect("a temporary directory");
        let (driver, port) = start_driver();
        let calls = DaemonApi::tcp(&format!("http://127.0.0.1:{port}"), None);
        let mut browser = Self { driver, calls, session: String::new(), _profile: profile };
        let arguments = [
            "--headless=new".to_owned(),
            // Chromium refuses to run as root with its sandbox; it opens only pages of these tests.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--host-resolver-rules=MAP *.example 127.0.0.1".to_owned(),
            format!("--user-data-dir={}", browser._profile.path().display()),
            format!("--window-size={width},{height}"),
        ];
        let wanted = json!({"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": arguments},
        }});
        let session = browser.call("POST", "/session", Some(json!({"capabilities": wanted})));
        session["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser.resize(width, height);
        browser
    }

    /// Gives the page this size, as a telephone of that width would.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Has the page see a system with these colours.
    #[track_caller]
    pub fn colours(&self, scheme: ColourScheme) {
        let value = match scheme {
            ColourScheme::Dark => "dark",
            ColourScheme::Light => "light",
        };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Opens an address.
    #[track_caller]
    pub fn go(&self, url: &str) {
        self.in_session("POST", "/url", Some(json!({"url": url})));
    }

    /// Runs the body of a function in the page, and gives what it returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.in_session("POST", "/execute/sync", Some(json!({"script": script, "args": []})))
    }

    /// Runs a script that calls its last argument with the result.
    #[track_caller]
    pub fn run_async(&self, script: &str) -> Value {
        self.in_session("POST", "/execute/async", Some(json!({"script": script, "args": []})))
    }

    /// Waits until an expression of the page is true.
    #[track_caller]
    pub fn sees(&self, expression: &str) {
        eventually(SOON, &format!("in the page: {expression}"), || {
            if self.run(&format!("return Boolean({expression})")) == true { Ok(()) } else { Err(self.text("body")) }
        });
    }

    /// The text that a person sees in the first element of a selector; empty if there is none.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(selector));
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the first element of a selector shows a text.
    #[track_caller]
    pub fn shows(&self, selector: &str, text: &str) {
        eventually(SOON, &format!("'{text}' in {selector}"), || {
            let shown = self.text(selector);
            if shown.contains(text) { Ok(()) } else { Err(shown) }
        });
    }

    /// Clicks the first element of a selector, as a person with a pointer does.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.in_session("POST", &format!("/element/{element}/click"), Some(json!({})));
    }

    /// Types into the first element of a selector; keys without a character are those of the WebDriver table.
    #[track_caller]
    pub fn types(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.in_session("POST", &format!("/element/{element}/value"), Some(json!({"text": text})));
    }

    /// Presses keys where the focus is.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})))
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]});
        self.in_session("POST", "/actions", Some(actions));
    }

    /// What the browser has reported about the page since the last call, in lines.
    #[track_caller]
    pub fn reports(&self) -> Vec<String> {
        let entries = self.in_session("POST", "/se/log", Some(json!({"type": "browser"})));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().filter_map(|entry| entry["message"].as_str()).map(str::to_owned).collect()
    }

    /// Writes a picture of the window.
    ///
    /// # Panics
    /// When the file cannot be written.
    #[track_caller]
    pub fn picture(&self, path: &Path) {
        let encoded = self.in_session("GET", "/screenshot", None);
        let bytes = encoded.as_str().and_then(|text| BASE64.decode(text.as_bytes()).ok()).expect("a picture");
        fs::write(path, bytes).expect("the file can be written");
    }

    /// A call of Chromium's own protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.in_session("POST", "/goog/cdp/execute", Some(json!({"cmd": command, "params": parameters})))
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = self.in_session("POST", "/element", Some(wanted));
        let element = found.as_object().and_then(|element| element.values().next());
        element.and_then(Value::as_str).expect("an element").to_owned()
    }

    #[track_caller]
    fn in_session(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let bytes = body.map(|body| body.to_string().into_bytes());
        let reply = self.calls.call(RawCall { method, path, headers: &[], body: bytes.as_deref() });
        let reply = reply.unwrap_or_else(|error| panic!("ChromeDriver does not answer: {error}"));
        let mut answer: Value = serde_json::from_slice(&reply.body).expect("WebDriver speaks JSON");
        assert_eq!(reply.status, 200, "{method} {path}: {}", answer["value"]["message"]);
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // ChromeDriver and the browser are in one group, which ends as a whole, whatever state they are in.
        if let Some(group) = i32::try_from(self.driver.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.driver.wait();
    }
}

/// Starts ChromeDriver, the leader of a process group, at a free port.
fn start_driver() -> (Child, u16) {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut driver = command.spawn().expect("chromedriver runs");
    let said = lines(driver.stdout.take().expect("piped"));
    let line = eventually(SOON, "ChromeDriver says its port", || {
        let line = said.recv_timeout(SOON).map_err(|error| error.to_string())?;
        if line.contains("started successfully on port") { Ok(line) } else { Err(line) }
    });
    let digits = line.trim_end_matches('.').rsplit(' ').next().and_then(|port| port.parse().ok());
    (driver, digits.expect("a port"))
}

/// Makes sure that there is a browser.
#[track_caller]
fn install() {
    static THERE: OnceLock<bool> = OnceLock::new();
    let there = THERE.get_or_init(|| {
        let found = || ["chromedriver", "chromium"].iter().all(|program| runs(program, &["--version"]));
        if !found() && rustix::process::geteuid().is_root() && runs("apt-get", &["--version"]) {
            let packages = ["chromium", "chromium-driver", "fonts-dejavu-core"];
            let install = [&["install", "-y", "-q", "--no-install-recommends"][..], &packages].concat();
            let _ = runs("apt-get", &["update", "-q"]) && runs("apt-get", &install);
        }
        found()
    });
    assert!(there, "the tests of the page take chromium and chromedriver: 'apt-get install chromium chromium-driver'");
}

/// Whether a program runs and succeeds.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
