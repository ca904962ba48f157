//! Drafts: this peer's own messages and control items that wait to be signed and written.

use std::collections::VecDeque;
use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::id::MessageId;

use crate::config::{ENTRY_BYTES_MAX, ENTRY_MESSAGES_MAX, ENTRY_REPLIES_MAX};
use crate::input::{AdmissionId, CommandId};
use crate::log::entry::{Body, Control, Dep, MessageBody};

/// Maximum number of drafts that wait for the disk; beyond, commands are refused.
const DRAFTS_MAX: usize = 4096;

/// Maximum number of bytes of drafts that wait (16 MiB).
const DRAFT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Room left in an entry for its header: the largest version of it with all dependencies is about 12 KiB.
const HEADER_BYTES_RESERVED: usize = 16 * 1024;

/// Largest body of one message, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = ENTRY_BYTES_MAX - HEADER_BYTES_RESERVED;

/// What is answered when a draft is on disk.
#[derive(Clone, Debug)]
pub(crate) enum DraftOrigin {
    /// A post, and what it waits for.
    Post(CommandId, PostWait),
    /// Another command.
    Control(CommandId),
    /// A command that is answered with an invite's ticket.
    Invite(CommandId, Box<chat_proto::ticket::Ticket>),
    /// An admission.
    Admission(AdmissionId),
    /// Nothing.
    Nobody,
}

impl DraftOrigin {
    /// The command that posted a message.
    pub(crate) fn post(&self) -> Option<CommandId> {
        match self {
            Self::Post(command, _) => Some(*command),
            Self::Control(_) | Self::Invite(..) | Self::Admission(_) | Self::Nobody => None,
        }
    }
}

/// What a post waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PostWait {
    pub(crate) wait: Wait,
    pub(crate) copies: u32,
    pub(crate) timeout: Duration,
}

/// Something to write.
#[derive(Clone, Debug)]
enum Draft {
    Message(DraftMessage, DraftOrigin),
    Control(Control, DraftOrigin),
}

/// A message to write.
#[derive(Clone, Debug)]
pub(crate) struct DraftMessage {
    pub(crate) body: MessageBody,
    /// The message that it answers.
    pub(crate) reply_to: Option<MessageId>,
    /// Length of the encoded body in bytes.
    pub(crate) bytes: usize,
}

/// What is cut from the queue for one entry.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) body: Body,
    pub(crate) origins: Vec<DraftOrigin>,
    /// Which of the messages answer others.
    pub(crate) replies: Vec<Dep>,
}

/// Drafts in the order they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drafts {
    queue: VecDeque<Draft>,
    bytes: usize,
}

impl Drafts {
    /// Queues a message; returns whether there was room.
    pub(crate) fn push_message(&mut self, message: DraftMessage, origin: DraftOrigin) -> bool {
        if self.queue.len() >= DRAFTS_MAX || self.bytes + message.bytes > DRAFT_BYTES_MAX {
            return false;
        }
        self.bytes += message.bytes;
        self.queue.push_back(Draft::Message(message, origin));
        true
    }

    /// Queues a control item; returns whether there was room.
    pub(crate) fn push_control(&mut self, control: Control, origin: DraftOrigin) -> bool {
        if self.queue.len() >= DRAFTS_MAX {
            return false;
        }
        self.queue.push_back(Draft::Control(control, origin));
        true
    }

    /// Takes what fits into one entry: one control item, or as many messages as came before the next one.
    pub(crate) fn cut(&mut self) -> Option<Cut> {
        let mut messages = Vec::new();
        let mut origins = Vec::new();
        let mut replies = Vec::new();
        let mut body_bytes = 0;
        loop {
            match self.queue.front() {
                Some(Draft::Message(next, _))
                    if messages.len() < ENTRY_MESSAGES_MAX
                        && (next.reply_to.is_none() || replies.len() < ENTRY_REPLIES_MAX)
                        && (messages.is_empty() || body_bytes + next.bytes <= MESSAGE_BYTES_MAX) => {}
                Some(Draft::Control(..)) if messages.is_empty() => {}
                Some(Draft::Message(..) | Draft::Control(..)) | None => break,
            }
            match self.queue.pop_front()? {
                Draft::Message(DraftMessage { body, reply_to, bytes }, origin) => {
                    body_bytes += bytes;
                    self.bytes -= bytes;
                    let index = u16::try_from(messages.len()).ok();
                    replies.extend(index.zip(reply_to).map(|(index, answered)| Dep::reply(index, answered)));
                    messages.push(body);
                    origins.push(origin);
                }
                Draft::Control(control, origin) => {
                    return Some(Cut { body: Body::Control(control), origins: vec![origin], replies });
                }
            }
        }
        (!messages.is_empty()).then_some(Cut { body: Body::Messages(messages), origins, replies })
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Number of drafts that wait.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Takes every origin that waits, when nothing more will be written.
    pub(crate) fn drain(&mut self) -> Vec<DraftOrigin> {
        self.bytes = 0;
        let origin = |draft| match draft {
            Draft::Message(_, origin) | Draft::Control(_, origin) => origin,
        };
        self.queue.drain(..).map(origin).collect()
    }
}
