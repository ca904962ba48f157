//! What the process tells: start and status for people and programs, readiness for its parent, log, errors with exit codes.

pub(crate) mod exit_error;
pub(crate) mod logging;
pub(crate) mod readiness;
pub(crate) mod startup_report;
