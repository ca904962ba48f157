//! The room as a pure state machine.
//!
//! [`Node`](node::Node) is one peer of one room. It owns no socket, clock, thread, file or source of randomness: the
//! daemon feeds it [`Input`](input::Input)s together with the time, drains its [`Output`](output::Output)s and executes
//! them, and asks when it wants to be woken. Thousands of rooms with crashes, partitions and lost packets therefore run
//! in one process from one seed, and a bug that was found once can be reproduced.
//!
//! # Where things are
//!
//! * [`node`]: the state machine. It owns the parts below, and decides what concerns several of them.
//! * [`log`]: signed entries, hash chains, version vectors, forks, entries that wait for their dependencies or the disk.
//! * [`membership`]: members, names, roles and invites, derived from the control entries that are held and nothing else.
//! * [`peers`]: connections to other peers, their addresses, liveness and presence, and when they are dialled.
//! * [`delivery`]: drafts, this peer's own log, ingest, receipts, anti-entropy, dissemination over the broadcast tree.
//! * [`admission`]: how a stranger becomes a member.
//! * [`rendezvous`]: the rendezvous role: its holder, its followers, and how it moves.
//! * `context`: the time, timers, randomness, settings and outputs, which every part works with.
//! * [`wire`], [`input`], [`output`], [`restore`]: frames between members, and the border to the daemon.
//!
//! Two pages teach the role: *how the role moves* is in [`rendezvous`]; *who decides that the holder is gone* is in
//! `rendezvous/follower/failure_detector.rs`.
//!
//! # A message in ten steps
//!
//! From `chat send 'hello'` on one machine to the screen on another. Paths are relative to the repository.
//!
//! 1. **Command line.** `cli/src/commands/send.rs` splits recipients from text and posts a `SendRequest` (crate
//!    `chat-proto`) with an idempotency key to the local daemon, over a Unix socket.
//! 2. **HTTP.** `daemon/src/http/messages.rs` checks the request and looks its key up: a repeated request is answered with
//!    the message that the first one wrote.
//! 3. **Use case.** The daemon's `Send` checks recipients. A direct message is sealed by the store first
//!    (`daemon/src/store/dm`), which flushes the ratchet before anything can leave. A [`Command::Post`](input::Command)
//!    goes through the node's handle to the driver (`daemon/src/node/driver.rs`), the one task that owns the `Node`.
//! 4. **Draft.** [`Node::handle`](node::Node::handle) checks the bounds and puts the message into the drafts
//!    (`delivery/drafts.rs`).
//! 5. **Entry.** At the end of the same call, unless a batch is being written, all drafts that fit become the messages of
//!    one signed [`Entry`](log::entry::Entry): chained to the entry before it, with the newest foreign entries as
//!    dependencies. [`Output::Persist`](output::Output::Persist) carries it out (`delivery/own_log.rs`, `log/disk.rs`).
//! 6. **Disk.** The store's writer thread commits the entry and the rows derived from it in one transaction, and flushes.
//! 7. **Stored.** [`Input::Persisted`](input::Input::Persisted) returns. Only now is the own entry applied, sent and
//!    answered: `chat send` ends here unless it waits for copies.
//! 8. **Sending.** In a small room a [`Frame::Entries`](wire::Frame::Entries) goes to every connected member; in a large
//!    one the broadcast tree carries it (`delivery/dissemination.rs`, `daemon/src/plumtree.rs`). The network (`daemon/src/net`)
//!    writes it to each peer's QUIC stream.
//! 9. **Receiving.** The other node verifies the entry, holds it back until its dependencies are there, applies it and
//!    passes it on (`delivery/ingest.rs`). The next batch writes it, shows it (step 10) and flushes it; then its author receives
//!    [`Frame::Held`](wire::Frame::Held): a receipt, which `replicated` and `delivered` count, at once if it waits for one and
//!    otherwise one for all entries of some 30 ms (`delivery/receipts.rs`).
//! 10. **Screen.** The commit publishes an event; `daemon/src/http/events` streams it, and `chat tail` or `chat` prints it.
//!
//! What is lost on the way is repaired by anti-entropy (`delivery/sync.rs`): peers compare version vectors and fetch ranges.
//!
//! # What is on disk
//!
//! A home (`CHATD_HOME`) has these files; directories have mode 0700, secrets 0600.
//!
//! | file | holds |
//! |---|---|
//! | `identity.key` | the secret key of this peer |
//! | `room.db` (`-wal`, `-shm`) | the room, in SQLite; its tables are below |
//! | `room.json` | which room to return to when the database is lost, and addresses of members |
//! | `head.mark` | the newest own entry that was flushed: shows that `room.db` was not rolled back |
//! | `config.toml` | settings |
//! | `chatd.log` | the log of the daemon, rotated by size |
//! | `lock` | held while a daemon uses the home |
//! | `run/` | while it runs: `chatd.sock` (API), `api.json` (how to reach it), `token` (API over TCP), `lock` |
//!
//! | tables of `room.db` | hold | rebuilt from |
//! |---|---|---|
//! | `facts` | one row: this peer, its room, incarnation and database number | - |
//! | `peers`, `logs` | short row ids of peers and logs | - |
//! | `entries` | every signed entry as it travels: header, signature, body (unless it was dropped) | - |
//! | `lacking`, `held` | entries that came without their bodies; since when entries are held | - |
//! | `forks` | proofs of forks; `entries` beyond each are filed in branches | - |
//! | `addrs`, `seen` | newest address record of each peer; when it was last seen | - |
//! | `keys` | idempotency keys of sends | - |
//! | `messages`, `recipients`, `search` | readable messages, whom they are for, the full-text index | `entries` |
//! | `events` | the event stream; row ids are cursors | - |
//! | `dm_account`, `dm_sessions`, `dm_identities`, `dm_outbox` | state of direct messages (Olm), encrypted with the peer's key | - |
//!
//! # Glossary
//!
//! * **peer**: a running `chatd`, named by its Ed25519 public key.
//! * **member**: a peer that was admitted and has neither left nor been removed.
//! * **admin**: a member that may remove members and grant this right; the founder is one.
//! * **room**: the members and their entries; named by the hash of its first entry.
//! * **log**: the hash chain of entries that one author writes under one incarnation.
//! * **entry**: a signed unit of a log: 1 to N messages, or one control item (admission, removal, rename …).
//! * **body**: the content of an entry. That of messages may be dropped; header and signature are kept, and the chain holds.
//! * **message**: what a member says to the room or, sealed, to some members.
//! * **author**: the peer whose key signed an entry.
//! * **incarnation**: random number of a database; a restored copy writes under a new one and cannot fork its own past.
//! * **sequence number**: position of an entry in its log, from 1.
//! * **head**: the newest entry of a log as a peer holds it.
//! * **version vector**: the heads of all logs that a peer holds; comparing two shows what either lacks.
//! * **dependency**: an entry of another log that the author held when it wrote; it is applied first everywhere.
//! * **fork**: a log that was continued twice from one entry on, as when a home is rolled back; the log ends before it.
//! * **branch**: one continuation of a forked log, a log of its own, which all members hold and show.
//! * **void log**: a log of which no entry is valid, because its author was not a member when it began.
//! * **cut**: the last valid sequence number of a log that a removal or leaving ended.
//! * **anti-entropy**: the periodic comparison of version vectors that repairs what sending missed.
//! * **broadcast tree**: in large rooms, the bounded-degree overlay (HyParView, PlumTree) that spreads entries.
//! * **knock**: a stranger's request to be admitted without a ticket; a member answers it.
//! * **ticket**: one text line with the room, some addresses and the secret of an invite.
//! * **invite**: the entry that allows a number of admissions with one one-time key until a date.
//! * **admission**: the entry that makes a peer a member, and the protocol before it.
//! * **rendezvous role**: the duty to be the front door and relay, and to rank and name successors; gives no authority.
//! * **holder**: the member that has the role, as far as a peer knows.
//! * **follower**: every other member.
//! * **term**: number of a holding of the role; the higher one wins.
//! * **claim**: a signed statement that its author holds the role in a term.
//! * **succession list**: up to five members, best first, that the holder named to take over.
//! * **handover**: a planned move of the role, make before break.
//! * **failure detector**: the part that infers from silence and closed connections that a peer is gone.
//! * **suspicion**: a follower's doubt about the holder, shared with others until it is confirmed or refuted.
//! * **relay**: the embedded `iroh-relay` server that carries packets between peers that have no direct path.
//! * **forwarder**: the local TCP proxy that iroh uses as its only relay and that connects to the present one.
//! * **direct path, relayed path**: a connection without, or with, a relay in between.
//! * **cursor**: position in the event stream; a reader that resumes at one misses nothing.
//! * **receipt**: a peer's statement that it holds a log on disk up to a sequence number.

pub mod admission;
pub mod config;
mod connectivity;
mod context;
pub mod delivery;
pub mod input;
pub mod log;
pub mod membership;
pub mod node;
pub mod output;
pub mod peers;
pub mod rendezvous;
pub mod restore;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code))]
pub mod sim;
pub mod types;
pub mod wire;

pub use context::{fair_share, token_bucket};
pub use log::signature;
