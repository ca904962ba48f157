//! The room on the whole screen: `chat` without a command, on a terminal that can do more than print lines.
//!
//! * [`app`] is the model: keys, events and answers go in, effects come out; it does no IO. Its parts are [`timeline`] (the
//!   history in memory and the window on it), [`compose`] (what is typed, and what waits to be posted), [`room`] and
//!   [`overlay`] (windows).
//! * [`view`] draws the model with [`theme`]; tests draw it on a screen in memory.
//! * [`driver`] has the terminal, the keyboard, the event stream and the calls, and waits: without an event nothing runs.

mod app;
mod areas;
mod compose;
mod driver;
mod effect;
mod overlay;
mod room;
mod settings;
mod theme;
mod timeline;
mod view;

pub(crate) use driver::run;
