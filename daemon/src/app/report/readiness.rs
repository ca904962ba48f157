//! Reports how a start went: to people at a terminal, or to the process that started this one in the background.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::{StartReport, Started, knocking, print, print_json, talk};
use crate::app::settings::args::StartArgs;

/// The receiver of a start's reports.
#[derive(Debug)]
pub(crate) enum StartReporter {
    /// People at a terminal.
    Terminal {
        /// Format of the result.
        format: OutputFormat,
    },
    /// The process that started this one.
    Parent {
        /// The pipe for reports.
        reports: File,
        /// A pipe that ends when the parent does.
        lifeline: OwnedFd,
    },
}

/// Format of a printed result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// Text for people.
    Text,
    /// One JSON object.
    Json,
}

impl OutputFormat {
    /// The format that `--json` selects.
    pub(crate) fn from_flag(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// The process that started this one is not `chatd start`.
#[derive(Debug, thiserror::Error)]
#[error("--background-child is internal to 'chatd start': leave it out")]
pub(crate) struct NoParent(#[source] io::Error);

impl StartReporter {
    /// Detaches from the parent's terminal and session, reads the options of the start from it, and keeps its pipes for
    /// reports. Standard input and output are the null device afterwards.
    ///
    /// # Errors
    /// When the parent wrote no options.
    pub(crate) fn detach() -> Result<(Self, StartArgs), NoParent> {
        let lifeline = io::stdin().as_fd().try_clone_to_owned().map_err(NoParent)?;
        let reports = io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(NoParent)?;
        let mut line = String::new();
        let input = lifeline.try_clone().map(File::from).map_err(NoParent)?;
        // The parent writes exactly one line, so the buffer swallows nothing else.
        BufReader::new(input).read_line(&mut line).map_err(NoParent)?;
        let args = serde_json::from_str(&line).map_err(|error| NoParent(error.into()))?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(NoParent)?;
        rustix::stdio::dup2_stdin(&null).map_err(|error| NoParent(error.into()))?;
        rustix::stdio::dup2_stdout(&null).map_err(|error| NoParent(error.into()))?;
        // Fails if this process already leads a session, which is as good.
        let _ = rustix::process::setsid();
        std::env::set_current_dir("/").map_err(NoParent)?;
        Ok((Self::Parent { reports, lifeline }, args))
    }

    /// Reports that a member has to admit this peer.
    pub(crate) fn knocking(&self, words: &str) {
        match self {
            Self::Terminal { .. } => talk(&knocking(words)),
            Self::Parent { reports, .. } => send(reports, &StartReport::Knocking { words: words.to_owned() }),
        }
    }

    /// Reports that the daemon is ready; the last report.
    pub(crate) fn ready(self, started: Started, home: &Home) {
        match self {
            // The reader may be gone; the daemon goes on.
            Self::Terminal { format: OutputFormat::Text } => drop(print(&started.lines(home))),
            Self::Terminal { format: OutputFormat::Json } => drop(print_json(&started)),
            Self::Parent { reports, .. } => send(&reports, &StartReport::Ready(Box::new(started))),
        }
    }

    /// Reports that the daemon ends before it was ready; the last report. The caller prints it for people.
    pub(crate) fn failed(self, failure: &ExitError) {
        match self {
            Self::Terminal { .. } => {}
            Self::Parent { reports, .. } => send(&reports, &StartReport::Failed(failure.clone())),
        }
    }

    /// Waits until the process that started this one has ended; forever at a terminal. Cancel safe.
    pub(crate) async fn parent_gone(&self) {
        let Self::Parent { lifeline, .. } = self else {
            return std::future::pending().await;
        };
        let pipe = lifeline.try_clone().and_then(pipe::Receiver::from_owned_fd);
        match pipe {
            Ok(mut pipe) => while matches!(pipe.read(&mut [0; 64]).await, Ok(1..)) {},
            Err(error) => {
                tracing::debug!(%error, "the parent process cannot be watched");
                std::future::pending().await
            }
        }
    }
}

fn send(mut reports: &File, report: &StartReport) {
    let mut line = serde_json::to_vec(report).expect("reports have string keys and finite numbers");
    line.push(b'\n');
    // The end of the parent is noticed by `parent_gone`.
    if let Err(error) = reports.write_all(&line) {
        tracing::debug!(%error, "the parent process does not read reports");
    }
}
