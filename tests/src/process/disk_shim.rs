//! The disk of a daemon under test: a library in C (`disk_shim.c`), built once a run and preloaded, records what the
//! daemon does to the files of its home, or makes its writes fail.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::binaries::binaries;

/// A fault of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// It works.
    None,
    /// It has no space: what makes a file longer fails (`ENOSPC`).
    Full,
    /// Some writes fail and are not done (`EIO`).
    WritesFail,
    /// Some flushes fail although they were done (`EIO`).
    FlushesFail,
}

/// What a daemon's disk does, as its environment says.
#[derive(Clone, Debug)]
pub struct DiskShim {
    log: Option<PathBuf>,
    fault: Option<PathBuf>,
}

impl DiskShim {
    /// A disk that records what reaches it in a file.
    pub fn recording(log: &Path) -> Self {
        Self { log: Some(log.to_owned()), fault: None }
    }

    /// A disk that can be made to fail, through a file that both sides map.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn failing(control: &Path) -> Self {
        fs::write(control, [0; 16]).expect("the directory is ours");
        Self { log: None, fault: Some(control.to_owned()) }
    }

    /// Sets the fault; a daemon that runs has it at once.
    ///
    /// # Panics
    /// When this disk cannot fail.
    pub fn set(&self, fault: DiskFault) {
        // The second byte is the share of the operations that fail, in units of 1/256.
        let bytes = match fault {
            DiskFault::None => [0, 0],
            DiskFault::Full => [1, 255],
            DiskFault::WritesFail => [2, 20],
            DiskFault::FlushesFail => [3, 60],
        };
        let path = self.fault.as_ref().expect("a disk that can fail");
        let file = File::options().write(true).open(path).expect("it was written");
        file.write_all_at(&bytes, 0).expect("the directory is ours");
    }

    /// The library.
    ///
    /// # Panics
    /// When it does not build.
    pub fn library() -> &'static Path {
        static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
        let built = BUILT.get_or_init(|| build().ok());
        built.as_deref().expect("cc builds the library: what it said stands above")
    }

    /// Variables for the daemon of a home.
    ///
    /// # Panics
    /// When the home has no directory above it.
    pub fn variables(&self, home: &Path) -> Vec<(&'static str, OsString)> {
        // SQLite names its files without links.
        let above = home.parent().expect("a home is in a directory").canonicalize().expect("it exists");
        let home = above.join(home.file_name().expect("a home has a name"));
        let mut variables = vec![("DISK_SHIM_HOME", home.into_os_string())];
        variables.extend(self.log.as_ref().map(|log| ("DISK_SHIM_LOG", log.clone().into_os_string())));
        variables.extend(self.fault.as_ref().map(|fault| ("DISK_SHIM_FAULT", fault.clone().into_os_string())));
        variables
    }
}

/// Builds the library beside the binaries, unless a build of this source is there.
fn build() -> io::Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/process/disk_shim.c");
    let library = binaries().directory.join("disk_shim.so");
    let is_fresh = || Ok::<_, io::Error>(fs::metadata(&library)?.modified()? > fs::metadata(&source)?.modified()?);
    if is_fresh().unwrap_or(false) {
        return Ok(library);
    }
    // Another test may build it at the same time.
    let new = library.with_extension(format!("{}.new", std::process::id()));
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"]).args([&new, &source]);
    if !cc.args(["-ldl", "-lpthread"]).status()?.success() {
        return Err(io::Error::other("cc failed"));
    }
    fs::rename(&new, &library)?;
    Ok(library)
}
