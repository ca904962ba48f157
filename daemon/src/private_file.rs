//! Files and directories that only their owner may read, regardless of the umask.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Mode of directories.
pub(crate) const DIRECTORY_MODE: u32 = 0o700;

/// Mode of files that hold secrets.
pub(crate) const FILE_MODE: u32 = 0o600;

/// Whether a file must survive a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// It must: it is flushed to disk, which takes milliseconds.
    Forever,
    /// It need not: it is rewritten at the next start.
    WhileRunning,
}

/// Replaces a file atomically: afterwards it has the whole new content or, after an error or a crash of the process, the
/// old one.
pub(crate) fn write(path: &Path, content: &[u8], lasting: Lasting) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = directory.join(name);
    // A crash may have left one behind, and process ids are reused.
    ignore_missing(fs::remove_file(&new))?;
    let written = write_new(&new, content, lasting).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        // The first error is the one to report.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    match lasting {
        Lasting::Forever => File::open(directory)?.sync_all(),
        Lasting::WhileRunning => Ok(()),
    }
}

fn write_new(path: &Path, content: &[u8], lasting: Lasting) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(content)?;
    match lasting {
        Lasting::Forever => file.sync_all(),
        Lasting::WhileRunning => Ok(()),
    }
}

/// Replaces a file of a running daemon; on a full disk, where there is no space for a second file, in place.
pub(crate) fn write_over(path: &Path, content: &[u8]) -> io::Result<()> {
    match write(path, content, Lasting::WhileRunning) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.write_all(content)?;
            file.set_len(content.len() as u64)
        }
        written => written,
    }
}

/// Removes the permissions of other users.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE))
}

/// Opens a file to append to, creating it.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Creates a directory and its missing parents; an existing one keeps its mode.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
}

/// Treats a missing file as removed.
pub(crate) fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn written_file_is_private_and_replaced_as_a_whole() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("token");
        write(&path, b"first", Lasting::Forever).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("own file");
        write(&path, b"2", Lasting::WhileRunning).expect("replaced");
        assert_eq!(fs::read(&path).expect("readable"), b"2");
        assert_eq!(mode(&path), FILE_MODE);
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1, "nothing else is left behind");
    }

    #[test]
    fn failed_write_changes_nothing() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("token");
        fs::create_dir(&path).expect("a directory in the way");
        write(&path, b"x", Lasting::Forever).expect_err("a directory cannot be replaced by a file");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }

    #[test]
    fn new_directory_is_private_and_an_existing_one_keeps_its_mode() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("a/b");
        create_directory(&path).expect("created");
        assert_eq!(mode(&path), DIRECTORY_MODE);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("own directory");
        create_directory(&path).expect("exists");
        assert_eq!(mode(&path), 0o755);
    }
}
