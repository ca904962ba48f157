//! Where the person left off reading: kept by the daemon across runs, and shown as a line above the first unread message.

use chat_proto::id::MessageId;

/// What is known of the mark.
#[derive(Debug, Default)]
pub(crate) struct ReadingMark {
    /// The message up to which the run before had read, until it is found in the history.
    left_off: Option<MessageId>,
    /// The newest message that was read.
    read: Option<MessageId>,
    /// The one that the daemon keeps, or is about to.
    kept: Option<MessageId>,
}

impl ReadingMark {
    /// Begins where an earlier run left off.
    pub(crate) fn resume(&mut self, message: Option<MessageId>) {
        *self = Self { left_off: message, read: message, kept: message };
    }

    /// The message up to which the run before had read, while it is looked for.
    pub(crate) fn left_off(&self) -> Option<MessageId> {
        self.left_off
    }

    /// The message was found, or is no longer looked for.
    pub(crate) fn found(&mut self) {
        self.left_off = None;
    }

    /// Everything up to this message was read.
    pub(crate) fn has_read(&mut self, message: Option<MessageId>) {
        self.read = message.or(self.read);
    }

    /// The message to note at the daemon, if it is another one than before.
    pub(crate) fn take_mark(&mut self) -> Option<MessageId> {
        if self.read == self.kept {
            return None;
        }
        self.kept = self.read;
        self.read
    }

    /// The newest message that was read, for the end of the program: what was noted before may not have arrived.
    pub(crate) fn last(&self) -> Option<MessageId> {
        self.read
    }

    /// The daemon did not take it: it is to be noted again.
    pub(crate) fn failed(&mut self) {
        self.kept = None;
    }
}
