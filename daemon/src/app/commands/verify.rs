//! `chatd verify`: checks an export without a network and prints who said what, in the order that is the same at every
//! peer.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::PathBuf;

use chat_proto::id::{MessageId, PeerId, PeerTag};
use chat_proto::text::printable;
use chat_proto::time::Timestamp;
use serde::Serialize;

use crate::app::archive::{Archive, ArchivedMessage, Flaw};
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::talk;
use crate::app::settings::args::VerifyArgs;
use crate::store::tables::models::DROPPED_TEXT;

/// The file is not a sound export.
#[derive(Debug, thiserror::Error)]
#[error("{path} is not a sound export", path = .path.display())]
struct Unsound {
    path: PathBuf,
    source: Flaw,
}

/// A message as JSON.
#[derive(Serialize)]
struct MessageLine<'a> {
    id: MessageId,
    time: Timestamp,
    author: PeerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// Whether the text is no longer kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dropped: bool,
    #[serde(skip_serializing_if = "<[PeerId]>::is_empty")]
    to: &'a [PeerId],
}

/// Verifies a file and prints its messages.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), ExitError> {
    let unsound = |source| ExitError::refused(&Unsound { path: args.file.clone(), source });
    let file = File::open(&args.file).map_err(|error| unsound(error.into()))?;
    let archive = Archive::verify(BufReader::new(file)).map_err(unsound)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for message in &archive.messages {
        let line = if args.json { json(&archive, message)? } else { text(&archive, message) };
        writeln!(out, "{line}")?;
    }
    out.flush()?;
    talk(&summary(&archive));
    Ok(())
}

fn json(archive: &Archive, message: &ArchivedMessage) -> std::io::Result<String> {
    let line = MessageLine {
        id: message.view.id,
        time: message.time(),
        author: message.author(),
        name: archive.names.get(&message.author()).map(String::as_str),
        text: message.view.text.as_deref(),
        dropped: message.is_dropped(),
        to: &message.view.to,
    };
    Ok(serde_json::to_string(&line)?)
}

fn text(archive: &Archive, message: &ArchivedMessage) -> String {
    let said = match &message.view.text {
        Some(text) => printable(text),
        None if message.is_dropped() => DROPPED_TEXT.to_owned(),
        None => {
            let to: Vec<String> = message.view.to.iter().map(|peer| name(archive, peer)).collect();
            format!("(a direct message to {}, which only they can read)", to.join(", "))
        }
    };
    format!("{} {}: {said}", message.time(), name(archive, &message.author()))
}

/// A name with the tag that no other peer can have.
fn name(archive: &Archive, peer: &PeerId) -> String {
    let tag: PeerTag = peer.tag();
    archive.names.get(peer).map_or_else(|| format!("~{tag}"), |name| format!("{}~{tag}", printable(name)))
}

fn summary(archive: &Archive) -> String {
    let begins = if archive.whole { "the founding of the room" } else { "the end of the export before" };
    let logs = archive.heads.seqs().len();
    let mut text = format!(
        "sound: the room '{}' from {begins} on, exported by {}: {} entries in {logs} logs with {} messages, none left out\n",
        printable(&archive.room_name),
        name(archive, &archive.by),
        archive.entries,
        archive.messages.iter().filter(|message| !message.is_dropped()).count()
    );
    if archive.dropped > 0 {
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "the texts of {} entries were no longer kept; their signatures are sound", archive.dropped);
    }
    for (log, seq) in &archive.absent {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "not in this file: entries up to {} of {} (log {:016x}), on which others build",
            seq.0,
            name(archive, &log.author),
            log.incarnation.0
        );
    }
    text
}
