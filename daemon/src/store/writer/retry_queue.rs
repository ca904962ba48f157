//! Writes that failed and are not lost by it: they are tried again when something succeeds.

use std::collections::VecDeque;

use chat_proto::event::Event;
use tracing::warn;

use crate::store::Write;
use crate::store::writer::queue::Task;

/// Most writes that wait for the disk: members come and go and are heard of while it is full. Beyond, the oldest go,
/// which the other members tell again.
const DEFERRED_MAX: usize = 256;

/// Writes to try again, in order.
#[derive(Debug, Default)]
pub(in crate::store) struct Deferred {
    writes: VecDeque<Write>,
    events_lost: bool,
}

impl Deferred {
    /// Keeps a write that failed. Events are not kept: their time would be wrong; readers are told of the gap instead.
    pub(in crate::store) fn push(&mut self, write: Write) {
        match write {
            Write::Event(_) => self.events_lost = true,
            Write::Batch(..) => {}
            Write::Hide(..) | Write::Addrs(_) | Write::Fork(..) | Write::Seen(_) | Write::Incarnation(_) => {
                if self.writes.len() >= DEFERRED_MAX {
                    warn!("too much waits for the disk, the oldest is given up");
                    self.writes.pop_front();
                }
                self.writes.push_back(write);
            }
        }
    }

    /// What is to be tried now, if anything.
    pub(in crate::store) fn tasks(&self) -> Vec<Task> {
        let gap = self.events_lost.then(|| {
            let reason = "events could not be written: the disk was full or failing".to_owned();
            Write::Event(Box::new(Event::Gap { reason }))
        });
        self.writes.iter().cloned().chain(gap).map(|write| Task::Write(write, 0)).collect()
    }

    /// All of it succeeded.
    pub(in crate::store) fn clear(&mut self) {
        self.writes.clear();
        self.events_lost = false;
    }
}
