//! What rooms of real daemons go through at any size: each file plays one kind of trouble and reports what came of it.
//!
//! * [`crash`]: daemons are killed in the middle of a conversation.
//! * [`faults`]: power losses, and every fault at once; a conversation that goes on for long.
//! * [`failover`]: the holder of the rendezvous role is taken away, again and again.
//! * [`flood`]: a member posts as fast as its daemon takes it.
//! * [`split`]: a room is cut in two and heals.
//! * [`nat`]: members behind routers, with and without UDP.
//! * [`idle`]: nothing happens; what that costs.
//!
//! Tests run them small and check the report; the programs in `src/bin` run them at the size of their arguments and print it.

pub mod crash;
pub mod failover;
pub mod faults;
pub mod flood;
pub mod idle;
pub mod nat;
pub mod split;
