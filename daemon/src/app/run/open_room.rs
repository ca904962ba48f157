//! Opens the daemon's room: returns to the room on disk, joins the target of `--join`, or founds a new one.
//!
//! The choice depends on the home and the command line alone: a stored room wins, unless this peer was always alone in it
//! and `--join` names another one, to which it moves once it is admitted ([`join`]); without one, `--join` asks the target to admit this peer, which may take minutes when a member has to run
//! `chat admit`, and `--room` founds a room. Without both, a wish to join that an earlier start left in the home is
//! resumed ([`room_memory`](crate::app::home::room_memory)); a home that was in a room and lost it is refused; only a home
//! that never was in a room founds one. Then the room is launched (`running_room`) and, if the command line
//! gives another name than the room knows this peer by, the peer is renamed.
//!
//! What went otherwise than asked (options that apply to new rooms only, a damaged database, a missing history) becomes a
//! note: a line of the startup report, not an error.
//!
//! Called once per process by [`services`](super::services), after network, store and API are open. Dropping the future
//! gives up: a knock ends, nothing is written. While this peer waits for admission, the home's lock says so, for other
//! starts, and the API answers 503 `joining`.

use chat_client::home::environment;
use std::io;
use std::path::{Path, PathBuf};

use chat_core::admission::codec::DenyReason;
use chat_core::input::Command;

use crate::app::home::Home;
use crate::app::home::lock::{HomeLock, StartStage};
use crate::app::home::room_memory::{JoinWish, RoomMark};
use crate::app::report::exit_error::{ExitError, ExitKind};
use crate::app::report::readiness::StartReporter;
use crate::app::run::join::{self, HomeRoom, JoinDecision, JoinRefused};
use crate::app::run::running_room::{DaemonContext, PreparedRoom, RoomEntry, RoomError, RunningRoom, switch_room};
use crate::app::settings::DoorPolicy;
use crate::app::settings::start_options::{RoomDescription, StartOptions, default_name, default_room};
use crate::http::api_state::NoRoom;
use crate::net::JoinError;
use crate::net::JoinTarget;
use crate::net::JoinedRoom;
use crate::net::NetEvents;
use crate::store::OpenedStore;

/// Why the daemon is in no room. What is on disk is unchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenRoomError {
    /// The home is in another room.
    #[error(transparent)]
    Refused(#[from] JoinRefused),
    /// It was not admitted.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// It was not admitted where an earlier start had asked.
    #[error("this home asks to join a room and was not admitted; '{join}' asks elsewhere, '{found}' founds a room")]
    Resumed {
        /// The command that asks elsewhere.
        join: String,
        /// The command that founds a room.
        found: String,
        /// Why.
        source: JoinError,
    },
    /// A member refused it at an earlier start.
    #[error("this home asked to join a room and was refused ({reason}): '{join}' asks again, '{found}' founds a room")]
    DeniedBefore {
        /// The member's reason.
        reason: String,
        /// The command that asks again.
        join: String,
        /// The command that founds a room.
        found: String,
    },
    /// The home's wish to join cannot be read or written.
    #[error("cannot use {path}, which holds the wish to join a room: '{join}' writes it anew")]
    Wish {
        /// The file.
        path: PathBuf,
        /// The command that writes it anew.
        join: String,
        /// Why, where that is known.
        source: Option<io::Error>,
    },
    /// The home was in a room that its files do not hold any more.
    #[error(
        "this home was in {room}, and its database is {lost}: put a backup of room.db back, join again with '{join}' (a member prints a ticket with 'chat invite'), or found a new room with '{found}'"
    )]
    RoomLost {
        /// The room.
        room: String,
        /// What happened to the database, and where the damaged one is.
        lost: String,
        /// The command that joins.
        join: String,
        /// The command that founds a room.
        found: String,
    },
    /// The room cannot be opened.
    #[error(transparent)]
    Room(#[from] RoomError),
}

impl From<OpenRoomError> for ExitError {
    fn from(error: OpenRoomError) -> Self {
        // A bad ticket is merely refused: a good one admits.
        let denied = matches!(
            error,
            OpenRoomError::Join(JoinError::Denied(DenyReason::Refused | DenyReason::Removed | DenyReason::TimedOut))
                | OpenRoomError::Resumed {
                    source: JoinError::Denied(DenyReason::Refused | DenyReason::Removed | DenyReason::TimedOut),
                    ..
                }
        );
        Self::new(if denied { ExitKind::NotAllowed } else { ExitKind::Refused }, &error)
    }
}

/// Opens the room, and adds to `notes` what went otherwise than asked. Dropping the future gives up: a knock ends.
///
/// # Errors
/// [`OpenRoomError`].
pub(crate) async fn open_room(
    plan: &StartOptions,
    base: &DaemonContext,
    opened: OpenedStore,
    net_events: NetEvents,
    (reporter, lock): (&StartReporter, &mut HomeLock),
    notes: &mut Vec<String>,
) -> Result<RunningRoom, OpenRoomError> {
    let (entry, target) = choose_entry(plan, base, &opened, (reporter, lock), notes).await?;
    let kind = EntryKind::from(&entry);
    if let Some(aside) = &opened.set_aside {
        let fetched = match kind {
            EntryKind::Founds => "",
            EntryKind::Joins | EntryKind::Returns => "; messages are fetched again from other members",
        };
        notes.push(format!("the database was damaged and was moved to {}{fetched}", aside.display()));
    }
    let mut room = PreparedRoom::new(base, opened, entry).await?.launch(base, net_events);
    if matches!(kind, EntryKind::Founds) {
        room.founded().await?;
    }
    if let Some(target) = target {
        room = move_to(target, plan, base, room, (reporter, lock), notes).await?;
    }
    remember(&base.home, &room);
    if matches!(kind, EntryKind::Joins) || target.is_some() {
        room.joined(base).await;
    }
    take_name(plan, base, &room, notes).await;
    Ok(room)
}

/// How the room is entered, without the data that entering consumes.
enum EntryKind {
    Founds,
    Joins,
    Returns,
}

impl From<&RoomEntry> for EntryKind {
    fn from(entry: &RoomEntry) -> Self {
        match entry {
            RoomEntry::Found { .. } => Self::Founds,
            RoomEntry::Admitted(_) => Self::Joins,
            RoomEntry::Return => Self::Returns,
        }
    }
}

/// Moves from a room of one to the target, once that admits this peer. The former room is as it was if it does not.
async fn move_to(
    target: &JoinTarget,
    plan: &StartOptions,
    base: &DaemonContext,
    room: RunningRoom,
    reporting: (&StartReporter, &mut HomeLock),
    notes: &mut Vec<String>,
) -> Result<RunningRoom, OpenRoomError> {
    let roster = room.node.roster();
    let name = plan.rename.clone().unwrap_or_else(|| roster.peer_ref(&base.me).name);
    let joined = match knock(base, target, &name, reporting).await {
        Ok(joined) => joined,
        Err(error) => {
            room.stop().await;
            return Err(error.into());
        }
    };
    match switch_room(base, room, joined).await {
        (Some(room), Ok(())) => {
            notes.push(join::moved_from(&roster.room_name));
            Ok(room)
        }
        (former, result) => {
            if let Some(former) = former {
                former.stop().await;
            }
            Err(result.err().unwrap_or(RoomError::Broken).into())
        }
    }
}

/// How the room is entered, and the target to which this peer then moves.
async fn choose_entry<'a>(
    plan: &'a StartOptions,
    base: &DaemonContext,
    opened: &OpenedStore,
    reporting: (&StartReporter, &mut HomeLock),
    notes: &mut Vec<String>,
) -> Result<(RoomEntry, Option<&'a JoinTarget>), OpenRoomError> {
    let name = || plan.settings.name.clone().unwrap_or_else(|| default_name(&base.me, environment));
    let store = &opened.store;
    match (store.room(), &plan.join) {
        (Some(room), target) => {
            if plan.describes_room == RoomDescription::Yes {
                notes.push(format!(
                    "the room '{}' already exists: --room and --open apply to a new room only",
                    room.name
                ));
            }
            if let Some(target) = target {
                let restored = store.restore().await.map_err(RoomError::from)?;
                let occupancy = join::occupancy(&restored.map(|restored| restored.controls).unwrap_or_default());
                let room = HomeRoom { id: room.id, name: room.name, occupancy };
                match join::check(target, &room, &plan.home)? {
                    JoinDecision::Stays(note) => notes.extend(note),
                    JoinDecision::Moves => return Ok((RoomEntry::Return, Some(target))),
                }
            }
            Ok((RoomEntry::Return, None))
        }
        (None, Some(target)) => {
            let wish = JoinWish { target: target.as_given(), name: name(), denied: None };
            wish.write(&base.home).map_err(|source| wish_error(&base.home, Some(source)))?;
            Ok((ask(base, target, wish, reporting).await?, None))
        }
        (None, None) => {
            if plan.describes_room == RoomDescription::No
                && let Some(entry) = resume(plan, base, opened.set_aside.as_deref(), reporting).await?
            {
                return Ok((entry, None));
            }
            JoinWish::remove(&base.home).map_err(|source| wish_error(&base.home, Some(source)))?;
            let name = name();
            let room_name = plan.settings.room.clone().unwrap_or_else(|| default_room(&name));
            Ok((RoomEntry::Found { room_name, open: plan.settings.door == DoorPolicy::Open, name }, None))
        }
    }
}

/// Resumes an earlier wish to join. `None` if the home never was in a room, nor asked to be: a room may be founded.
async fn resume(
    plan: &StartOptions,
    base: &DaemonContext,
    set_aside: Option<&Path>,
    reporting: (&StartReporter, &mut HomeLock),
) -> Result<Option<RoomEntry>, OpenRoomError> {
    let home = &base.home;
    let (join, found) = (home.command("chatd start --join TICKET"), home.command("chatd start --room NAME"));
    let wish = JoinWish::read(home).map_err(|_| wish_error(home, None))?;
    if let Some(JoinWish { denied: Some(reason), .. }) = wish {
        return Err(OpenRoomError::DeniedBefore { reason, join, found });
    }
    if let Some(mut wish) = wish {
        let target = JoinTarget::parse(&wish.target).map_err(|_| wish_error(home, None))?;
        wish.name = plan.rename.clone().unwrap_or(wish.name);
        let entry = ask(base, &target, wish, reporting).await;
        return entry.map(Some).map_err(|source| OpenRoomError::Resumed { join, found, source });
    }
    let Some(mark) = RoomMark::of_lost_room(home, set_aside) else { return Ok(None) };
    if let Err(error) = mark.write(home) {
        tracing::warn!(%error, "the home does not say that it was in a room");
    }
    let room = if mark.room_name.is_empty() { "a room".into() } else { format!("the room '{}'", mark.room_name) };
    let lost = match set_aside {
        Some(aside) => format!("damaged and was moved to {}", aside.display()),
        None => "gone".into(),
    };
    Err(OpenRoomError::RoomLost { room, lost, join, found })
}

fn wish_error(home: &Home, source: Option<io::Error>) -> OpenRoomError {
    let join = home.command("chatd start --join TICKET");
    OpenRoomError::Wish { path: home.root().join("join.json"), join, source }
}

/// Writes into the home that it is in this room, and that it asks for no other. Should the disk be full, the next start
/// does so.
pub(crate) fn remember(home: &Home, room: &RunningRoom) {
    let Some(record) = room.store.room() else { return };
    let mark = RoomMark { room: Some(record.id), room_name: record.name };
    if let Err(error) = mark.write(home).and_then(|()| JoinWish::remove(home)) {
        tracing::warn!(%error, "the home does not say yet that it is in a room");
    }
}

/// Asks the target to admit this peer, and notes in the home's wish when it is refused for good.
async fn ask(
    base: &DaemonContext,
    target: &JoinTarget,
    wish: JoinWish,
    reporting: (&StartReporter, &mut HomeLock),
) -> Result<RoomEntry, JoinError> {
    let joined = knock(base, target, &wish.name, reporting).await;
    if let Err(JoinError::Denied(reason)) = &joined
        && is_final(*reason)
    {
        let denied = JoinWish { denied: Some(reason.to_string()), ..wish };
        if let Err(error) = denied.write(&base.home) {
            tracing::warn!(%error, "the home does not say that it was refused");
        }
    }
    Ok(RoomEntry::Admitted(Box::new(joined?)))
}

/// Asks the target to admit this peer; a member may have to do so by hand.
async fn knock(
    base: &DaemonContext,
    target: &JoinTarget,
    name: &str,
    (reporter, lock): (&StartReporter, &mut HomeLock),
) -> Result<JoinedRoom, JoinError> {
    tracing::info!(%target, "asking to be admitted");
    base.slot.remove(NoRoom::Joining);
    if let Err(error) = lock.set_stage(StartStage::Joining) {
        tracing::warn!(%error, "the lock file does not say that this peer waits for admission");
    }
    let joined = base.net.join(target.clone(), name, &|words| reporter.knocking(words)).await?;
    base.slot.remove(NoRoom::Starting);
    tracing::info!(room = %joined.admitted.room.short(), door = %joined.door.short(), "admitted");
    Ok(joined)
}

/// Whether asking again in the same way would be refused again.
const fn is_final(reason: DenyReason) -> bool {
    match reason {
        DenyReason::OtherRoom
        | DenyReason::UnknownInvite
        | DenyReason::Expired
        | DenyReason::Revoked
        | DenyReason::UsedUp
        | DenyReason::Refused
        | DenyReason::Removed
        | DenyReason::BadName => true,
        DenyReason::Busy | DenyReason::NotReady | DenyReason::TimedOut => false,
    }
}

/// Renames this peer if the command line gives another name than the room knows.
async fn take_name(plan: &StartOptions, base: &DaemonContext, room: &RunningRoom, notes: &mut Vec<String>) {
    let roster = room.node.roster();
    let Some(known) = roster.people.get(&base.me) else {
        notes.push("the history of the room has not arrived yet: it will as soon as a member can be reached".into());
        return;
    };
    if !known.active {
        notes.push(format!("this peer is no longer a member of '{}': it can read earlier messages", roster.room_name));
        return;
    }
    let Some(name) = plan.rename.as_ref().filter(|name| **name != known.peer.name) else {
        return;
    };
    if let Err(error) = room.node.command(Command::Rename(name.clone())).await {
        notes.push(format!("this peer is still called '{}': {error}", known.peer.name));
    }
}
