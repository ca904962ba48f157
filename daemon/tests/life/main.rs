//! The life of the real process: started, asked, stopped, killed, and what people read when something is wrong.

mod commands;
mod errors;
mod join;
mod run;
mod start;
mod stop;
