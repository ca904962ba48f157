//! `chatd` as a process: started in the background and in the foreground, joining, stopped, killed, and what it prints.

mod commands;
mod join;
mod lifecycle;
mod refusals;
mod start;
mod stop;
