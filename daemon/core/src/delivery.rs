//! Delivery: own messages on their way out, entries of others on their way in.

pub(crate) mod budget;
pub(crate) mod dissemination;
pub(crate) mod drafts;
pub(crate) mod ingest;
pub(crate) mod own_log;
pub(crate) mod receipts;
pub(crate) mod sync;
pub mod tree;

use budget::Budgets;
use dissemination::Dissemination;
use drafts::Drafts;
use receipts::Receipts;
use sync::Sync;

/// Messages on their way: own drafts and receipts, ranges requested of others, and how entries spread.
#[derive(Default)]
pub(crate) struct Delivery {
    pub(crate) drafts: Drafts,
    pub(crate) receipts: Receipts,
    pub(crate) sync: Sync,
    pub(crate) dissemination: Dissemination,
    pub(crate) budgets: Budgets,
}
