//! Crashes at chosen steps: a trap waits on a machine for the next write, sending or answer.

use crate::input::Input;
use crate::output::{Output, Reply};
use crate::sim::room::machine::Host;
use crate::sim::room::plan::CrashPoint;
use crate::sim::room::world::RoomWorld;
use crate::wire::Frame;

impl RoomWorld {
    /// The process of a machine will die at a step of its work.
    pub(super) fn set_trap(&mut self, host: Host) {
        let trap = self.pick(&CrashPoint::ALL);
        self.machine(host).trap = trap;
    }

    /// Whether the process dies at this step; it is gone then.
    pub(super) fn springs(&mut self, host: Host, point: CrashPoint) -> bool {
        if self.at(host).trap != Some(point) {
            return false;
        }
        *self.stats.points.entry(point).or_default() += 1;
        if point == CrashPoint::BeforeQueued || point == CrashPoint::Written {
            // What was to be queued is lost, or what is on disk was never reported.
            self.stats.unwritten += u64::from(self.at(host).disk.ops.is_empty());
        }
        self.crash(host);
        self.restart_later(host);
        true
    }

    /// A machine whose process died comes back.
    pub(super) fn restart_later(&mut self, host: Host) {
        let after = self.between_ms(50, 20_000);
        self.schedule(after, move |world| world.start(host));
    }

    /// Carries out the outputs of a node one by one, unless its process dies in between.
    pub(super) fn carry_out(&mut self, host: Host, outputs: Vec<Output>) {
        let life = self.at(host).life;
        for output in outputs {
            let (before, after) = points(&output);
            if before.is_some_and(|point| self.springs(host, point)) {
                return;
            }
            self.trace(host, || crate::sim::room::checks::trace::output(&output));
            self.output(host, output);
            if after.is_some_and(|point| self.springs(host, point)) || self.at(host).life != life {
                return;
            }
        }
    }

    /// A batch is on disk: the node learns of it, or its process has died.
    pub(super) fn batch_is_written(&mut self, host: Host, input: Input, mark: Option<super::lifecycle::Mark>) {
        if self.at(host).trap == Some(CrashPoint::Written) && self.chance(0.5) {
            // The second record of the head is written behind the batch.
            if let Some(held) = &mut self.machine(host).disk.held {
                held.mark = mark;
            }
        }
        if !self.springs(host, CrashPoint::Written) {
            self.input(host, input);
        }
    }
}

/// The steps before and after an output.
fn points(output: &Output) -> (Option<CrashPoint>, Option<CrashPoint>) {
    let entries = |frame: &[u8]| matches!(Frame::decode(frame), Ok(Frame::Entries(_)));
    if let Output::Persist(_) = output {
        (Some(CrashPoint::BeforeQueued), Some(CrashPoint::AfterQueued))
    } else if let Output::Reply(_, Ok(Reply::Posted { .. })) = output {
        (None, Some(CrashPoint::Acknowledged))
    } else if let Output::Send(_, frame) = output {
        (None, entries(frame).then_some(CrashPoint::Sending))
    } else {
        (None, None)
    }
}
