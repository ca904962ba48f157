//! The life of the process: arguments, configuration, identity, start, stop.
