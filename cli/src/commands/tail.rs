//! `chat tail`: the last messages, then the conversation as it goes on, across restarts of the daemon.
//!
//! The event stream is opened first and the history read after it, so that no message falls in between; a message that is in both
//! is shown once ([`SeenMessages`]). Where the stream reports a gap, the missing messages are read from the history, from the last
//! one shown on.
//!
//! Invariant: with `--json`, each line has a cursor behind which `--since` resumes without a loss. Lines come in the order of
//! events there; for people, the last messages come in the order that all members share.

use std::pin::pin;
use std::time::Duration;

use chat_client::{Client, ClientError, EventFeed, FeedItem, ReceivedEvent};
use chat_proto::api::messages::{HistoryQuery, Message};
use chat_proto::cursor::Cursor;
use chat_proto::event::{Event, EventEnvelope};
use chat_proto::id::{MessageId, PeerId};
use chat_proto::time::Timestamp;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use jiff::tz::TimeZone;

use crate::commands::completions;
use crate::dedup::SeenMessages;
use crate::error::CliError;

use crate::text::transcript::Transcript;
use crate::text::ui::{self, Ui};
use crate::text::{render, time_arg};

/// Default number of messages shown first.
const COUNT_DEFAULT: u64 = 10;

/// With `--no-follow`: a stream silent for this long has no more to give.
const IDLE: Duration = Duration::from_secs(2);

/// Arguments of `chat tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Short for '-n N'
    #[arg(value_name = "-N", allow_negative_numbers = true, value_parser = time_arg::minus_count, conflicts_with_all = ["count", "since"])]
    minus: Option<u64>,
    /// How many of the last messages to show first [default: 10]
    #[arg(short = 'n', value_name = "N", conflicts_with = "since")]
    count: Option<u64>,
    /// Show all events from here on instead: a cursor of an earlier event, a duration ('10m'), a time, or 'all'
    #[arg(long, value_name = "POINT", value_parser = time_arg::stream_point)]
    since: Option<String>,
    /// Only messages by this member: name, tag or key
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), add = completions::members())]
    from: Option<String>,
    /// One event per line as JSON, of every kind; its 'cursor' is what --since takes
    #[arg(long)]
    json: bool,
    /// Print what is there and exit
    #[arg(long)]
    no_follow: bool,
}

/// Follows the conversation.
///
/// # Errors
/// Says how a call failed, or why the stream cannot go on.
pub(crate) async fn run(args: TailArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let zone = TimeZone::system();
    let since = args.since;
    let end = match (&since, args.no_follow) {
        (Some(_), true) => client.events(None).await?.cursor(),
        (Some(_) | None, _) => None,
    };
    // The stream is opened before the history is read: a message posted in between is in both, and is shown once.
    let mut feed = client.events(since.clone()).await?;
    let only = match &args.from {
        Some(name) => Some(client.member(name).await?.id),
        None => None,
    };
    let transcript = match args.json {
        true => None,
        false => {
            let me = client.status().await?.peer.id;
            Some(Transcript::live(me, ui.colour, zone, render::now()).folded(ui::columns))
        }
    };
    let mut tail = Tail { ui, transcript, only, shown: SeenMessages::default(), last: None };
    let Some(since) = since else {
        let filter = HistoryQuery { from: only.map(|id| id.to_string()), ..HistoryQuery::default() };
        let count = args.count.or(args.minus).unwrap_or(COUNT_DEFAULT);
        let messages = client.last_messages_with_cursors(&filter, count).await?;
        let newest = if args.no_follow { None } else { feed.cursor() };
        tail.looked_up_all(messages, newest)?;
        tail.ui.flush()?;
        return if args.no_follow { Ok(()) } else { tail.follow(&mut feed, client, None).await };
    };
    if args.no_follow {
        tail.catch_up(&mut feed, client, &since, end).await
    } else {
        tail.follow(&mut feed, client, Some(&since)).await
    }
}

/// What has been shown so far, and in which form.
struct Tail<'a> {
    ui: &'a mut Ui,
    /// Nothing: as JSON.
    transcript: Option<Transcript>,
    only: Option<PeerId>,
    shown: SeenMessages,
    last: Option<(MessageId, Timestamp)>,
}

impl Tail<'_> {
    /// Shows events as they come, until the reader of the output has gone.
    async fn follow(&mut self, feed: &mut EventFeed, client: &Client, since: Option<&str>) -> Result<(), CliError> {
        let mut reader_gone = pin!(ui::reader_gone());
        loop {
            let item = tokio::select! {
                item = feed.next() => item?,
                () = &mut reader_gone => return Ok(()),
            };
            match item {
                FeedItem::Event(received) => self.event(*received, client, since).await?,
                FeedItem::Lost => ui::say("chat: the daemon is gone, waiting for it to come back"),
                FeedItem::Back => ui::say("chat: the daemon is back"),
            }
            if feed.is_idle() {
                self.ui.flush()?;
            }
        }
    }

    /// Shows the events up to `end`.
    async fn catch_up(
        &mut self,
        feed: &mut EventFeed,
        client: &Client,
        since: &str,
        end: Option<Cursor>,
    ) -> Result<(), CliError> {
        let reached = |at: Option<Cursor>| at.zip(end).is_none_or(|(at, end)| at.event >= end.event);
        while !(reached(feed.cursor()) && feed.is_idle()) {
            let Ok(item) = tokio::time::timeout(IDLE, feed.next()).await else { break };
            if let FeedItem::Event(received) = item? {
                self.event(*received, client, Some(since)).await?;
            }
        }
        Ok(())
    }

    async fn event(&mut self, received: ReceivedEvent, client: &Client, since: Option<&str>) -> Result<(), CliError> {
        let Some(envelope) = received.envelope else {
            // Newer daemons may have events that this version has no words for; a script may.
            return if self.transcript.is_none() && self.only.is_none() { self.raw(&received.json) } else { Ok(()) };
        };
        let EventEnvelope { at, event, .. } = envelope;
        match event {
            Event::Message { message } => self.message(&message, &received.json),
            Event::Gap { reason } => {
                self.other(&received.json, |_| None)?;
                ui::say(&format!("chat: the stream has a gap: {}", render::label(&reason)));
                self.fill_gap(client, since, received.cursor).await
            }
            Event::Membership { change } => self.other(&received.json, |lines| Some(lines.membership(at, &change))),
            Event::Fork { peer } => self.other(&received.json, |lines| Some(lines.fork(at, &peer))),
            Event::Knock { knock, name, words, state } => {
                self.other(&received.json, |lines| lines.knock(at, (knock, state), &name, &words))
            }
            Event::Peer { .. } | Event::Rendezvous { .. } | Event::Delivery { .. } => {
                self.other(&received.json, |_| None)
            }
        }
    }

    fn message(&mut self, message: &Message, json: &str) -> Result<(), CliError> {
        self.last = Some((message.id, message.time));
        if !self.shown.is_new(message.id) || self.only.is_some_and(|only| only != message.from.id) {
            return Ok(());
        }
        match &mut self.transcript {
            Some(lines) => {
                let line = lines.message(message);
                self.ui.line(&line)
            }
            None => self.raw(json),
        }
    }

    /// An event that is not a message: as JSON, or as the line that `words` has for it.
    fn other(&mut self, json: &str, words: impl FnOnce(&mut Transcript) -> Option<String>) -> Result<(), CliError> {
        match (&mut self.transcript, self.only) {
            (_, Some(_)) => Ok(()),
            (None, None) => self.raw(json),
            (Some(lines), None) => match words(lines) {
                Some(line) => self.ui.line(&line),
                None => Ok(()),
            },
        }
    }

    fn raw(&mut self, json: &str) -> Result<(), CliError> {
        self.ui.line(&ui::shown_json(json))
    }

    /// Messages that the history gave, at most as new as `newest`: the stream has the others. As JSON they look like
    /// events and come in the order of events, so that the stream resumes exactly behind each.
    fn looked_up_all(
        &mut self,
        mut messages: Vec<(Message, Option<Cursor>)>,
        newest: Option<Cursor>,
    ) -> Result<(), CliError> {
        if self.transcript.is_none() {
            messages.sort_by_key(|(_, cursor)| cursor.map(|cursor| cursor.event));
            messages.retain(|(_, cursor)| cursor.zip(newest).is_none_or(|(at, newest)| at.event <= newest.event));
        }
        messages.into_iter().try_for_each(|(message, cursor)| self.looked_up(message, cursor.or(newest)))
    }

    fn looked_up(&mut self, message: Message, cursor: Option<Cursor>) -> Result<(), CliError> {
        let time = message.time;
        self.last = Some((message.id, time));
        if !self.shown.is_new(message.id) {
            return Ok(());
        }
        match (&mut self.transcript, cursor) {
            (Some(lines), _) => {
                let line = lines.message(&message);
                self.ui.line(&line)
            }
            (None, Some(cursor)) => {
                self.ui.json(&EventEnvelope { cursor, at: time, event: Event::Message { message } })
            }
            (None, None) => self.ui.json(&Event::Message { message }),
        }
    }

    /// Reads from the history what the stream no longer has: from the last message shown, or from where the tail began.
    async fn fill_gap(&mut self, client: &Client, since: Option<&str>, cursor: Option<Cursor>) -> Result<(), CliError> {
        let from = self.only.map(|id| id.to_string());
        let after = match (self.last, since) {
            (Some((id, _)), _) => Some(id.to_string()),
            (None, Some("all")) => None,
            (None, Some(since)) => {
                let point = time_arg::point(since, render::now(), &TimeZone::UTC);
                if point.parse::<Timestamp>().is_err() {
                    ui::say("hint: 'chat log' has the missing messages");
                    return Ok(());
                }
                Some(point)
            }
            // The tail began at the end of the history, so nothing before it is missing.
            (None, None) => return Ok(()),
        };
        let filter = HistoryQuery { from, after, ..HistoryQuery::default() };
        let last = self.last;
        let read = self.fill_from(client, &filter, cursor).await;
        let (Err(CliError::Call(ClientError::Refused(_))), Some((_, time))) = (&read, last) else {
            return read;
        };
        // A new database may not hold that message: its time will do.
        let filter = HistoryQuery { after: Some(time.to_string()), ..filter };
        self.fill_from(client, &filter, cursor).await
    }

    async fn fill_from(
        &mut self,
        client: &Client,
        filter: &HistoryQuery,
        cursor: Option<Cursor>,
    ) -> Result<(), CliError> {
        if self.transcript.is_some() {
            return client.each_message(filter, None, |message, _| self.looked_up(message, cursor)).await;
        }
        let mut messages = Vec::new();
        client
            .each_message(filter, None, |message, cursor| {
                messages.push((message, cursor));
                Ok::<_, CliError>(())
            })
            .await?;
        self.looked_up_all(messages, cursor)
    }
}
