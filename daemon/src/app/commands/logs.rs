//! `chatd logs`: the last lines of the log, and with `--follow` new ones.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_proto::text::printable;

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::logging::older;
use crate::app::report::startup_report::print;
use crate::app::settings::args::LogsArgs;

/// Pause between two looks at a followed log: soon enough for people, and hardly any work.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Maximum number of lines kept in memory to find the last ones.
const LINES_MAX: usize = 1_000_000;

/// Why the log is not shown.
#[derive(Debug, thiserror::Error)]
enum LogsError {
    /// No daemon has run in the background.
    #[error("there is no log at {path}: it is written once a daemon has been started in the background")]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Prints the last lines, then, if asked to, new ones until interrupted.
pub(crate) fn run(args: LogsArgs, home: &Home) -> Result<(), ExitError> {
    let path = home.log();
    let fail = |source: io::Error| {
        let path = path.clone();
        let missing = source.kind() == io::ErrorKind::NotFound;
        ExitError::refused(&if missing { LogsError::Missing { path } } else { LogsError::Read { path, source } })
    };
    let mut tail = LogTail::open(&path).map_err(fail)?;
    let last = tail.last_lines(args.lines.min(LINES_MAX)).map_err(fail)?;
    print(&printable(&last))?;
    if !args.follow {
        return Ok(());
    }
    loop {
        let added = tail.added().map_err(fail)?;
        if added.is_empty() {
            std::thread::sleep(LOOK_EVERY);
        } else {
            print(&printable(&added))?;
        }
    }
}

/// Reads a log to its end, and continues in the file that replaces it.
struct LogTail {
    path: PathBuf,
    file: BufReader<File>,
}

impl LogTail {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: BufReader::new(File::open(path)?) })
    }

    /// The last lines, across the older file where this one has too few.
    fn last_lines(&mut self, count: usize) -> io::Result<String> {
        let mut lines = VecDeque::new();
        let newer = keep_last(&mut self.file, count, &mut lines)?;
        if newer < count
            && let Ok(before) = File::open(older(&self.path))
        {
            let mut all = VecDeque::new();
            keep_last(&mut BufReader::new(before), count - newer, &mut all)?;
            all.append(&mut lines);
            lines = all;
        }
        Ok(lines.into_iter().collect())
    }

    /// What was written since the last call.
    fn added(&mut self) -> io::Result<String> {
        let mut added = read_text(&mut self.file)?;
        if added.is_empty() && self.was_replaced()? {
            // What was written to the old file between reading and looking is read before the new one.
            added = read_text(&mut self.file)?;
            if added.is_empty() {
                self.file = BufReader::new(File::open(&self.path)?);
                added = read_text(&mut self.file)?;
            }
        }
        Ok(added)
    }

    fn was_replaced(&mut self) -> io::Result<bool> {
        let now = match std::fs::metadata(&self.path) {
            Ok(now) => now,
            // Between renaming and creating.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let open = self.file.get_ref().metadata()?;
        let cut = now.len() < self.file.stream_position()?;
        if cut && now.ino() == open.ino() {
            self.file.seek(SeekFrom::Start(0))?;
        }
        Ok((now.dev(), now.ino()) != (open.dev(), open.ino()))
    }
}

fn keep_last(file: &mut impl BufRead, count: usize, lines: &mut VecDeque<String>) -> io::Result<usize> {
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        lines.push_back(String::from_utf8_lossy(&line).into_owned());
        line.clear();
        if lines.len() > count {
            lines.pop_front();
        }
    }
    Ok(lines.len())
}

fn read_text(file: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn last_lines_come_from_both_files() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("chatd.log");
        fs::write(older(&path), "1\n2\n3\n").expect("written");
        fs::write(&path, "4\n5\n").expect("written");
        for (count, expected) in [(0, ""), (1, "5\n"), (2, "4\n5\n"), (3, "3\n4\n5\n"), (9, "1\n2\n3\n4\n5\n")] {
            assert_eq!(LogTail::open(&path).expect("opened").last_lines(count).expect("read"), expected, "{count}");
        }
    }

    #[test]
    fn following_crosses_a_rotation_without_missing_or_repeating() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("chatd.log");
        fs::write(&path, "1\n").expect("written");
        let mut tail = LogTail::open(&path).expect("opened");
        assert_eq!(tail.last_lines(10).expect("read"), "1\n");
        assert_eq!(tail.added().expect("read"), "");
        fs::write(&path, "1\n2\n").expect("written");
        assert_eq!(tail.added().expect("read"), "2\n");
        fs::rename(&path, older(&path)).expect("renamed");
        assert_eq!(tail.added().expect("read"), "", "the new file is not there yet");
        fs::write(&path, "3\n").expect("written");
        assert_eq!(tail.added().expect("read"), "3\n");
    }

    #[test]
    fn following_continues_in_a_truncated_file() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("chatd.log");
        fs::write(&path, "1\n2\n").expect("written");
        let mut tail = LogTail::open(&path).expect("opened");
        tail.last_lines(10).expect("read");
        fs::write(&path, "3\n").expect("written");
        assert_eq!(tail.added().expect("read"), "", "the cut is noticed");
        assert_eq!(tail.added().expect("read"), "3\n");
    }
}
