//! The services around the room for as long as the process runs: network, database and API, opened, kept and closed.
//!
//! [`run`] is the daemon's main sequence, called by [`daemon`](super::daemon) on a thread of its own: open the services
//! ([`open`]), open the room ([`open_room`]), report readiness once the API answers, work until a stop is requested, close
//! everything ([`Services::close`]). An interrupt, or the end of the process that waits for the start, cancels any step
//! before readiness.
//!
//! Invariants: the API answers before the room is open, so that a peer that waits for admission can be asked and stopped;
//! [`RoomSlot`] holds the room exactly while callers may use it, and otherwise why there is none; the room stops before the network closes, and the timeouts
//! of both together stay below [`SHUTDOWN_MAX`](crate::app::run::shutdown::SHUTDOWN_MAX).
//!
//! A switch of rooms requested through the API ([`DaemonProcess`]) is carried out here, one at a time, between two rooms:
//! callers meanwhile wait for the new room.

use std::sync::Arc;
use std::time::Duration;

use chat_client::ClientError;
use chat_client::client::announced;
use chat_proto::id::PeerId;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::app::api::{self, OpenApi, RunningApi};
use crate::app::home::Home;
use crate::app::home::identity::{self, AbsentKey};
use crate::app::home::lock::{HomeLock, StartStage};
use crate::app::home::room_memory::{self, JoinWish, RoomMark};
use crate::app::report::exit_error::ExitError;
use crate::app::report::readiness::StartReporter;
use crate::app::report::startup_report::{Started, port_note};
use crate::app::run::leave::set_aside;
use crate::app::run::open_room::{open_room, remember};
use crate::app::run::process::{DaemonProcess, RoomSwitch};
use crate::app::run::running_room::{DaemonContext, RunningRoom, open_store, switch_room};
use crate::app::run::shutdown::{StopHandle, StopReason};
use crate::app::settings::start_options::StartOptions;
use crate::clock::wall_clock;
use crate::http::api_state::{NoRoom, RoomHandle, RoomSlot};
use crate::net::gate::Gate;
use crate::net::settings::NetSettings;
use crate::net::{Net, NetEvents};
use crate::store::OpenedStore;

/// Timeout for connections to send what is queued and to close. With the room's farewell before it, it stays below
/// [`SHUTDOWN_MAX`](crate::app::run::shutdown::SHUTDOWN_MAX).
const NET_CLOSE_MAX: Duration = Duration::from_secs(2);

/// Timeout for calls of the API in progress; as long as the room may take to stop.
const API_CLOSE_MAX: Duration = Duration::from_secs(2);

/// Timeout for the first answer of the API, on a busy machine.
const READY_MAX: Duration = Duration::from_secs(20);

/// The daemon was asked to stop before it was ready.
#[derive(Debug, thiserror::Error)]
#[error("the start was interrupted")]
struct Interrupted;

struct Services {
    base: DaemonContext,
    api: RunningApi,
}

/// What opening the room consumes.
struct RoomInputs {
    opened: OpenedStore,
    net_events: NetEvents,
    switches: mpsc::Receiver<RoomSwitch>,
}

/// Opens everything, reports readiness, works until a stop is requested, and closes everything.
///
/// # Errors
/// Why it did not become ready; that is reported, and everything is closed.
pub(crate) async fn run(
    plan: &StartOptions,
    lock: &mut HomeLock,
    reporter: StartReporter,
    stop: &StopHandle,
) -> Result<(), ExitError> {
    let opened = tokio::select! {
        opened = open(plan, stop) => opened,
        failure = interrupted(&reporter, stop) => Err(failure),
    };
    let (services, inputs) = match opened {
        Ok(opened) => opened,
        Err(failure) => return fail(failure, reporter),
    };
    let RoomInputs { opened, net_events, mut switches } = inputs;
    let mut notes = Vec::new();
    let entered = tokio::select! {
        entered = open_room(plan, &services.base, opened, net_events, (&reporter, lock), &mut notes) => entered.map_err(ExitError::from),
        failure = interrupted(&reporter, stop) => Err(failure),
    };
    let room = match entered {
        Ok(room) => room,
        Err(failure) => {
            services.close(None, stop).await;
            return fail(failure, reporter);
        }
    };
    services.publish(&room);
    if let Err(failure) = services.report_ready(plan, lock, reporter, notes).await {
        services.close(Some(room), stop).await;
        return Err(failure);
    }
    let room = services.work(room, &mut switches, stop).await;
    services.close(room, stop).await;
    Ok(())
}

/// Waits until the start is cancelled.
async fn interrupted(reporter: &StartReporter, stop: &StopHandle) -> ExitError {
    tokio::select! {
        () = stop.requested() => {}
        () = reporter.parent_gone() => stop.request(StopReason::ParentGone),
    }
    ExitError::refused(&Interrupted)
}

fn fail(failure: ExitError, reporter: StartReporter) -> Result<(), ExitError> {
    reporter.failed(&failure);
    Err(failure)
}

/// Opens network, database and API. The API answers from then on.
async fn open(plan: &StartOptions, stop: &StopHandle) -> Result<(Services, RoomInputs), ExitError> {
    let home = plan.home.clone();
    let absent = if room_memory::holds_room(&home) { AbsentKey::Refuse } else { AbsentKey::Create };
    let key = identity::load_or_create(&home.identity(), absent).map_err(|error| ExitError::refused(&error))?;
    let me = PeerId::from_bytes(key.verifying_key().to_bytes());
    let roster = watch::Sender::default();
    let settings = NetSettings { listen: plan.settings.listen, mdns: plan.settings.mdns, ..NetSettings::default() };
    let (bound, opened, api) = tokio::join!(
        Net::bind(settings, key.to_bytes(), Gate::new(me, roster.clone())),
        open_store(&home, &key),
        OpenApi::open(&home, plan.settings.api),
    );
    let (net, net_events) = bound.map_err(|error| ExitError::refused(&error))?;
    let slot = Arc::new(RoomSlot::default());
    let (process, switches) = DaemonProcess::new(me, stop.clone(), net.clone(), Arc::clone(&slot));
    let (retention, budget) = (plan.settings.retention, plan.settings.budget);
    let base = DaemonContext { home, key, me, net, roster, slot, retention, budget };
    let rest = opened.map_err(|error| ExitError::refused(&error)).and_then(|opened| {
        let served = api.and_then(|api| api.serve(&base.home, me, Arc::clone(&base.slot), Arc::new(process)));
        Ok((opened, served.map_err(|error| ExitError::refused(&error))?))
    });
    match rest {
        Ok((opened, api)) => Ok((Services { base, api }, RoomInputs { opened, net_events, switches })),
        Err(failure) => {
            base.net.shutdown(NET_CLOSE_MAX).await;
            Err(failure)
        }
    }
}

impl Services {
    /// Makes the room available to the API.
    fn publish(&self, room: &RunningRoom) {
        let (node, store) = (room.node.clone(), room.store.clone());
        self.base.slot.enter(RoomHandle::new(self.base.me, node, store, self.base.home.root()));
    }

    /// Calls the API as any client does, and reports its answer to the process that waits.
    async fn report_ready(
        &self,
        plan: &StartOptions,
        lock: &mut HomeLock,
        reporter: StartReporter,
        mut notes: Vec<String>,
    ) -> Result<(), ExitError> {
        if let Err(error) = lock.set_stage(StartStage::Running) {
            tracing::warn!(%error, "the lock file does not say that the daemon is ready");
        }
        let asked = async {
            let file = announced(&plan.home)?;
            let status = api::client(&plan.home).answer_within(READY_MAX).status().await?;
            Ok::<_, ClientError>((file, status))
        };
        let (file, status) = match asked.await {
            Ok(answer) => answer,
            Err(error) => return fail(error.into(), reporter),
        };
        if self.base.net.port_was_taken() {
            notes.insert(0, port_note(self.base.net.port()));
        }
        for note in &notes {
            tracing::warn!("{note}");
        }
        tracing::info!(me = %self.base.me.short(), room = %status.room.id.short(), port = self.base.net.port(), "ready");
        reporter.ready(Started { notes, ..Started::new(file, status) }, &plan.home);
        Ok(())
    }

    /// Carries out switches of rooms until a stop is requested or a part fails.
    async fn work(
        &self,
        mut room: RunningRoom,
        switches: &mut mpsc::Receiver<RoomSwitch>,
        stop: &StopHandle,
    ) -> Option<RunningRoom> {
        loop {
            let RoomSwitch { joined, done } = tokio::select! {
                () = stop.requested() => return Some(room),
                () = room.failed() => {
                    stop.request(StopReason::PartEnded);
                    return Some(room);
                }
                Some(next) = switches.recv() => next,
            };
            self.base.slot.remove(NoRoom::Starting);
            let (next, result) = switch_room(&self.base, room, joined).await;
            let Some(next) = next else {
                stop.request(StopReason::PartEnded);
                return None;
            };
            room = next;
            remember(&self.base.home, &room);
            self.publish(&room);
            if result.is_ok() {
                tokio::select! {
                    () = room.joined(&self.base) => {}
                    () = stop.requested() => {}
                }
            }
            // The caller may have hung up.
            let _ = done.send(result);
        }
    }

    /// Ends in order: no more calls, farewell to the neighbours, queued writes, connections.
    async fn close(self, room: Option<RunningRoom>, stop: &StopHandle) {
        self.api.begin_to_close();
        let had_room = room.is_some();
        let room_closed = async {
            match room {
                Some(room) => room.stop().await,
                None => None,
            }
        };
        // Together, since calls in progress wait for the room.
        let (net_events, api_closed) = tokio::join!(room_closed, timeout(API_CLOSE_MAX, self.api.closed()));
        if api_closed.is_err() {
            tracing::warn!("calls of the local API were left unanswered");
        }
        self.base.slot.remove(NoRoom::Stopping);
        if stop.reason() == Some(StopReason::Left) {
            forget_room(&self.base.home, had_room);
        }
        let read_on = async {
            if let Some(mut net_events) = net_events {
                while net_events.recv().await.is_some() {}
            }
        };
        tokio::join!(self.base.net.shutdown(NET_CLOSE_MAX), read_on);
    }
}

/// Leaves the home as one that never was in a room, after the peer has left or has given up joining.
fn forget_room(home: &Home, had_room: bool) {
    let aside = if had_room { set_aside(home.root(), wall_clock()).map(drop) } else { Ok(()) };
    if let Err(error) = aside.and_then(|()| JoinWish::remove(home)).and_then(|()| RoomMark::remove(home)) {
        tracing::error!(%error, "files of the room that was left are still in the home");
    }
}
