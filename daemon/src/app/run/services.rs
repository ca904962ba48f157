//! What stands around the room for as long as the process lives: network, database, API; opened, kept and closed.

use std::sync::Arc;
use std::time::Duration;

use chat_proto::id::PeerId;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::app::api::{OpenApi, RunningApi};
use crate::app::client::Client;
use crate::app::home::identity;
use crate::app::home::lock::{HomeLock, StartStage};
use crate::app::report::exit_error::ExitError;
use crate::app::report::readiness::StartReporter;
use crate::app::report::startup_report::{Started, port_note};
use crate::app::run::leave::set_aside;
use crate::app::run::open_room::open_room;
use crate::app::run::process::{DaemonProcess, RoomSwitch};
use crate::app::run::running_room::{DaemonContext, RunningRoom, open_store, switch_room};
use crate::app::run::shutdown::{StopHandle, StopReason};
use crate::app::settings::start_options::StartOptions;
use crate::http::api_state::{RoomHandle, RoomSlot};
use crate::net::gate::Gate;
use crate::net::settings::NetSettings;
use crate::net::{Net, NetEvents};
use crate::node::driver::{Clock, shared_roster};
use crate::store::OpenedStore;

/// How long connections may take to send what is queued and to close. With the room's farewell before it, it stays below
/// [`SHUTDOWN_MAX`](crate::app::run::shutdown::SHUTDOWN_MAX).
const NET_CLOSE_MAX: Duration = Duration::from_secs(2);

/// How long calls of the API that are under way may take to be answered; as long as the room may take to stop.
const API_CLOSE_MAX: Duration = Duration::from_secs(2);

/// How long the first answer of the API may take on a machine that is busy.
const READY_MAX: Duration = Duration::from_secs(20);

/// The daemon was told to end before it was ready.
#[derive(Debug, thiserror::Error)]
#[error("the start was interrupted")]
struct Interrupted;

struct Services {
    base: DaemonContext,
    api: RunningApi,
    slot: Arc<RoomSlot>,
}

/// What a room is made of.
struct RoomParts {
    opened: OpenedStore,
    net_events: NetEvents,
    moves: mpsc::Receiver<RoomSwitch>,
}

/// Opens everything, enters the room, says that it is ready, works until it is told to stop, and closes everything.
///
/// # Errors
/// Why it did not become ready; the voice has told so then, and everything is closed.
pub(crate) async fn live(
    plan: &StartOptions,
    lock: &mut HomeLock,
    voice: StartReporter,
    stop: &StopHandle,
) -> Result<(), ExitError> {
    let opened = tokio::select! {
        opened = open(plan, stop) => opened,
        failure = interrupted(&voice, stop) => Err(failure),
    };
    let (shell, inside) = match opened {
        Ok(opened) => opened,
        Err(failure) => return fail(failure, voice),
    };
    let RoomParts { opened, net_events, mut moves } = inside;
    let mut notes = Vec::new();
    let entered = tokio::select! {
        entered = open_room(plan, &shell.base, opened, net_events, (&voice, lock), &mut notes) => entered.map_err(ExitError::from),
        failure = interrupted(&voice, stop) => Err(failure),
    };
    let room = match entered {
        Ok(room) => room,
        Err(failure) => {
            shell.close(None, stop).await;
            return fail(failure, voice);
        }
    };
    shell.let_in(&room);
    if let Err(failure) = shell.say_ready(plan, lock, voice, notes).await {
        shell.close(Some(room), stop).await;
        return Err(failure);
    }
    let room = shell.work(room, &mut moves, stop).await;
    shell.close(room, stop).await;
    Ok(())
}

/// Waits until nobody wants the daemon to become ready any more.
async fn interrupted(voice: &StartReporter, stop: &StopHandle) -> ExitError {
    tokio::select! {
        () = stop.requested() => {}
        () = voice.parent_gone() => stop.request(StopReason::ParentGone),
    }
    ExitError::refused(&Interrupted)
}

fn fail(failure: ExitError, voice: StartReporter) -> Result<(), ExitError> {
    voice.failed(&failure);
    Err(failure)
}

/// Opens network, database and API. The API answers from then on, so that a peer that waits to be let in can be asked and
/// stopped.
async fn open(plan: &StartOptions, stop: &StopHandle) -> Result<(Services, RoomParts), ExitError> {
    let home = plan.home.clone();
    let key = identity::load_or_create(&home.identity()).map_err(|error| ExitError::refused(&error))?;
    let me = PeerId::from_bytes(key.verifying_key().to_bytes());
    let roster = shared_roster();
    let settings = NetSettings { listen: plan.settings.listen, mdns: plan.settings.mdns, ..NetSettings::default() };
    let (bound, opened, api) = tokio::join!(
        Net::bind(settings, key.to_bytes(), Gate::new(me, roster.clone())),
        open_store(&home, &key),
        OpenApi::open(&home, plan.settings.api),
    );
    let (net, net_events) = bound.map_err(|error| ExitError::refused(&error))?;
    let slot = Arc::new(RoomSlot::default());
    let (process, moves) = DaemonProcess::new(me, stop.clone(), net.clone(), slot.clone());
    let base = DaemonContext { home, key, me, net, roster };
    let rest = opened.map_err(|error| ExitError::refused(&error)).and_then(|opened| {
        let served = api.and_then(|api| api.serve(&base.home, me, slot.clone(), Arc::new(process)));
        Ok((opened, served.map_err(|error| ExitError::refused(&error))?))
    });
    match rest {
        Ok((opened, api)) => Ok((Services { base, api, slot }, RoomParts { opened, net_events, moves })),
        Err(failure) => {
            base.net.shutdown(NET_CLOSE_MAX).await;
            Err(failure)
        }
    }
}

impl Services {
    /// Lets callers of the API reach the room.
    fn let_in(&self, room: &RunningRoom) {
        self.slot.set(Some(RoomHandle::new(room.node.clone(), room.store.clone())));
    }

    /// Asks the API as any caller does, and tells whoever waits what it answers.
    async fn say_ready(
        &self,
        plan: &StartOptions,
        lock: &mut HomeLock,
        voice: StartReporter,
        mut notes: Vec<String>,
    ) -> Result<(), ExitError> {
        if let Err(error) = lock.set_stage(StartStage::Running) {
            tracing::warn!(%error, "who looks at the lock does not see that the daemon is ready");
        }
        let asked = async {
            let client = Client::of(&plan.home)?.patient(READY_MAX);
            let status = client.status().await?;
            Ok::<_, crate::app::client::ClientError>((client, status))
        };
        let (client, status) = match asked.await {
            Ok(answer) => answer,
            Err(error) => return fail(error.into(), voice),
        };
        if self.base.net.port_was_taken() {
            notes.insert(0, port_note(self.base.net.port()));
        }
        for note in &notes {
            tracing::warn!("{note}");
        }
        tracing::info!(me = %self.base.me.short(), room = %status.room.id.short(), port = self.base.net.port(), "ready");
        voice.ready(Started { notes, ..Started::new(client.api, status) }, &plan.home);
        Ok(())
    }

    /// Goes from room to room until it is told to stop, or a part has failed.
    async fn work(
        &self,
        mut room: RunningRoom,
        moves: &mut mpsc::Receiver<RoomSwitch>,
        stop: &StopHandle,
    ) -> Option<RunningRoom> {
        loop {
            let RoomSwitch { joined, done } = tokio::select! {
                () = stop.requested() => return Some(room),
                () = room.failed() => {
                    stop.request(StopReason::PartEnded);
                    return Some(room);
                }
                Some(next) = moves.recv() => next,
            };
            self.slot.set(None);
            let (next, result) = switch_room(&self.base, room, joined).await;
            let Some(next) = next else {
                stop.request(StopReason::PartEnded);
                return None;
            };
            room = next;
            self.let_in(&room);
            if result.is_ok() {
                tokio::select! {
                    () = room.joined(&self.base) => {}
                    () = stop.requested() => {}
                }
            }
            // Who asked may have hung up; the daemon is where it is.
            let _ = done.send(result);
        }
    }

    /// The orderly end: no more calls, farewell to the neighbours, what waits is written, connections close.
    async fn close(self, room: Option<RunningRoom>, stop: &StopHandle) {
        self.api.begin_to_close();
        let room_closed = async {
            match room {
                Some(room) => room.stop().await,
                None => None,
            }
        };
        // Together, since calls under way wait for the room.
        let (net_events, api_closed) = tokio::join!(room_closed, timeout(API_CLOSE_MAX, self.api.closed()));
        if api_closed.is_err() {
            tracing::warn!("calls of the local API are left unanswered");
        }
        self.slot.set(None);
        if stop.reason() == Some(StopReason::Left)
            && let Err(error) = set_aside(self.base.home.root(), Clock::start().now().wall)
        {
            tracing::error!(%error, "the room that was left is still in the home");
        }
        let read_on = async {
            if let Some(mut net_events) = net_events {
                while net_events.recv().await.is_some() {}
            }
        };
        tokio::join!(self.base.net.shutdown(NET_CLOSE_MAX), read_on);
    }
}
