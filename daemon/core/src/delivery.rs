//! Delivery: own messages on their way out, entries of others on their way in.

pub(crate) mod drafts;
pub(crate) mod receipts;
pub(crate) mod sync;
pub mod tree;
