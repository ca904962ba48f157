//! Follows the daemon's event stream across its restarts: no event is missed, none comes twice.
//!
//! A feed remembers the cursor of the last event that it gave out. When its connection ends, it reports [`FeedItem::Lost`],
//! connects again with growing pauses, and resumes behind that cursor; the daemon sends what was missed. Where the daemon no
//! longer has it, it sends a `gap` event: the history then has the messages. Dropping a feed closes its connection.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use chat_proto::cursor::Cursor;
use chat_proto::event::EventEnvelope;
use reqwest::Response;
use tokio::sync::mpsc::{Receiver, channel};

use crate::call::Call;
use crate::client::Client;
use crate::error::{ClientError, UnexpectedAnswer};
use crate::sse::{Decoder, SseBlock};

/// Maximum silence of a stream before it is taken for dead; the daemon sends a keep-alive every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Timeout for the first bytes of a stream.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// After a stream that lasted this long, the next attempt is made at once again.
const STEADY: Duration = Duration::from_secs(1);

/// First and longest pause between attempts to reconnect, doubling in between; the first attempt is made at once.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What a feed gives out.
#[derive(Debug)]
pub enum FeedItem {
    /// An event.
    Event(Box<ReceivedEvent>),
    /// The daemon is gone; the feed waits for it to come back.
    Lost,
    /// The daemon is back, and the stream resumes where it ended.
    Back,
}

/// An event as the daemon sent it.
#[derive(Debug)]
pub struct ReceivedEvent {
    /// Resumes the stream behind this event.
    pub cursor: Option<Cursor>,
    /// The JSON as the daemon wrote it.
    pub json: String,
    /// The event, unless it is of a kind that only newer versions know.
    pub envelope: Option<EventEnvelope>,
}

/// An event stream that resumes.
#[derive(Debug)]
pub struct EventFeed {
    client: Client,
    since: Option<String>,
    last: Option<Cursor>,
    open: Option<OpenStream>,
    blocks: VecDeque<SseBlock>,
    /// Attempts since a stream last lasted for [`STEADY`].
    attempts: u32,
    lost: bool,
}

#[derive(Debug)]
struct OpenStream {
    response: Response,
    decoder: Decoder,
    at: Instant,
}

#[derive(serde::Serialize)]
struct Since<'a> {
    since: Option<&'a str>,
}

impl EventFeed {
    /// Opens the stream at `since`, or from now on. Once this returns, no later event is missed.
    pub(crate) async fn open(client: &Client, since: Option<String>) -> Result<Self, ClientError> {
        let mut feed = Self {
            client: client.clone(),
            since,
            last: None,
            open: None,
            blocks: VecDeque::new(),
            attempts: 0,
            lost: false,
        };
        let opening = tokio::time::timeout(OPENING_MAX, feed.begin_when_started()).await;
        opening.map_err(|_| client.timed_out(OPENING_MAX))??;
        Ok(feed)
    }

    /// The cursor of the last event that was given out; the start of the stream before the first.
    pub fn cursor(&self) -> Option<Cursor> {
        self.last
    }

    /// Whether the next item has to be waited for.
    pub fn is_idle(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Reads the stream in a task of its own, so that no event is lost while something else is awaited. The channel holds
    /// `capacity` items and ends after an error, or when its receiver is dropped.
    pub fn into_channel(mut self, capacity: usize) -> Receiver<Result<FeedItem, ClientError>> {
        let (items, receiver) = channel(capacity);
        tokio::spawn(async move {
            loop {
                let item = self.next().await;
                let last = item.is_err();
                if items.send(item).await.is_err() || last {
                    break;
                }
            }
        });
        receiver
    }

    /// The next item. Waits as long as it takes, and through any number of restarts. Cancel safe.
    ///
    /// # Errors
    /// When the daemon refuses to go on, or the stream cannot be understood. The feed has ended then.
    pub async fn next(&mut self) -> Result<FeedItem, ClientError> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                if let Some(event) = self.take(block)? {
                    return Ok(FeedItem::Event(Box::new(event)));
                }
            } else if self.open.is_some() {
                // A stream that is silent for too long is as good as ended.
                if !tokio::time::timeout(SILENCE_MAX, self.fill()).await.unwrap_or(Ok(false))? {
                    self.close();
                }
            } else if self.attempts > 0 && !self.lost {
                self.lost = true;
                return Ok(FeedItem::Lost);
            } else if self.reconnect().await? && mem::take(&mut self.lost) {
                return Ok(FeedItem::Back);
            }
        }
    }

    /// Begins as soon as the daemon has loaded its room.
    async fn begin_when_started(&mut self) -> Result<(), ClientError> {
        loop {
            match self.begin().await {
                Err(error) if error.is_starting() => tokio::time::sleep(PAUSES.0).await,
                ended => return ended,
            }
        }
    }

    /// Opens the stream and reads its first block, which has its start.
    async fn begin(&mut self) -> Result<(), ClientError> {
        self.connect().await?;
        while self.blocks.is_empty() {
            if !self.fill().await? {
                return Err(ClientError::Broken { source: None });
            }
        }
        if let Some(start) = self.blocks.pop_front_if(|block| block.data.is_none()) {
            self.take(start)?;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let last = self.last.map(|cursor| cursor.to_string());
        let since = if last.is_some() { None } else { self.since.as_deref() };
        let mut call = Call::get(&["events"]).query(&Since { since });
        if let Some(last) = last {
            call = call.header("last-event-id", last);
        }
        let response = self.client.stream(&call).await?;
        self.open = Some(OpenStream { response, decoder: Decoder::default(), at: Instant::now() });
        Ok(())
    }

    /// Tries once to get the stream back, after its pause; returns whether it succeeded.
    async fn reconnect(&mut self) -> Result<bool, ClientError> {
        if let Some(doublings) = self.attempts.checked_sub(1) {
            let (first, longest) = PAUSES;
            tokio::time::sleep(first.saturating_mul(1 << doublings.min(16)).min(longest)).await;
        }
        self.attempts = self.attempts.saturating_add(1);
        match tokio::time::timeout(OPENING_MAX, self.connect()).await {
            Ok(Ok(())) => Ok(true),
            Err(_) => Ok(false),
            Ok(Err(error)) if error.passes_later() || error.is_of_a_restart() => Ok(false),
            Ok(Err(error)) => Err(error),
        }
    }

    fn close(&mut self) {
        if self.open.take().is_some_and(|open| open.at.elapsed() >= STEADY) {
            self.attempts = 0;
        }
    }

    /// Reads one chunk; returns whether there was one.
    async fn fill(&mut self) -> Result<bool, ClientError> {
        let Some(open) = &mut self.open else { return Ok(false) };
        // A stream that breaks has ended, too.
        let Ok(Some(chunk)) = open.response.chunk().await else { return Ok(false) };
        open.decoder.push(&chunk, &mut self.blocks).map_err(unexpected)?;
        Ok(true)
    }

    /// The event of a block, unless the block only has the start of the stream, or the event was seen before.
    fn take(&mut self, block: SseBlock) -> Result<Option<ReceivedEvent>, ClientError> {
        let cursor: Option<Cursor> = block.id.as_deref().map(str::parse).transpose().map_err(unexpected)?;
        let Some(json) = block.data else {
            self.last = self.last.or(cursor);
            return Ok(None);
        };
        let gap = block.event.as_deref() == Some("gap");
        if let (Some(new), Some(last), false) = (cursor, self.last, gap)
            && new.run == last.run
            && new.event <= last.event
        {
            return Ok(None);
        }
        self.last = cursor.or(self.last);
        let envelope = serde_json::from_str(&json).ok();
        Ok(Some(ReceivedEvent { cursor, json, envelope }))
    }
}

fn unexpected(source: impl Into<UnexpectedAnswer>) -> ClientError {
    ClientError::Unexpected { call: "GET /v1/events".into(), source: source.into() }
}
