//! Builds the real `chatd` and `chat` once a run, and says where they are.

use std::env;
use std::fs;
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

/// Builds where something changed, and gives the directory: the one of the running executable, or the one above its `deps`.
fn build() -> Option<PathBuf> {
    let me = env::current_exe().expect("a process knows its executable");
    let directory = me
        .ancestors()
        .skip(1)
        .find(|path| !path.ends_with("deps") && !path.ends_with("examples"))
        .expect("an executable stands in a directory")
        .to_owned();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above its member");
    // 'cargo test --workspace' has built them a moment ago, with the features of tests: another build would begin anew.
    if ["chatd", "chat"].iter().all(|name| is_fresh(&directory.join(name), workspace).unwrap_or(false)) {
        return Some(directory);
    }
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
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

/// Whether a binary is newer than every source and manifest it may have been built from. What cargo notes beside a binary
/// is not there where only tests were asked for.
fn is_fresh(binary: &Path, workspace: &Path) -> io::Result<bool> {
    let built = fs::metadata(binary)?.modified()?;
    let sources = ["proto/src", "daemon/core/src", "daemon/src", "cli/client/src", "cli/src"];
    let manifests = ["", "proto", "daemon/core", "daemon", "cli/client", "cli", "tests"]
        .map(|member| Path::new(member).join("Cargo.toml"));
    let mut rest: Vec<PathBuf> = sources.into_iter().map(PathBuf::from).chain(manifests).collect();
    rest.push("Cargo.lock".into());
    while let Some(path) = rest.pop() {
        let found = fs::metadata(workspace.join(&path))?;
        if found.is_dir() {
            for entry in fs::read_dir(workspace.join(&path))? {
                rest.push(path.join(entry?.file_name()));
            }
        } else if found.modified()? >= built {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_binary_is_fresh_until_a_source_changes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |path: &str| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("it is below the directory")).expect("made");
            fs::write(&path, "").expect("written");
            path
        };
        let binary = write("target/debug/chatd");
        let is_fresh = || is_fresh(&binary, directory.path());
        assert!(is_fresh().is_err(), "no sources");
        for source in [
            "proto/src/lib.rs",
            "daemon/core/src/node/apply.rs",
            "daemon/src/main.rs",
            "cli/client/src/lib.rs",
            "cli/src/main.rs",
        ] {
            write(source);
        }
        for manifest in ["", "proto/", "daemon/core/", "daemon/", "cli/client/", "cli/", "tests/"] {
            write(&format!("{manifest}Cargo.toml"));
        }
        let deep = write("daemon/core/src/node/a/b.rs");
        let lock = write("Cargo.lock");
        let later = |path: &Path, seconds| {
            let time = fs::metadata(&lock).and_then(|found| found.modified()).expect("it is there");
            let file = fs::File::options().write(true).open(path).expect("opens");
            file.set_modified(time + Duration::from_secs(seconds)).expect("set");
        };
        later(&binary, 5);
        assert!(is_fresh().expect("reads"));
        later(&deep, 9);
        assert!(!is_fresh().expect("reads"), "a source is newer");
    }
}
