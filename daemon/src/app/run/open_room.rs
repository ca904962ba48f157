//! Opens the daemon's room: returns to the room on disk, joins the target of `--join`, or founds a new one.
//!
//! The choice depends on the database and the command line alone: a stored room wins, and `--join` is only checked against
//! it ([`join`]); without one, `--join` asks the target to admit this peer, which may take minutes when a member has to run
//! `chat admit`; without both, a room is founded. Then the room is launched ([`running_room`]) and, if the command line
//! gives another name than the room knows this peer by, the peer is renamed.
//!
//! What went otherwise than asked (options that apply to new rooms only, a damaged database, a missing history) becomes a
//! note: a line of the startup report, not an error.
//!
//! Called once per process by [`services`](super::services), after network, store and API are open. Dropping the future
//! gives up: a knock ends, nothing is written. While this peer waits for admission, the home's lock says so, for other
//! starts, and the API answers 503 `joining`.

use chat_client::home::environment;
use chat_core::admission::codec::DenyReason;
use chat_core::input::Command;

use crate::app::home::lock::{HomeLock, StartStage};
use crate::app::report::exit_error::{ExitError, ExitKind};
use crate::app::report::readiness::StartReporter;
use crate::app::run::join::{self, HomeRoom, JoinRefused};
use crate::app::run::running_room::{DaemonContext, PreparedRoom, RoomEntry, RoomError, RunningRoom};
use crate::app::settings::DoorPolicy;
use crate::app::settings::start_options::{RoomDescription, StartOptions, default_name, default_room};
use crate::http::api_state::NoRoom;
use crate::net::JoinError;
use crate::net::JoinTarget;
use crate::net::NetEvents;
use crate::store::{OpenedStore, Store};

/// Why the daemon is in no room. What is on disk is unchanged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenRoomError {
    /// The home is in another room.
    #[error(transparent)]
    Refused(#[from] JoinRefused),
    /// It was not admitted.
    #[error(transparent)]
    Join(#[from] JoinError),
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
    reporting: (&StartReporter, &mut HomeLock),
    notes: &mut Vec<String>,
) -> Result<RunningRoom, OpenRoomError> {
    if let Some(aside) = &opened.set_aside {
        let aside = aside.display();
        notes.push(format!(
            "the database was damaged and was moved to {aside}; messages are fetched again from other members"
        ));
    }
    let entry = choose_entry(plan, base, &opened.store, reporting, notes).await?;
    let kind = EntryKind::from(&entry);
    let mut room = PreparedRoom::new(base, opened, entry).await?.launch(base, net_events);
    match kind {
        EntryKind::Founds => room.founded().await?,
        EntryKind::Joins => room.joined(base).await,
        EntryKind::Returns => {}
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

async fn choose_entry(
    plan: &StartOptions,
    base: &DaemonContext,
    store: &Store,
    reporting: (&StartReporter, &mut HomeLock),
    notes: &mut Vec<String>,
) -> Result<RoomEntry, OpenRoomError> {
    let name = || plan.settings.name.clone().unwrap_or_else(|| default_name(&base.me, environment));
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
                notes.extend(join::check(target, &room, &plan.home)?);
            }
            Ok(RoomEntry::Return)
        }
        (None, Some(target)) => ask(base, target, &name(), reporting).await,
        (None, None) => {
            let name = name();
            let room_name = plan.settings.room.clone().unwrap_or_else(|| default_room(&name));
            Ok(RoomEntry::Found { room_name, open: plan.settings.door == DoorPolicy::Open, name })
        }
    }
}

/// Asks the target to admit this peer; a member may have to do so by hand.
async fn ask(
    base: &DaemonContext,
    target: &JoinTarget,
    name: &str,
    (reporter, lock): (&StartReporter, &mut HomeLock),
) -> Result<RoomEntry, OpenRoomError> {
    tracing::info!(%target, "asking to be admitted");
    base.slot.remove(NoRoom::Joining);
    if let Err(error) = lock.set_stage(StartStage::Joining) {
        tracing::warn!(%error, "the lock file does not say that this peer waits for admission");
    }
    let joined = base.net.join(target.clone(), name, &|words| reporter.knocking(words)).await?;
    base.slot.remove(NoRoom::Starting);
    tracing::info!(room = %joined.admitted.room.short(), door = %joined.door.short(), "admitted");
    Ok(RoomEntry::Admitted(Box::new(joined)))
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
