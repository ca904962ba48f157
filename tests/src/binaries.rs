//! Builds the real `chatd` and `chat` once a run, and says where they are.

use std::env;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a directory with binaries that are tested as they are, instead of building them.
pub const BINARIES_VARIABLE: &str = "CHAT_TESTS_BIN_DIR";

/// Variables that cargo sets for what it runs. Build scripts that watch one of them would run again under a cargo within
/// cargo, and everything above them be built anew.
const OF_CARGO: [&str; 6] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "RUST_RECURSION_"];

/// Where the binaries are.
#[derive(Debug)]
pub struct Binaries {
    /// The daemon.
    pub chatd: PathBuf,
    /// The thin client.
    pub chat: PathBuf,
    /// The directory of both.
    pub directory: PathBuf,
}

/// The binaries of this workspace, built with the profile of the running test if they are not up to date.
///
/// # Panics
/// When they do not build.
pub fn binaries() -> &'static Binaries {
    // That they do not build is kept, too: the next test would only find the same.
    static BINARIES: OnceLock<Option<Binaries>> = OnceLock::new();
    let built = BINARIES.get_or_init(|| {
        let directory = env::var_os(BINARIES_VARIABLE).map(PathBuf::from).or_else(build)?;
        let (chatd, chat) = (directory.join("chatd"), directory.join("chat"));
        (chatd.is_file() && chat.is_file()).then_some(Binaries { chatd, chat, directory })
    });
    built.as_ref().expect("chatd and chat were built: what cargo said stands above")
}

/// Builds, and gives the directory: the one of the running executable, or the one above its `deps`.
fn build() -> Option<PathBuf> {
    let me = env::current_exe().expect("a process knows its executable");
    let directory = me
        .ancestors()
        .skip(1)
        .find(|path| !path.ends_with("deps") && !path.ends_with("examples"))
        .expect("an executable stands in a directory")
        .to_owned();
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above its member");
    let mut cargo = Command::new(env!("CARGO"));
    // The whole workspace, so that features are those of 'cargo test --workspace' and nothing is built twice.
    cargo.current_dir(workspace).args(["build", "--workspace", "--bins", "--profile", profile]);
    if !io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    for (name, _) in env::vars_os() {
        if OF_CARGO.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo runs: it built this test");
    status.success().then_some(directory)
}
