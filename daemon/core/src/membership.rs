//! Membership: members, names, roles and invites, derived from the control entries that are held and from nothing else.

pub(crate) mod control_log;
pub(crate) mod derive;
pub(crate) mod replay;
pub mod roster;
