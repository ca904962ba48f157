//! What a peer does in every state of the role: it compares with neighbours, measures and reports, and keeps connections,
//! watch and relay in line with its state.

pub(crate) mod gossip;
pub(crate) mod observer;
pub(crate) mod reconciler;
pub(crate) mod relay_order;
