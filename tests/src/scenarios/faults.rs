//! Faults that real daemons must survive, and what is checked after them.
//!
//! * [`power_loss`]: the power fails at any write of a daemon's disk. [`disk_shim`](crate::process::disk_shim) records what reaches the disk, and
//!   [`disk_image`] is what is left of it.
//! * [`torture`]: all of it at once, for as long as one likes.
//! * [`soak`]: a room that talks for long.
//! * [`posting`]: messages to daemons that may be down. [`random`]: numbers that a seed repeats.

pub mod disk_image;
pub mod posting;
pub mod power_loss;
pub mod random;
pub mod soak;
pub mod torture;
