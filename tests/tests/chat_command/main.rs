//! `chat` as its users run it, against a small daemon of the same contract.

mod answers;
mod calls;
mod completions;
mod fake;
mod http;
mod log;
mod process;
mod pty;
mod room;
mod send;
mod tail;
