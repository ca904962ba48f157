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

/// Whether a binary is newer than everything it was built from: what cargo noted beside it, and the manifests.
fn is_fresh(binary: &Path, workspace: &Path) -> io::Result<bool> {
    let built = fs::metadata(binary)?.modified()?;
    let noted = fs::read_to_string(binary.with_extension("d"))?;
    let sources = sources(&noted);
    let crates = ["", "proto", "daemon/core", "daemon", "cli", "tests"];
    let manifests = crates.iter().map(|member| workspace.join(member).join("Cargo.toml"));
    for path in sources.iter().cloned().chain(manifests).chain([workspace.join("Cargo.lock")]) {
        if fs::metadata(path)?.modified()? >= built {
            return Ok(false);
        }
    }
    Ok(!sources.is_empty())
}

/// What stands behind the colon of a rule as `make` has them; a space in a path has a backslash before it.
fn sources(rule: &str) -> Vec<PathBuf> {
    let line = rule.lines().next().unwrap_or_default();
    let listed = line.split_once(": ").map(|(_, listed)| listed).unwrap_or_default();
    let mut paths = vec![String::new()];
    let mut characters = listed.chars();
    while let Some(character) = characters.next() {
        let path = paths.last_mut().expect("there is always one");
        match character {
            '\\' => path.extend(characters.next()),
            ' ' => paths.push(String::new()),
            other => path.push(other),
        }
    }
    paths.into_iter().filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_fresh_until_a_source_changes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above its member");
        let (binary, source) = (directory.path().join("chatd"), directory.path().join("a source.rs"));
        fs::write(&source, "").expect("written");
        let rule = format!("chatd: {}\n", source.display().to_string().replace(' ', "\\ "));
        fs::write(binary.with_extension("d"), rule).expect("written");
        assert!(is_fresh(&binary, workspace).is_err(), "there is none");
        fs::write(&binary, "").expect("written");
        let time = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).expect("it is there");
        let later = time(&source) + std::time::Duration::from_secs(1);
        fs::File::options().write(true).open(&binary).and_then(|file| file.set_modified(later)).expect("set");
        assert!(is_fresh(&binary, workspace).expect("reads"));
        fs::File::options().write(true).open(&source).and_then(|file| file.set_modified(later)).expect("set");
        assert!(!is_fresh(&binary, workspace).expect("reads"), "as new as the binary");
        fs::write(binary.with_extension("d"), "chatd:\n").expect("written");
        assert!(!is_fresh(&binary, workspace).expect("reads"), "nothing is known of it");
    }
}
