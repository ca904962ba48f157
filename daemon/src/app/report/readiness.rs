//! To whom a starting daemon talks: people at a terminal, or the process that started it in the background.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::{StartReport, Started, knocking, print, print_json, talk};
use crate::app::settings::args::StartArgs;

/// Who listens.
#[derive(Debug)]
pub(crate) enum StartReporter {
    /// People.
    People {
        /// How they want the result.
        format: OutputFormat,
    },
    /// The process that started this one.
    Parent {
        /// Where reports go.
        reports: File,
        /// Ends when the parent does.
        lifeline: OwnedFd,
    },
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// As text.
    Text,
    /// As one JSON object.
    Json,
}

impl OutputFormat {
    /// What `--json` asks for.
    pub(crate) fn from_flag(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// The process that started this one did not do it as `chatd start` does.
#[derive(Debug, thiserror::Error)]
#[error("--background-child is for 'chatd start' alone: leave it out")]
pub(crate) struct NoParent(#[source] io::Error);

impl StartReporter {
    /// Leaves the terminal and the session of the parent, reads from it what to start with, and keeps its pipes to talk
    /// to it. Standard input and output are the null device afterwards.
    ///
    /// # Errors
    /// When nobody wrote the arguments.
    pub(crate) fn detach() -> Result<(Self, StartArgs), NoParent> {
        let lifeline = io::stdin().as_fd().try_clone_to_owned().map_err(NoParent)?;
        let reports = io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(NoParent)?;
        let mut line = String::new();
        let input = lifeline.try_clone().map(File::from).map_err(NoParent)?;
        // The parent writes one line and then nothing more, so the buffer takes nothing away.
        BufReader::new(input).read_line(&mut line).map_err(NoParent)?;
        let args = serde_json::from_str(&line).map_err(|error| NoParent(error.into()))?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(NoParent)?;
        rustix::stdio::dup2_stdin(&null).map_err(|error| NoParent(error.into()))?;
        rustix::stdio::dup2_stdout(&null).map_err(|error| NoParent(error.into()))?;
        // Fails where this process leads a session already, which is as good.
        let _ = rustix::process::setsid();
        std::env::set_current_dir("/").map_err(NoParent)?;
        Ok((Self::Parent { reports, lifeline }, args))
    }

    /// Somebody has to let this peer in.
    pub(crate) fn knocking(&self, words: &str) {
        match self {
            Self::People { .. } => talk(&knocking(words)),
            Self::Parent { reports, .. } => tell(reports, &StartReport::Knocking { words: words.to_owned() }),
        }
    }

    /// The daemon is ready; the last thing that is said.
    pub(crate) fn ready(self, started: Started, home: &Home) {
        match self {
            // Nobody may read it, and the daemon goes on.
            Self::People { format: OutputFormat::Text } => drop(print(&started.lines(home))),
            Self::People { format: OutputFormat::Json } => drop(print_json(&started)),
            Self::Parent { reports, .. } => tell(&reports, &StartReport::Ready(Box::new(started))),
        }
    }

    /// The daemon ends before it was ready; the last thing that is said. People are told by whoever called.
    pub(crate) fn failed(self, failure: &ExitError) {
        match self {
            Self::People { .. } => {}
            Self::Parent { reports, .. } => tell(&reports, &StartReport::Failed(failure.clone())),
        }
    }

    /// Waits until the process that started this one has gone; with people for ever. Cancel safe.
    pub(crate) async fn parent_gone(&self) {
        let Self::Parent { lifeline, .. } = self else {
            return std::future::pending().await;
        };
        let pipe = lifeline.try_clone().and_then(pipe::Receiver::from_owned_fd);
        match pipe {
            Ok(mut pipe) => while matches!(pipe.read(&mut [0; 64]).await, Ok(1..)) {},
            Err(error) => {
                tracing::debug!(%error, "the starting process cannot be watched");
                std::future::pending().await
            }
        }
    }
}

fn tell(mut reports: &File, report: &StartReport) {
    let mut line = serde_json::to_vec(report).expect("reports have string keys and finite numbers");
    line.push(b'\n');
    // A parent that has gone is noticed elsewhere.
    if let Err(error) = reports.write_all(&line) {
        tracing::debug!(%error, "the starting process does not listen");
    }
}
