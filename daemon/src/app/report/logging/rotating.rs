//! A log file of bounded size: when it is full, it becomes the older file and a new one is started.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::private_file;

/// What happens to the standard streams of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Standard error follows the log file, so that the last words of the runtime are in it as well.
    FollowLog,
    /// They are left alone.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests keep their streams"))]
    Keep,
}

/// Writes to a file until it is full, then renames it to `….1` and starts a new one. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RotatingLog(Arc<Mutex<RotatingState>>);

#[derive(Debug)]
struct RotatingState {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    streams: Streams,
}

/// The path of the older part of a log.
pub(crate) fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

impl RotatingLog {
    /// Appends to the file at `path`, up to `bytes_max`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(path: &Path, bytes_max: u64, streams: Streams) -> io::Result<Self> {
        let (file, bytes) = begin(path, streams)?;
        Ok(Self(Arc::new(Mutex::new(RotatingState { path: path.to_owned(), file, bytes, bytes_max, streams }))))
    }
}

fn begin(path: &Path, streams: Streams) -> io::Result<(File, u64)> {
    let file = private_file::append(path)?;
    match streams {
        Streams::FollowLog => rustix::stdio::dup2_stderr(&file)?,
        Streams::Keep => {}
    }
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

impl RotatingState {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.bytes_max {
            fs::rename(&self.path, older(&self.path))?;
            (self.file, self.bytes) = begin(&self.path, self.streams)?;
        }
        self.file.write_all(line)?;
        self.bytes += length;
        Ok(())
    }
}

/// Writes one line of the log; lines of several threads do not mix.
#[derive(Debug)]
pub(crate) struct LogLine<'a>(MutexGuard<'a, RotatingState>);

impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RotatingLog {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        // A panic while a line was written leaves at most half a line behind.
        LogLine(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn log_is_bounded_private_and_continued_after_a_restart() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("chatd.log");
        for run in 0..5 {
            let log = RotatingLog::open(&path, 100, Streams::Keep).expect("opened");
            for line in 0..10 {
                log.make_writer().write_all(format!("run {run} line {line}\n").as_bytes()).expect("written");
            }
        }
        let newer = fs::read_to_string(&path).expect("readable");
        let before = fs::read_to_string(older(&path)).expect("readable");
        assert!(newer.len() <= 100 && before.len() <= 100, "{} and {}", newer.len(), before.len());
        assert!(newer.ends_with("run 4 line 9\n"));
        let all = before + &newer;
        let first: usize = all.lines().next().and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a line");
        assert_eq!(all.lines().count(), 10 - first, "no line is missing or torn between both files: {all}");
        assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 2);
    }

    #[test]
    fn line_longer_than_the_bound_is_written_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("chatd.log");
        let log = RotatingLog::open(&path, 10, Streams::Keep).expect("opened");
        for line in ["a line that is long\n", "b\n"] {
            log.make_writer().write_all(line.as_bytes()).expect("written");
        }
        assert_eq!(fs::read_to_string(&path).expect("readable"), "b\n");
    }
}
