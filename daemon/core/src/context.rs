//! What every part of a node works with besides its own state: the time, timers, randomness, settings, and the outputs.

pub mod fair_share;
pub(crate) mod timers;
pub mod token_bucket;

use std::collections::VecDeque;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::NodeSettings;
use crate::context::timers::{Timer, Timers};
use crate::input::{CommandId, Now};
use crate::output::{CommandError, Output, Reply};

/// Given to a part together with what it may change.
pub(crate) struct NodeContext {
    /// The time of the present input.
    pub(crate) now: Now,
    pub(crate) settings: NodeSettings,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) timers: Timers<Timer>,
    pub(crate) out: VecDeque<Output>,
}

impl NodeContext {
    pub(crate) fn new(settings: NodeSettings, seed: [u8; 32], now: Now) -> Self {
        let rng = ChaCha8Rng::from_seed(seed);
        Self { now, settings, rng, timers: Timers::new(), out: VecDeque::new() }
    }

    /// A random number in 0..1, to spread what many peers would do at the same time.
    pub(crate) fn jitter(&mut self) -> f64 {
        self.rng.random_range(0.0..1.0)
    }

    /// Sets or moves a deadline to a time from now.
    pub(crate) fn set(&mut self, timer: Timer, wait: Duration) {
        self.timers.set(timer, self.now.mono + wait);
    }

    /// The same unless it is set to an earlier time.
    pub(crate) fn set_earlier(&mut self, timer: Timer, wait: Duration) {
        self.timers.set_earlier(timer, self.now.mono + wait);
    }

    /// Sets a deadline to a time of the monotonic clock; without one it is cancelled.
    pub(crate) fn set_at(&mut self, timer: Timer, at: Option<Duration>) {
        match at {
            Some(at) => self.timers.set(timer, at),
            None => self.timers.cancel(timer),
        }
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.out.push_back(output);
    }

    /// Answers a command.
    pub(crate) fn reply(&mut self, command: CommandId, reply: Result<Reply, CommandError>) {
        self.push(Output::Reply(command, reply));
    }
}
