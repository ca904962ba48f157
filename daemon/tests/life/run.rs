//! Runs the real `chatd` in a temporary home, with a deadline, and leaves no process behind.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use chat_proto::api::status::ApiFile;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a command may take: far more than any does.
pub(crate) const COMMAND_MAX: Duration = Duration::from_secs(60);

/// A home of its own, whose daemon ends with it.
pub(crate) struct TestHome {
    directory: TempDir,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl TestHome {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("temporary directory") }
    }

    /// The home, which does not exist before the first start.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// `chatd` in this home, on loopback and free ports alone.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chatd"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .env("USER", "ann")
            .env("CHATD_HOME", self.path())
            .env("CHATD_LISTEN", "127.0.0.1:0")
            .env("CHATD_API", "127.0.0.1:0")
            .env("CHATD_MDNS", "off");
        command
    }

    pub(crate) fn chatd(&self, args: &[&str]) -> Ended {
        run(self.command(args))
    }

    /// Starts a daemon in the background.
    pub(crate) fn start(&self, args: &[&str]) -> serde_json::Value {
        let words: Vec<&str> = ["start", "--json"].iter().chain(args).copied().collect();
        serde_json::from_str(&self.chatd(&words).ok()).expect("--json prints JSON")
    }

    pub(crate) fn api(&self) -> Option<ApiFile> {
        serde_json::from_slice(&fs::read(self.path().join("run/api.json")).ok()?).ok()
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path()).expect("a directory");
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o700)).expect("own directory");
        fs::write(self.path().join(name), content).expect("written");
    }

    /// A call of the API over the Unix socket: status and body.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let socket = self.api().expect("announced").socket;
        let mut stream = UnixStream::connect(socket).expect("somebody listens");
        stream.set_read_timeout(Some(COMMAND_MAX)).expect("a timeout");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, if body.is_empty() { serde_json::Value::Null } else { serde_json::from_str(body).expect("JSON") })
    }

    /// A ticket for this home's room.
    pub(crate) fn ticket(&self) -> String {
        let (status, invited) = self.call("POST", "/v1/invites", "{}");
        assert_eq!(status, 201, "{invited}");
        invited["ticket"].as_str().expect("a ticket").to_owned()
    }

    /// Where other peers reach this home's daemon.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.call("GET", "/v1/status", "").1["reachability"]["port"])
    }

    /// Names of the files in the home.
    pub(crate) fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path()) else { return Vec::new() };
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.map(|entry| name(entry.expect("an entry"))).collect();
        names.sort();
        names
    }

    /// The process that holds the home, if one does.
    pub(crate) fn holder(&self) -> Option<Pid> {
        let lock = fs::File::open(self.path().join("lock")).ok()?;
        if lock.try_lock_shared().is_ok() {
            return None;
        }
        let holder: serde_json::Value = serde_json::from_reader(lock).ok()?;
        Pid::from_raw(i32::try_from(holder["pid"].as_i64()?).ok()?)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.holder().expect("a daemon runs"), signal).expect("it is ours");
    }

    /// Waits until no daemon has the home.
    pub(crate) fn wait_until_free(&self) {
        let Ok(lock) = fs::File::open(self.path().join("lock")) else { return };
        let (done, freed) = mpsc::channel();
        std::thread::spawn(move || done.send(lock.lock_shared()));
        freed.recv_timeout(COMMAND_MAX).expect("the daemon ends").expect("a lock");
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        if let Some(holder) = self.holder() {
            // It may have ended by itself meanwhile.
            let _ = kill_process(holder, Signal::KILL);
            self.wait_until_free();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path().join("chatd.log")).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "--- chatd.log\n{log}---");
        }
    }
}

impl Ended {
    /// Standard output of a command that succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Standard error of a command that failed with this code: one line for people, nothing on standard output.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "what went wrong is not data");
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Ended {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().expect("chatd was built"))
}

/// Waits for a process to end.
pub(crate) fn wait(child: Child) -> Ended {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let Output { status, stdout, stderr } = match ended.recv_timeout(COMMAND_MAX) {
        Ok(output) => output.expect("a child can be waited for"),
        Err(_) => {
            kill_process(pid, Signal::KILL).expect("it was not waited for");
            panic!("chatd did not end in {COMMAND_MAX:?}");
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("chatd writes UTF-8");
    Ended { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// Permissions of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o777
}
