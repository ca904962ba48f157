//! At most one daemon per home: file locks that the kernel releases when their holder ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::app::home::Home;
use crate::private_file;

/// Maximum bytes read of a lock file; a valid one has about 100.
const FILE_BYTES_MAX: u64 = 1024;

/// Both locks of a home; released when the process ends.
#[derive(Debug)]
pub(crate) struct HomeLock {
    /// Two daemons never share a home, whatever their run directories are.
    root: File,
    run: PathBuf,
    /// Nor a run directory, which homes share when only `XDG_DATA_HOME` differs.
    _run_lock: File,
}

/// The process that holds a lock, as the lock file names it. [`Home::follow`] reads `run` of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockHolder {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its stage.
    pub(crate) stage: StartStage,
    /// Its run directory: that of the default home depends on `XDG_RUNTIME_DIR`.
    pub(crate) run: PathBuf,
}

/// How far the holder of a lock has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartStage {
    /// It starts; its API will answer in a moment.
    Starting,
    /// It waits to be admitted to a room, which may take minutes.
    Joining,
    /// Its API answers.
    Running,
}

/// Why the locks cannot be taken. Nothing was changed; a retry helps once the holder has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another daemon holds the home.
    #[error("another daemon uses this home")]
    Held(Option<LockHolder>),
    /// A daemon with another home has the run directory.
    #[error("a daemon with another home uses {run}: give --home, so that this one gets a run directory of its own")]
    RunHeld {
        /// The run directory.
        run: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl HomeLock {
    /// Takes the locks of a home if they are free.
    ///
    /// # Errors
    /// [`LockError`]. Does not wait.
    pub(crate) fn try_take(home: &Home) -> Result<Self, LockError> {
        let root = match try_lock(&home.lock())? {
            LockAttempt::Locked(file) => file,
            LockAttempt::Held(mut file) => return Err(LockError::Held(read_holder(&mut file))),
        };
        let run_lock = match try_lock(&home.run_lock())? {
            LockAttempt::Locked(file) => file,
            LockAttempt::Held(_) => return Err(LockError::RunHeld { run: home.run().to_owned() }),
        };
        let mut lock = Self { root, run: home.run().to_owned(), _run_lock: run_lock };
        match lock.set_stage(StartStage::Starting) {
            // The lock is held all the same; the file only names its holder.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(lock),
            Err(source) => Err(LockError::File { path: home.lock(), source }),
            Ok(()) => Ok(lock),
        }
    }

    /// Holds the locks until the process ends: a waiting process takes their release for that.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }

    /// Writes this process's stage into the lock file, for processes that find the lock held.
    pub(crate) fn set_stage(&mut self, stage: StartStage) -> io::Result<()> {
        let holder = LockHolder { pid: std::process::id(), stage, run: self.run.clone() };
        let mut text = serde_json::to_vec(&holder)?;
        text.push(b'\n');
        // In this order, since writing over what is there needs no space on a full disk.
        self.root.rewind()?;
        self.root.write_all(&text)?;
        self.root.set_len(text.len() as u64)
    }
}

/// Whether a process holds a home, and which.
///
/// # Errors
/// When the lock file cannot be used.
pub(crate) fn holder(home: &Home) -> Result<LockState, LockError> {
    let path = home.lock();
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockState::Free),
        Err(source) => return Err(LockError::File { path, source }),
    };
    // Shared, so that two readers at once do not find each other; released with the file.
    match file.try_lock_shared() {
        Ok(()) => Ok(LockState::Free),
        Err(TryLockError::WouldBlock) => Ok(LockState::Held(read_holder(&mut file))),
        Err(TryLockError::Error(source)) => Err(LockError::File { path, source }),
    }
}

/// The state of a home's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    /// No process holds it.
    Free,
    /// A process holds it; unknown which in the moment between locking and writing.
    Held(Option<LockHolder>),
}

/// Waits until no process holds the home, `longest` at most.
///
/// # Errors
/// When the lock file cannot be used.
pub(crate) fn wait_until_free(home: &Home, longest: Duration) -> Result<LockState, LockError> {
    let path = home.lock();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockState::Free),
        Err(source) => return Err(LockError::File { path, source }),
    };
    let (done, released) = mpsc::channel();
    // Waiting for a lock has no deadline of its own: the waiting thread is left behind at the timeout.
    std::thread::spawn(move || {
        let locked = file.lock_shared();
        // The receiver may take the lock at once.
        drop(file);
        // The receiver is gone after the timeout.
        let _ = done.send(locked);
    });
    match released.recv_timeout(longest) {
        Ok(Ok(())) => Ok(LockState::Free),
        Ok(Err(source)) => Err(LockError::File { path, source }),
        Err(_) => holder(home),
    }
}

enum LockAttempt {
    Locked(File),
    Held(File),
}

fn try_lock(path: &Path) -> Result<LockAttempt, LockError> {
    let fail = |source| LockError::File { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(private_file::FILE_MODE)
        .open(path)
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(LockAttempt::Locked(file)),
        Err(TryLockError::WouldBlock) => Ok(LockAttempt::Held(file)),
        Err(TryLockError::Error(source)) => Err(fail(source)),
    }
}

fn read_holder(file: &mut File) -> Option<LockHolder> {
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut content).ok()?;
    serde_json::from_slice(&content).ok()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::app::home;

    fn home(directory: &Path) -> Home {
        let home = Home::locate(Some(directory), |_| None).expect("known");
        home::prepare(&home).expect("made");
        home
    }

    /// Releases a home. A process that another test forks holds the lock as well until it executes its program.
    fn release(lock: HomeLock, home: &Home) {
        drop(lock);
        let released = wait_until_free(home, Duration::from_secs(60)).expect("readable");
        assert_eq!(released, LockState::Free);
    }

    #[test]
    fn held_home_names_its_daemon() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let home = home(directory.path());
        assert_eq!(holder(&home).expect("readable"), LockState::Free);
        let mut lock = HomeLock::try_take(&home).expect("free");
        let me = |stage| Some(LockHolder { pid: std::process::id(), stage, run: home.run().to_owned() });
        let error = HomeLock::try_take(&home).expect_err("held");
        assert!(matches!(&error, LockError::Held(holder) if *holder == me(StartStage::Starting)), "{error}");
        lock.set_stage(StartStage::Running).expect("written");
        assert_eq!(holder(&home).expect("readable"), LockState::Held(me(StartStage::Running)));
        release(lock, &home);
        assert_eq!(holder(&home).expect("readable"), LockState::Free);
        HomeLock::try_take(&home).expect("free again");
    }

    #[test]
    fn daemon_with_another_run_directory_is_found() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let home = home(directory.path());
        let elsewhere = home.clone().with_run(directory.path().join("elsewhere"));
        home::prepare(&elsewhere).expect("made");
        let lock = HomeLock::try_take(&elsewhere).expect("free");
        assert_eq!(home.clone().follow(), elsewhere);
        release(lock, &home);
        assert_eq!(home.clone().follow(), home);
    }

    #[test]
    fn run_directory_of_another_home_is_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let run = directory.path().join("runtime");
        let home = |data: &str| {
            let data = directory.path().join(data);
            let variable = |name: &str| match name {
                "XDG_DATA_HOME" => Some(OsString::from(&data)),
                "XDG_RUNTIME_DIR" => Some(OsString::from(&run)),
                _ => None,
            };
            let home = Home::locate(None, variable).expect("known");
            home::prepare(&home).expect("made");
            home
        };
        let _lock = HomeLock::try_take(&home("a")).expect("free");
        let error = HomeLock::try_take(&home("b")).expect_err("held");
        assert!(matches!(error, LockError::RunHeld { .. }), "{error}");
    }

    #[test]
    fn waiting_ends_with_the_holder_or_at_the_timeout() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let home = home(directory.path());
        let lock = HomeLock::try_take(&home).expect("free");
        let still = wait_until_free(&home, Duration::from_millis(1)).expect("readable");
        assert!(matches!(still, LockState::Held(Some(_))));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_until_free(&home, Duration::from_secs(60)));
            drop(lock);
            assert_eq!(waiting.join().expect("no panic").expect("readable"), LockState::Free);
        });
    }

    #[test]
    fn corrupt_lock_file_is_rewritten() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let home = home(directory.path());
        std::fs::write(home.lock(), [0xFF; 5000]).expect("written");
        let _lock = HomeLock::try_take(&home).expect("free");
        assert!(matches!(holder(&home).expect("readable"), LockState::Held(Some(_))));
    }
}
