//! Delivery: own messages on their way out, entries of others on their way in.

pub(crate) mod dissemination;
pub(crate) mod drafts;
pub(crate) mod ingest;
pub(crate) mod own_log;
pub(crate) mod receipts;
pub(crate) mod sync;
pub mod tree;
