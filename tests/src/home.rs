//! A daemon's home in a temporary directory: commands in it, its files, its daemon.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chat_proto::PEER_PORT;
use chat_proto::api::status::ApiFile;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::api::DaemonApi;
use crate::eventually::SOON;
use crate::netns::Space;
use crate::process::binaries::binaries;
use crate::process::disk_shim::DiskShim;
use crate::process::{Handle, TestCommand};

/// Lines of the daemon's log that are printed when a test fails.
const LOG_LINES: usize = 40;

/// Port for peers of daemons on loopback addresses: not the usual one, so that a daemon of this machine that listens there on
/// every address is not in the way.
const LOOPBACK_PEER_PORT: u16 = PEER_PORT - 100;

/// A home. What still runs in it is killed when this is dropped, and its files are removed.
#[derive(Debug)]
pub struct TestHome {
    path: PathBuf,
    ip: Ipv4Addr,
    space: Option<Arc<Space>>,
    mounted: bool,
    /// Whether its daemon uses multicast.
    multicast: bool,
    /// Whether its daemon's wall clock is that of [`TestHome::set_clock`].
    own_clock: bool,
    disk: Option<DiskShim>,
    _directory: Option<TempDir>,
}

impl TestHome {
    /// A home that is empty.
    ///
    /// # Panics
    /// When the temporary directory cannot be made.
    pub fn new() -> Self {
        Self::named("home")
    }

    /// A home with a path too long for a socket below it.
    ///
    /// # Panics
    /// When the temporary directory cannot be made.
    pub fn deep() -> Self {
        Self::named(&"deep".repeat(40))
    }

    fn named(name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("chat-test-").tempdir().expect("a temporary directory");
        let path = directory.path().join(name);
        Self::at(path, Some(directory))
    }

    /// A home in a directory that the caller removes.
    pub fn below(directory: &Path, name: &str) -> Self {
        Self::at(directory.join(name), None)
    }

    fn at(path: PathBuf, directory: Option<TempDir>) -> Self {
        Self {
            path,
            ip: next_ip(),
            space: None,
            mounted: false,
            multicast: false,
            own_clock: false,
            disk: None,
            _directory: directory,
        }
    }

    /// The same on a machine of its own: its daemon listens there at the usual port, on every address.
    #[must_use]
    pub fn inside(mut self, space: &Arc<Space>) -> Self {
        self.ip = space.addr();
        self.space = Some(space.clone());
        self
    }

    /// The same with multicast on, which a home of the tests has off: only in a network of its own.
    #[must_use]
    pub fn multicast(mut self) -> Self {
        self.multicast = true;
        self
    }

    /// A home on a file system of its own with `bytes` bytes.
    ///
    /// # Panics
    /// When it cannot be mounted: that takes root.
    pub fn small(bytes: u64) -> Self {
        let mut home = Self::new();
        fs::create_dir(&home.path).expect("the directory is new");
        let options = std::ffi::CString::new(format!("size={bytes},mode=0700")).expect("no zero bytes");
        mount("tmpfs", &home.path, "tmpfs", MountFlags::empty(), options.as_c_str())
            .expect("mounting a small file system takes root");
        home.mounted = true;
        home
    }

    /// Gives a small file system `bytes` bytes.
    ///
    /// # Panics
    /// When it cannot be mounted again.
    pub fn enlarge(&self, bytes: u64) {
        let options = format!("size={bytes}");
        mount_remount(&self.path, MountFlags::empty(), options).expect("it was mounted by this process");
    }

    /// The home directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address that the daemon of this home has for itself: of loopback, or of its machine.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Gives it another address: what starts here from now on listens there.
    pub fn renumber(&mut self) {
        self.ip = next_ip();
    }

    /// Where other peers reach it, as `--join` takes it.
    pub fn address(&self) -> String {
        format!("{}:{}", self.ip, self.port())
    }

    /// The port for peers of its daemon.
    pub fn port(&self) -> u16 {
        if self.space.is_some() { PEER_PORT } else { LOOPBACK_PEER_PORT }
    }

    /// Its run directory.
    pub fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Its API's socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("chatd.sock")
    }

    /// How its daemon is reached, as it has written it down; nothing when none runs.
    pub fn api_file(&self) -> Option<ApiFile> {
        serde_json::from_slice(&fs::read(self.run().join("api.json")).ok()?).ok()
    }

    /// The API of its daemon on the Unix socket.
    pub fn api(&self) -> DaemonApi {
        DaemonApi::unix(&self.api_file().map_or_else(|| self.socket(), |file| file.socket.into()))
    }

    /// Leaves a daemon in the background and gives what `chatd start --json` printed.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> serde_json::Value {
        let words: Vec<&str> = ["start", "--json"].iter().chain(args).copied().collect();
        self.chatd(&words).run().json().remove(0)
    }

    /// A new ticket for the room of its daemon.
    ///
    /// # Panics
    /// When it gives none.
    #[track_caller]
    pub fn ticket(&self) -> String {
        self.chat(&["invite"]).run().ok().trim().to_owned()
    }

    /// The token of its API.
    ///
    /// # Panics
    /// When there is none.
    pub fn token(&self) -> String {
        fs::read_to_string(self.run().join("token")).expect("a daemon has run here").trim().to_owned()
    }

    /// `chatd` in this home, with its own address, an API on a free port, and no packet to the network.
    pub fn chatd(&self, args: &[&str]) -> TestCommand {
        let chatd = &binaries().chatd;
        let mut command = match &self.space {
            None => self.at_home(TestCommand::new(chatd, args)).env("CHATD_LISTEN", self.address()),
            Some(space) => self.at_home(space.command(chatd, args)),
        };
        let mut preloaded = Vec::new();
        if self.own_clock {
            preloaded.push(faketime_library());
            command = command
                .env("FAKETIME_TIMESTAMP_FILE", self.clock_file())
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        if let Some(disk) = &self.disk {
            preloaded.push(DiskShim::library().to_string_lossy().into_owned());
            command =
                disk.variables(&self.path).into_iter().fold(command, |command, (name, value)| command.env(name, value));
        }
        if preloaded.is_empty() { command } else { command.env("LD_PRELOAD", preloaded.join(":")) }
    }

    /// The same home on a disk that is recorded, or that fails at will.
    #[must_use]
    pub fn disk(mut self, disk: DiskShim) -> Self {
        self.disk = Some(disk);
        self
    }

    /// The same home on a machine whose wall clock is wrong, by an offset such as `+1h` or `-30d`. Needs `faketime`.
    ///
    /// # Panics
    /// When the offset cannot be written down.
    #[must_use]
    pub fn clock(mut self, offset: &str) -> Self {
        self.own_clock = true;
        self.set_clock(offset);
        self
    }

    /// Sets the wall clock of a home that has one of its own; a daemon that runs follows within a second.
    ///
    /// # Panics
    /// When the offset cannot be written down.
    pub fn set_clock(&self, offset: &str) {
        let (file, new) = (self.clock_file(), self.path.with_file_name("clock.new"));
        fs::write(&new, offset).and_then(|()| fs::rename(&new, &file)).expect("the directory is ours");
    }

    /// Removes the shared memory that the other clock of a killed process leaves behind.
    pub(crate) fn forget_clock(&self, pid: u32) {
        if self.own_clock {
            for name in ["faketime_shm_", "sem.faketime_sem_"] {
                // A process that ends in an orderly way has removed it itself.
                let _ = fs::remove_file(format!("/dev/shm/{name}{pid}"));
            }
        }
    }

    fn clock_file(&self) -> PathBuf {
        self.path.with_file_name("clock")
    }

    /// `chat` in this home.
    pub fn chat(&self, args: &[&str]) -> TestCommand {
        self.at_home(TestCommand::new(&binaries().chat, args))
    }

    /// A shell command in this home, with both binaries on its path.
    pub fn shell(&self, script: &str) -> TestCommand {
        self.at_home(TestCommand::new(Path::new("bash"), ["-euo", "pipefail", "-c", script]))
    }

    fn at_home(&self, command: TestCommand) -> TestCommand {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut paths = vec![binaries().directory.clone()];
        paths.extend(std::env::split_paths(&path));
        command
            .env("PATH", std::env::join_paths(paths).expect("no colon in the directory of the binaries"))
            .env("HOME", &self.path)
            .env("USER", "ann")
            .env("CHATD_HOME", &self.path)
            .env("CHATD_API", "127.0.0.1:0")
            .env("CHATD_MDNS", if self.multicast { "on" } else { "off" })
    }

    /// The names of what is in the home, sorted; none when it does not exist.
    ///
    /// # Panics
    /// When the home cannot be read.
    pub fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("a home can be read").file_name();
        let mut names: Vec<String> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Writes a file into the home, which is made when it does not exist.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(&self.path).expect("the directory is ours");
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700)).expect("the directory is ours");
        fs::write(self.path.join(name), content).expect("the directory is ours");
    }

    /// The whole log of the daemon.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path.join("chatd.log")).unwrap_or_default()
    }

    /// Waits until no daemon runs here.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait_until_free(&self) {
        let ended = self.holder().is_none_or(|holder| holder.wait(SOON));
        assert!(ended, "the daemon of {} does not end", self.path.display());
    }

    /// The files in the home that hold `needle` anywhere, by name.
    ///
    /// # Panics
    /// When the home cannot be read.
    pub fn files_with(&self, needle: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut directories = vec![self.path.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("a home can be read") {
                let path = entry.expect("a home can be read").path();
                if path.is_dir() {
                    directories.push(path);
                } else if fs::read(&path).is_ok_and(|bytes| holds(&bytes, needle.as_bytes())) {
                    found.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// The end of the daemon's log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// The process that holds this home, as its lock says, if it is a chatd of ours.
    pub fn holder(&self) -> Option<Handle> {
        let lock: serde_json::Value = serde_json::from_slice(&fs::read(self.path.join("lock")).ok()?).ok()?;
        let handle = Handle::open(u32::try_from(lock["pid"].as_u64()?).ok()?).ok()?;
        let executable = fs::read_link(format!("/proc/{}/exe", handle.pid())).ok()?;
        let ours = executable.to_string_lossy().starts_with(&*binaries().chatd.to_string_lossy());
        (ours && !handle.has_ended()).then_some(handle)
    }

    /// Kills the daemon that runs here, if one does, and removes the directory of its socket where that is elsewhere.
    pub fn end(&self) {
        if let Some(holder) = self.holder() {
            holder.signal(Signal::KILL);
            holder.wait(Duration::from_secs(10));
        }
        let socket = self.api_file().map(|file| PathBuf::from(file.socket));
        if let Some(short) = socket.as_deref().and_then(Path::parent).filter(|short| !short.starts_with(&self.path)) {
            // A daemon that ended in order has removed it.
            let _ = fs::remove_dir_all(short);
        }
    }
}

impl Default for TestHome {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestHome {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of {}/chatd.log\n{}\n---", self.path.display(), self.log_tail());
        }
        self.end();
        if self.mounted {
            // What still has a file open there is not to keep it.
            let _ = unmount(&self.path, UnmountFlags::DETACH);
        }
    }
}

/// The library that gives a process another wall clock. The command `faketime` could name it, but it fails when a killed
/// process that had its id has left shared memory behind; the library does not.
fn faketime_library() -> String {
    let folders = fs::read_dir("/usr/lib").expect("every system has it").map_while(Result::ok);
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|library| library.exists()).expect("faketime is installed");
    library.to_string_lossy().into_owned()
}

/// The next loopback address that no other daemon of this run has: the second and third byte are of this process.
fn next_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // 64 to 127 and 250 hosts each: what people use of 127.0.0.0/8 is far below.
    let network = std::process::id().wrapping_mul(7).wrapping_add(number / 250) % (64 * 256);
    let byte = |value: u32| u8::try_from(value).expect("below 256");
    Ipv4Addr::new(127, byte(64 + network / 256), byte(network % 256), byte(1 + number % 250))
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
