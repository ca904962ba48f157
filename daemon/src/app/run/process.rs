//! What the local API asks of the process: joining another room, leaving for good, stopping.

use std::error::Error;
use std::sync::{Arc, OnceLock};

use chat_core::input::Command;
use chat_core::output::{CommandError, Reply};
use chat_proto::api::members::{Joined, NearbyRoom};
use chat_proto::api::status::RoomRef;
use chat_proto::event::{Event, KnockState};
use chat_proto::id::{KnockId, PeerId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::app::run::leave::leave;
use crate::app::run::running_room::RoomError;
use crate::app::run::shutdown::{StopHandle, StopReason};
use crate::http::api_state::{NoRoom, RoomHandle, RoomSlot};
use crate::http::daemon_control::{AdminSuccession, DaemonControl, LeaveError, MoveError, NetworkFigures};
use crate::net::JoinTarget;
use crate::net::{self, Net};
use crate::store::Store;
use crate::store::types::Write;

/// Id of this peer's own knock in its events; those of strangers start at 1.
const OWN_KNOCK: KnockId = KnockId(0);

/// Another room has admitted this peer: the daemon switches to it.
#[derive(Debug)]
pub(crate) struct RoomSwitch {
    /// The admission, and what is needed to open the room.
    pub(crate) joined: net::JoinedRoom,
    /// Receives the result; the receiver may be gone.
    pub(crate) done: oneshot::Sender<Result<(), RoomError>>,
}

/// The daemon's process, for the API.
#[derive(Debug)]
pub(crate) struct DaemonProcess {
    me: PeerId,
    stop: StopHandle,
    net: Net,
    room: Arc<RoomSlot>,
    switches: mpsc::Sender<RoomSwitch>,
    turn: Semaphore,
}

impl DaemonProcess {
    /// A process with no switch under way. The receiver gets the switches to carry out.
    pub(crate) fn new(
        me: PeerId,
        stop: StopHandle,
        net: Net,
        room: Arc<RoomSlot>,
    ) -> (Self, mpsc::Receiver<RoomSwitch>) {
        // `turn` admits one switch at a time.
        let (switches, receiver) = mpsc::channel(1);
        (Self { me, stop, net, room, switches, turn: Semaphore::new(1) }, receiver)
    }

    async fn switch_to(&self, target: JoinTarget, name: Option<String>) -> Result<Joined, MoveError> {
        let _turn = self.turn.try_acquire().map_err(|_| MoveError::Moving)?;
        let room = self.room.wait().await?;
        self.must_be_alone(&room).await?;
        let name = name.unwrap_or_else(|| room.node.roster().peer_ref(&self.me).name);
        let knock = OwnKnock { store: room.store.clone(), name: name.clone(), words: OnceLock::new() };
        let joined = self.net.join(target, &name, &|words| knock.wait(words)).await?;
        // A peer may have been admitted here in the meantime.
        self.must_be_alone(&room).await?;
        let admitted = &joined.admitted;
        let there = RoomRef { id: admitted.room, name: admitted.room_name.clone(), open: admitted.open };
        drop((knock, room));
        let (done, moved) = oneshot::channel();
        self.switches.send(RoomSwitch { joined, done }).await.map_err(|_| CommandError::Stopping)?;
        moved.await.map_err(|_| CommandError::Stopping)?.map_err(failed)?;
        Ok(Joined { room: there })
    }

    /// Refuses to leave a room that has or had other members by joining another one: its messages would be out of sight.
    /// A peer that was removed has no way back into it as it is.
    async fn must_be_alone(&self, room: &RoomHandle) -> Result<(), MoveError> {
        let Reply::Status(status) = room.node.command(Command::Status).await? else {
            return Err(CommandError::Busy.into());
        };
        if room.node.roster().is_former_member(&self.me) {
            return Ok(());
        }
        let others_ever = room.node.roster().people.keys().any(|peer| *peer != self.me);
        if status.members > 1 || others_ever { Err(MoveError::AlreadyInRoom) } else { Ok(()) }
    }

    async fn leave_room(&self, succession: AdminSuccession) -> Result<(), LeaveError> {
        let room = match self.room.wait().await {
            Ok(room) => room,
            // Not a member of any room: it gives up its wish to be one.
            Err(NoRoom::Joining) => {
                self.stop.request(StopReason::Left);
                return Ok(());
            }
            Err(other) => return Err(other.into()),
        };
        let roster = room.node.roster();
        let others = roster.members().any(|person| person.peer.id != self.me);
        if others && succession == AdminSuccession::Required && roster.is_last_admin(&self.me) {
            return Err(LeaveError::LastAdmin);
        }
        // The others have removed this peer already: only its files are still there.
        if !roster.is_former_member(&self.me) {
            leave(&room.node, &room.store, self.me).await?;
        }
        self.stop.request(StopReason::Left);
        Ok(())
    }
}

impl DaemonControl for DaemonProcess {
    fn join(&self, target: JoinTarget, name: Option<String>) -> BoxFuture<'_, Result<Joined, MoveError>> {
        self.switch_to(target, name).boxed()
    }

    fn leave(&self, succession: AdminSuccession) -> BoxFuture<'_, Result<(), LeaveError>> {
        self.leave_room(succession).boxed()
    }

    fn rooms(&self) -> Vec<NearbyRoom> {
        self.net.nearby()
    }

    fn network(&self) -> NetworkFigures {
        NetworkFigures {
            port: self.net.port(),
            addrs: self.net.addrs(),
            connections: self.net.connections() as u64,
            queue_drops: self.net.queue_drops(),
        }
    }

    fn shutdown(&self) {
        self.stop.request(StopReason::Asked);
    }
}

fn failed(error: impl Error + Send + Sync + 'static) -> MoveError {
    MoveError::Failed(Box::new(error))
}

/// This peer's knock at another room, published in its own events; over when this is dropped.
struct OwnKnock {
    store: Store,
    name: String,
    words: OnceLock<String>,
}

impl OwnKnock {
    fn wait(&self, words: &str) {
        if self.words.set(words.to_owned()).is_ok() {
            self.publish(words, KnockState::Waiting);
        }
    }

    fn publish(&self, words: &str, state: KnockState) {
        let event = Event::Knock { knock: OWN_KNOCK, name: self.name.clone(), words: words.to_owned(), state };
        if let Err(error) = self.store.try_write(Write::Event(Box::new(event))) {
            tracing::debug!(%error, "this peer's own knock is not published");
        }
    }
}

impl Drop for OwnKnock {
    fn drop(&mut self) {
        if let Some(words) = self.words.get() {
            self.publish(words, KnockState::Gone);
        }
    }
}
