//! Files and directories that only their owner may read, whatever the umask.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Mode of directories.
pub(crate) const DIRECTORY_MODE: u32 = 0o700;

/// Mode of files that hold secrets.
pub(crate) const FILE_MODE: u32 = 0o600;

/// What a file is worth after the power failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// It must be there: it is flushed to the disk, which takes milliseconds.
    Forever,
    /// It is written anew at the next start.
    WhileRunning,
}

/// Writes a file in one step: afterwards there is the whole new content or, after an error or a crash of the process,
/// what was there before.
pub(crate) fn write(path: &Path, content: &[u8], lasting: Lasting) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = directory.join(name);
    // A crash may have left one behind, and process ids come again.
    ignore_missing(fs::remove_file(&new))?;
    let written = write_new(&new, content, lasting).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        // The first error is the one to tell.
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

/// Opens a file to append to, creating it.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Creates a directory, and those above it that are missing; one that exists stays as it is.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
}

/// Takes a file that is not there for removed.
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
    fn a_written_file_is_private_and_replaced_whole() {
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
    fn a_failed_write_changes_nothing() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("token");
        fs::create_dir(&path).expect("a directory in the way");
        write(&path, b"x", Lasting::Forever).expect_err("a directory cannot be replaced by a file");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }

    #[test]
    fn directories_are_made_private_and_kept_as_they_are() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("a/b");
        create_directory(&path).expect("created");
        assert_eq!(mode(&path), DIRECTORY_MODE);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("own directory");
        create_directory(&path).expect("exists");
        assert_eq!(mode(&path), 0o755);
    }
}
