//! Follows the daemon's event stream across its restarts: nothing is missed, nothing comes twice.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use chat_proto::cursor::Cursor;
use chat_proto::event::EventEnvelope;

use crate::client::{Call, CallError, Client, Stream, query};
use crate::error::CommandError;
use crate::sse::{Decoder, Frame};

/// A stream this long without a byte is dead: the daemon sends a keep-alive every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// How long the first bytes of a stream may take.
const OPENING_MAX: Duration = Duration::from_secs(10);

/// A stream that held this long was a good one: when it ends, the next attempt comes at once again.
const STEADY: Duration = Duration::from_secs(1);

/// Pauses between attempts to get a stream back: the first attempt comes at once, then these, doubling.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What a feed brings.
#[derive(Debug)]
pub(crate) enum Item {
    /// An event.
    Event(Box<Received>),
    /// The daemon is gone; the feed waits for it.
    Lost,
    /// The daemon is back, and the stream goes on where it ended.
    Back,
}

/// An event as it came.
#[derive(Debug)]
pub(crate) struct Received {
    /// Where a reader that has seen it goes on.
    pub(crate) cursor: Option<Cursor>,
    /// The JSON as the daemon wrote it.
    pub(crate) json: String,
    /// The event, unless it is of a kind that only newer versions know.
    pub(crate) envelope: Option<EventEnvelope>,
}

/// A stream of events that comes back.
pub(crate) struct Feed {
    client: Client,
    since: Option<String>,
    last: Option<Cursor>,
    open: Option<Open>,
    frames: VecDeque<Frame>,
    /// Attempts since a stream last held for [`STEADY`].
    attempts: u32,
    lost: bool,
}

struct Open {
    stream: Stream,
    decoder: Decoder,
    at: Instant,
}

#[derive(serde::Serialize)]
struct Since<'a> {
    since: Option<&'a str>,
}

impl Feed {
    /// Opens the stream at `since` (a cursor, a duration, a time, `all`), or from now; once this returns, every later
    /// event will be brought.
    ///
    /// # Errors
    /// When there is no daemon, or it refuses.
    pub(crate) async fn open(client: &Client, since: Option<String>) -> Result<Self, CommandError> {
        let mut feed = Self {
            client: client.another(),
            since,
            last: None,
            open: None,
            frames: VecDeque::new(),
            attempts: 0,
            lost: false,
        };
        let opening = tokio::time::timeout(OPENING_MAX, feed.begin()).await;
        opening.map_err(|_| CallError::TimedOut { after: OPENING_MAX })??;
        Ok(feed)
    }

    /// The last place that was seen; the start of the stream before the first event.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.last
    }

    /// Whether the next item has to be waited for.
    pub(crate) fn is_idle(&self) -> bool {
        self.frames.is_empty()
    }

    /// The next item. It waits as long as it takes, and through any number of restarts.
    ///
    /// # Errors
    /// When the daemon refuses to go on, or the stream cannot be understood.
    pub(crate) async fn next(&mut self) -> Result<Item, CommandError> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                if let Some(event) = self.take(frame)? {
                    return Ok(Item::Event(Box::new(event)));
                }
            } else if self.open.is_some() {
                // A stream that says nothing for too long is as good as ended.
                if !tokio::time::timeout(SILENCE_MAX, self.fill()).await.unwrap_or(Ok(false))? {
                    self.close();
                }
            } else if self.attempts > 0 && !self.lost {
                self.lost = true;
                return Ok(Item::Lost);
            } else if self.reconnect().await? && mem::take(&mut self.lost) {
                return Ok(Item::Back);
            }
        }
    }

    /// Opens the stream and reads its first block, which tells where it starts.
    async fn begin(&mut self) -> Result<(), CommandError> {
        self.connect().await?;
        while self.frames.is_empty() {
            if !self.fill().await? {
                return Err(CallError::Broken { source: None }.into());
            }
        }
        if let Some(start) = self.frames.pop_front_if(|frame| frame.data.is_none()) {
            self.take(start)?;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), CallError> {
        let last = self.last.map(|cursor| cursor.to_string());
        let since = if last.is_some() { None } else { self.since.as_deref() };
        let mut call = Call::get(query("/v1/events", &Since { since }));
        if let Some(last) = &last {
            call = call.header("last-event-id", last);
        }
        let stream = self.client.stream(&call).await?;
        self.open = Some(Open { stream, decoder: Decoder::default(), at: Instant::now() });
        Ok(())
    }

    /// One attempt to get the stream back, after its pause; says whether it is.
    async fn reconnect(&mut self) -> Result<bool, CommandError> {
        if let Some(doublings) = self.attempts.checked_sub(1) {
            let (first, longest) = PAUSES;
            tokio::time::sleep(first.saturating_mul(1 << doublings.min(16)).min(longest)).await;
        }
        self.attempts = self.attempts.saturating_add(1);
        match tokio::time::timeout(OPENING_MAX, self.connect()).await {
            Ok(Ok(())) => Ok(true),
            Err(_) => Ok(false),
            Ok(Err(error)) if error.passes_later() || error.is_of_a_restart() => Ok(false),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    fn close(&mut self) {
        if self.open.take().is_some_and(|open| open.at.elapsed() >= STEADY) {
            self.attempts = 0;
        }
    }

    /// Reads one chunk; says whether there was one.
    async fn fill(&mut self) -> Result<bool, CommandError> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let Some(chunk) = open.stream.chunk().await else { return Ok(false) };
        open.decoder.push(&chunk, &mut self.frames)?;
        Ok(true)
    }

    /// The event of a frame, unless the frame only tells where the stream starts, or the event was seen before.
    fn take(&mut self, frame: Frame) -> Result<Option<Received>, CommandError> {
        let cursor: Option<Cursor> = frame.id.as_deref().map(str::parse).transpose()?;
        let Some(json) = frame.data else {
            self.last = self.last.or(cursor);
            return Ok(None);
        };
        let gap = frame.event.as_deref() == Some("gap");
        if let (Some(new), Some(last), false) = (cursor, self.last, gap)
            && new.database == last.database
            && new.event <= last.event
        {
            return Ok(None);
        }
        self.last = cursor.or(self.last);
        let envelope = serde_json::from_str(&json).ok();
        Ok(Some(Received { cursor, json, envelope }))
    }
}
