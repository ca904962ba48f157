//! Failed writes that are tried again as soon as a write succeeds, so that they are not lost.

use std::collections::VecDeque;

use chat_proto::event::Event;
use tracing::warn;

use crate::store::types::Write;
use crate::store::writer::queue::Task;

/// Maximum number of failed writes that are kept: members come and go while the disk is full. Beyond it the oldest are
/// dropped; other members send them again.
const WRITES_MAX: usize = 256;

/// Writes to try again, in order.
#[derive(Debug, Default)]
pub(in crate::store) struct RetryQueue {
    writes: VecDeque<Write>,
    events_lost: bool,
}

impl RetryQueue {
    /// Keeps a failed write. Events are not kept, as their time would be wrong: readers receive a gap event instead.
    pub(in crate::store) fn push(&mut self, write: Write) {
        match write {
            Write::Event(_) => self.events_lost = true,
            Write::Batch(..) => {}
            Write::Addrs(_) | Write::Seen(_) | Write::Repair(_) => {
                if self.writes.len() >= WRITES_MAX {
                    warn!("too many writes wait for the disk, the oldest is dropped");
                    self.writes.pop_front();
                }
                self.writes.push_back(write);
            }
        }
    }

    /// Tasks to try now.
    pub(in crate::store) fn tasks(&self) -> Vec<Task> {
        let gap = self.events_lost.then(|| {
            let reason = "events could not be written: the disk was full or failing".to_owned();
            Write::Event(Box::new(Event::Gap { reason }))
        });
        self.writes.iter().cloned().chain(gap).map(|write| Task::Write(write, 0)).collect()
    }

    /// Forgets the writes, after they succeeded.
    pub(in crate::store) fn clear(&mut self) {
        self.writes.clear();
        self.events_lost = false;
    }
}
