//! How a daemon comes to its room: back to the one it was in, into one that lets it in, or by founding one.

use chat_core::admission::codec::DenyReason;
use chat_core::input::Command;

use crate::app::home::lock::{HomeLock, StartStage};
use crate::app::report::exit_error::{ExitError, ExitKind};
use crate::app::report::readiness::StartReporter;
use crate::app::run::join::{self, HomeRoom, JoinRefused};
use crate::app::run::running_room::{DaemonContext, PreparedRoom, RoomEntry, RoomError, RunningRoom};
use crate::app::settings::DoorPolicy;
use crate::app::settings::start_options::{RoomDescription, StartOptions, default_name, default_room};
use crate::net::JoinError;
use crate::net::JoinTarget;
use crate::net::NetEvents;
use crate::store::{OpenedStore, Store};

/// Why a daemon is in no room. What was on disk is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenRoomError {
    /// The home is in another room.
    #[error(transparent)]
    Refused(#[from] JoinRefused),
    /// It was not let in.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The room cannot be begun.
    #[error(transparent)]
    Room(#[from] RoomError),
}

impl From<OpenRoomError> for ExitError {
    fn from(error: OpenRoomError) -> Self {
        // A bad ticket is no more than that: a good one opens.
        let denied = matches!(
            error,
            OpenRoomError::Join(JoinError::Denied(DenyReason::Refused | DenyReason::Removed | DenyReason::TimedOut))
        );
        Self::new(if denied { ExitKind::NotAllowed } else { ExitKind::Refused }, &error)
    }
}

/// Enters the room that is meant, and notes what went otherwise than asked. Dropping the future gives up: a knock ends.
///
/// # Errors
/// [`OpenRoomError`].
pub(crate) async fn open_room(
    plan: &StartOptions,
    base: &DaemonContext,
    opened: OpenedStore,
    net_events: NetEvents,
    ears: (&StartReporter, &mut HomeLock),
    notes: &mut Vec<String>,
) -> Result<RunningRoom, OpenRoomError> {
    if let Some(aside) = &opened.set_aside {
        let aside = aside.display();
        notes.push(format!("the database was damaged and was put to {aside}; messages come again from other members"));
    }
    let beginning = beginning(plan, base, &opened.store, ears, notes).await?;
    let how = EntryKind::from(&beginning);
    let mut room = PreparedRoom::new(base, opened, beginning).await?.launch(base, net_events);
    match how {
        EntryKind::Founds => room.founded().await?,
        EntryKind::Joins => room.joined(base).await,
        EntryKind::Returns => {}
    }
    take_name(plan, base, &room, notes).await;
    Ok(room)
}

/// How the room is entered, once what it takes has been used up.
enum EntryKind {
    Founds,
    Joins,
    Returns,
}

impl From<&RoomEntry> for EntryKind {
    fn from(beginning: &RoomEntry) -> Self {
        match beginning {
            RoomEntry::Found { .. } => Self::Founds,
            RoomEntry::Admitted(_) => Self::Joins,
            RoomEntry::Return => Self::Returns,
        }
    }
}

async fn beginning(
    plan: &StartOptions,
    base: &DaemonContext,
    store: &Store,
    ears: (&StartReporter, &mut HomeLock),
    notes: &mut Vec<String>,
) -> Result<RoomEntry, OpenRoomError> {
    let name = || plan.settings.name.clone().unwrap_or_else(|| default_name(&base.me, |name| std::env::var_os(name)));
    match (store.room(), &plan.join) {
        (Some(room), target) => {
            if plan.describes_room == RoomDescription::Yes {
                notes.push(format!("the room '{}' exists already: --room and --open are for new ones", room.name));
            }
            if let Some(target) = target {
                let restored = store.restore().await.map_err(RoomError::from)?;
                let company = join::company(&restored.map(|restored| restored.controls).unwrap_or_default());
                let room = HomeRoom { id: room.id, name: room.name, company };
                notes.extend(join::check(target, &room, &plan.home)?);
            }
            Ok(RoomEntry::Return)
        }
        (None, Some(target)) => ask(base, target, &name(), ears).await,
        (None, None) => {
            let name = name();
            let room_name = plan.settings.room.clone().unwrap_or_else(|| default_room(&name));
            Ok(RoomEntry::Found { room_name, open: plan.settings.door == DoorPolicy::Open, name })
        }
    }
}

/// Asks to be let in; somebody may have to say so by hand.
async fn ask(
    base: &DaemonContext,
    target: &JoinTarget,
    name: &str,
    (voice, lock): (&StartReporter, &mut HomeLock),
) -> Result<RoomEntry, OpenRoomError> {
    tracing::info!(%target, "asking to be let in");
    if let Err(error) = lock.set_stage(StartStage::Joining) {
        tracing::warn!(%error, "who looks at the lock does not see that this peer waits");
    }
    let joined = base.net.join(target.clone(), name, &|words| voice.knocking(words)).await?;
    tracing::info!(room = %joined.admitted.room.short(), door = %joined.door.short(), "let in");
    Ok(RoomEntry::Admitted(Box::new(joined)))
}

/// Takes the name that the command line asks for in a room that knows this peer by another one.
async fn take_name(plan: &StartOptions, base: &DaemonContext, room: &RunningRoom, notes: &mut Vec<String>) {
    let roster = room.node.roster();
    let Some(known) = roster.people.get(&base.me) else {
        notes.push("the history of the room has not arrived: it comes as soon as a member can be reached".into());
        return;
    };
    if !known.active {
        notes.push(format!(
            "this peer is no longer a member of '{}': it can read what was said before",
            roster.room_name
        ));
        return;
    }
    let Some(name) = plan.rename.as_ref().filter(|name| **name != known.peer.name) else {
        return;
    };
    if let Err(error) = room.node.command(Command::Rename(name.clone())).await {
        notes.push(format!("this peer goes by '{}' still: {error}", known.peer.name));
    }
}
