//! The store: SQLite on its own thread.
