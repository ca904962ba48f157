//! The interactive room: messages that arrive are printed above the input line, typed ones are posted.

use std::collections::HashMap;
use std::time::Duration;

use chat_client::{Client, ClientError, FeedItem};
use chat_proto::api::messages::{HistoryQuery, Message};
use chat_proto::api::peers::PeerView;
use chat_proto::event::{Event, EventEnvelope, MembershipAction};
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::mpsc::{Receiver, Sender};

use super::echo_filter::EchoFilter;
use super::editor::{self, EditorInput, EditorView, LineEditor};
use super::line_command::{self, LineCommand};
use super::sender::{MessageSender, Posted};
use super::terminal::{Continued, SavedModes, Signals};
use crate::commands::peers;
use crate::dedup::SeenMessages;
use crate::error::CliError;

use crate::text::render;
use crate::text::transcript::Transcript;
use crate::text::ui::{self, Colour, Ui};

/// Number of messages shown on entering.
const MESSAGES_FIRST: u64 = 20;

/// Maximum number of events that wait while lines are printed.
const EVENT_QUEUE: usize = 64;

/// Timeout for posts in flight on leaving.
const LEAVING_MAX: Duration = Duration::from_secs(10);

/// Number of characters quoted of a text that was not posted.
const QUOTE_CHARS: usize = 60;

/// Runs the room until the user leaves.
///
/// # Errors
/// Says why it ended, unless the user left.
pub(super) async fn run(client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    // The stream is opened before anything is read, so that no message is missed in between.
    let feed = client.events(None).await?;
    let status = client.status().await?;
    let me = status.peer.id;
    let transcript = Transcript::live(me, ui.colour, TimeZone::system(), render::now()).folded(ui::columns);
    let mut room = RoomScreen {
        me,
        colour: ui.colour,
        transcript,
        shown: SeenMessages::default(),
        own: EchoFilter::default(),
        online: HashMap::new(),
        shared: EditorView::default(),
        client: client.clone(),
    };
    room.shared.set_prompt(prompt(&render::name(&status.peer)));
    room.refresh().await?;
    let name = if status.room.name.is_empty() { status.room.id.short() } else { render::label(&status.room.name) };
    let online =
        format!("{} of {} online", status.members_online, render::count(status.members.into(), "member", "members"));
    ui::say(&format!("{name}: {online}"));
    ui::say("type to all, '@name text' to one; /help for more, exit to leave");
    for line in room.last_messages().await? {
        ui.line(&line)?;
    }
    ui.flush()?;

    let mut signals = Signals::listen().map_err(CliError::Runtime)?;
    let _saved = SavedModes::now();
    let mut poster = MessageSender::start(client.clone());
    let line = editor::start(room.shared.clone(), ui.colour)?;
    let result = room.talk(line, feed.into_channel(EVENT_QUEUE), &mut signals, &mut poster).await;
    room.finish(&mut poster).await;
    result
}

fn prompt(name: &str) -> String {
    format!("{name}> ")
}

/// The state of the room and of what is on the screen.
struct RoomScreen {
    me: PeerId,
    colour: Colour,
    transcript: Transcript,
    shown: SeenMessages,
    own: EchoFilter,
    online: HashMap<PeerId, bool>,
    shared: EditorView,
    client: Client,
}

impl RoomScreen {
    async fn talk(
        &mut self,
        mut line: LineEditor,
        mut events: Receiver<Result<FeedItem, ClientError>>,
        signals: &mut Signals,
        poster: &mut MessageSender,
    ) -> Result<(), CliError> {
        let mut continued = Continued::listen().map_err(CliError::Runtime)?;
        loop {
            let lines = tokio::select! {
                // While too much waits for the daemon, the terminal keeps what is typed.
                input = line.input.recv(), if poster.has_room() => match input {
                    Some(EditorInput::Line(text)) => match self.typed(&text, poster).await {
                        Some(lines) => lines,
                        None => return Ok(()),
                    },
                    Some(EditorInput::Interrupt) => vec!["press Ctrl-C again, or Ctrl-D, to leave".into()],
                    Some(EditorInput::Kept) => vec!["kept: Up brings it back".into()],
                    Some(EditorInput::Leave) | None => return Ok(()),
                    Some(EditorInput::Failed(error)) => return Err(CliError::Terminal(error)),
                },
                Some(item) = events.recv() => self.item(item?).await,
                posted = poster.result() => self.posted(posted),
                () = signals.any() => return Ok(()),
                () = continued.wait() => Vec::new(),
            };
            print(&line.print, lines).await;
        }
    }

    /// Waits a little for the posts in flight, and reports those that failed.
    async fn finish(&mut self, poster: &mut MessageSender) {
        let waited = tokio::time::timeout(LEAVING_MAX, async {
            while let Some(posted) = poster.last_results().await {
                self.posted(posted).iter().for_each(|line| ui::say(line));
            }
        });
        if waited.await.is_err() {
            ui::say("chat: the daemon does not answer: the last messages may not be sent");
        }
    }

    /// Runs what was typed; `None` to leave.
    async fn typed(&mut self, text: &str, poster: &mut MessageSender) -> Option<Vec<String>> {
        Some(match line_command::parse(text) {
            LineCommand::Nothing => Vec::new(),
            LineCommand::Leave => return None,
            LineCommand::Help => line_command::HELP.lines().map(str::to_owned).collect(),
            LineCommand::Peers => match self.client.peers().await {
                Ok(list) => peers::lines(&list, render::now(), self.colour, ui::columns()),
                Err(error) => vec![CliError::from(error).lines()],
            },
            LineCommand::Unknown(command) => {
                let command = render::label(&command);
                vec![format!(
                    "chat: there is no {command}, /help lists the commands; a space in front sends it as text"
                )]
            }
            LineCommand::NoText(to) => vec![format!("chat: no text for @{}", render::label(&to.join(" @")))],
            LineCommand::Say { to, text } => {
                if poster.post(to, text) {
                    self.own.begin();
                    Vec::new()
                } else {
                    vec!["chat: not sent: too much waits for the daemon already".into()]
                }
            }
        })
    }

    fn posted(&mut self, posted: Posted) -> Vec<String> {
        let (id, mut lines) = match posted.result {
            Ok(id) => (Some(id), Vec::new()),
            Err(failure) => (None, vec![format!("{}\nnot sent: {}", failure.lines(), quote(&posted.text))]),
        };
        lines.extend(self.own.end(id).iter().map(|message| self.transcript.message(message)));
        lines
    }

    /// The lines that an item of the stream is worth.
    async fn item(&mut self, item: FeedItem) -> Vec<String> {
        let received = match item {
            FeedItem::Event(received) => received,
            FeedItem::Lost => return vec!["chat: the daemon is gone, waiting for it to come back".into()],
            FeedItem::Back => return vec!["chat: the daemon is back".into()],
        };
        let Some(EventEnvelope { at, event, .. }) = received.envelope else { return Vec::new() };
        match event {
            Event::Message { message } => self.message(message).into_iter().collect(),
            Event::Peer { peer } => self.presence(at, &peer).into_iter().collect(),
            Event::Membership { change } => {
                if change.action == MembershipAction::Renamed && change.peer.id == self.me {
                    self.shared.set_prompt(prompt(&render::name(&change.peer)));
                }
                let line = self.transcript.membership(at, &change);
                match self.refresh().await {
                    Ok(()) => vec![line],
                    Err(failure) => vec![line, failure.lines()],
                }
            }
            Event::Knock { knock, name, words, state } => {
                self.transcript.knock(at, (knock, state), &name, &words).into_iter().collect()
            }
            Event::Fork { peer } => vec![self.transcript.fork(at, &peer)],
            Event::Gap { reason } => {
                let mut lines =
                    vec![format!("chat: the stream has a gap: {}; 'chat log' has it all", render::label(&reason))];
                match self.last_messages().await {
                    Ok(messages) => lines.extend(messages),
                    Err(failure) => lines.push(failure.lines()),
                }
                lines
            }
            // Deliveries and the role's moves are for 'chat tail --json' and 'chat why'.
            Event::Delivery { .. } | Event::Rendezvous { .. } => Vec::new(),
        }
    }

    fn message(&mut self, message: Message) -> Option<String> {
        if !self.shown.is_new(message.id) {
            return None;
        }
        let message = if message.from.id == self.me { self.own.arrive(message)? } else { message };
        Some(self.transcript.message(&message))
    }

    fn presence(&mut self, at: Timestamp, peer: &PeerView) -> Option<String> {
        let before = self.online.insert(peer.peer.id, peer.online);
        let word = if peer.online { "is here" } else { "is away" };
        let changed = !peer.me && before != Some(peer.online);
        changed.then(|| self.transcript.note(at, &format!("{} {word}", render::name(&peer.peer))))
    }

    /// The last messages that are not on the screen yet.
    async fn last_messages(&mut self) -> Result<Vec<String>, CliError> {
        let messages = self.client.last_messages(&HistoryQuery::default(), MESSAGES_FIRST).await?;
        let new = messages.iter().filter(|message| self.shown.is_new(message.id));
        Ok(new.map(|message| self.transcript.message(message)).collect())
    }

    /// Reads the list of members.
    async fn refresh(&mut self) -> Result<(), CliError> {
        let peers = self.client.peers().await?;
        self.online = peers.iter().map(|view| (view.peer.id, view.online)).collect();
        let others = peers.iter().filter(|view| !view.me);
        self.shared.set_names(others.map(|view| render::label(&view.peer.name)).collect());
        Ok(())
    }
}

async fn print(printer: &Sender<String>, lines: Vec<String>) {
    for line in lines {
        // The printer ends with the terminal, and there is nothing to print on then.
        let _ = printer.send(line).await;
    }
}

/// The start of a text on one line.
fn quote(text: &str) -> String {
    let line = render::label(text);
    let mut characters = line.chars();
    let start: String = characters.by_ref().take(QUOTE_CHARS).collect();
    if characters.next().is_some() { start + "…" } else { start }
}
