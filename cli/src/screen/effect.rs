//! What the model asks the world to do, and what comes back.

use chat_client::{ClientError, OutgoingMessage};
use chat_proto::api::members::Knock;
use chat_proto::api::messages::{HistoryQuery, Message, SentMessage};
use chat_proto::api::peers::{MemberRole, PeerView};
use chat_proto::api::status::Status;
use chat_proto::id::{KnockId, MessageId};

use super::compose::command::{InfoPage, KnockDecision};
use crate::error::CliError;

/// What is to be done outside of the model.
#[derive(Debug)]
pub(crate) enum ScreenEffect {
    /// Call the daemon; the answer comes back.
    Ask(Ask),
    /// Ring the bell.
    Bell,
    /// Notify the desktop.
    Notify(String),
    /// Set the title of the terminal.
    Title(String),
    /// Stop this process until it is continued.
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// TimelineEnd.
    Leave,
}

/// A call of the daemon.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Post a message.
    Send {
        /// Its number in the outbox.
        ticket: u64,
        /// The message.
        message: Box<OutgoingMessage>,
    },
    /// Read a part of the history.
    History(HistoryPart),
    /// Look for words, before a message if one is given.
    Search {
        /// What to look for.
        query: Box<HistoryQuery>,
    },
    /// The members.
    Peers,
    /// The daemon's status.
    Status,
    /// The newcomers that wait.
    Knocks,
    /// How far an own message has come.
    Delivery(MessageId),
    /// Note that everything up to this message was read.
    Mark(MessageId),
    /// A text for a window.
    Show(InfoPage),
    /// A change.
    Change(RoomChange),
}

/// A part of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HistoryPart {
    /// The newest messages.
    Newest,
    /// Those before this one.
    Before(MessageId),
    /// Those after this one.
    After(MessageId),
    /// Those around this one.
    Around(MessageId),
    /// Those from a point in time on, as the API takes it.
    From(String),
}

/// Something that changes the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoomChange {
    /// Answer a knock.
    Knock(KnockId, KnockDecision),
    /// Remove a member.
    Remove(String),
    /// Set the role of a member.
    Role(String, MemberRole),
    /// Accept the member to which a name has moved.
    Trust(String),
    /// Rename this peer.
    Name(String),
}

/// Messages of the history, oldest first.
#[derive(Debug)]
pub(crate) struct Messages {
    /// The messages.
    pub(crate) messages: Vec<Message>,
    /// Whether there are more before the first one.
    pub(crate) older: bool,
    /// Whether there are more behind the last one.
    pub(crate) newer: bool,
}

/// What a call gave.
#[derive(Debug)]
pub(crate) enum DaemonAnswer {
    /// A message was posted, or not.
    Sent(u64, Result<Box<SentMessage>, CliError>),
    /// A part of the history.
    History(HistoryPart, Result<Messages, ClientError>),
    /// What was found, newest last, and whether there is more.
    Found(Result<Messages, ClientError>),
    /// The members.
    Peers(Result<Vec<PeerView>, ClientError>),
    /// The status.
    Status(Result<Box<Status>, ClientError>),
    /// The newcomers that wait.
    Knocks(Result<Vec<Knock>, ClientError>),
    /// How far an own message has come.
    Delivery(Result<Box<SentMessage>, ClientError>),
    /// The mark of what was read is kept, or not.
    Marked(Result<(), ClientError>),
    /// Title and lines of a window.
    Shown(&'static str, Result<Vec<String>, CliError>),
    /// A change was made: what to say.
    Changed(Result<String, CliError>),
}
