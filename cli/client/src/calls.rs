//! The typed calls of the local API. All of them fail with [`ClientError`]; the code of a refusal's problem has the reason.

use std::convert::Infallible;
use std::time::Duration;

use chat_proto::api::invites::{Invite, InviteList, InviteRequest, NewInvite};
use chat_proto::api::members::{
    JoinRequest, Joined, Knock, KnockAnswer, KnockList, MemberRoleRequest, NameRequest, NearbyRoom, RoomList,
};
use chat_proto::api::messages::{HistoryQuery, Message, MessagePage, SendRequest, SentMessage};
use chat_proto::api::peers::{MemberRole, PeerList, PeerRef, PeerView};
use chat_proto::api::readers::ReadMark;
use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::api::status::Status;
use chat_proto::api::tokens::{NewToken, TokenInfo, TokenList, TokenRequest};
use chat_proto::api::web::WebLink;
use chat_proto::cursor::Cursor;
use chat_proto::error::ErrorCode;
use chat_proto::event::{Event, KnockState};
use chat_proto::id::{KnockId, MessageId};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::call::{Call, Repeat};
use crate::client::Client;
use crate::error::ClientError;
use crate::event_feed::{EventFeed, FeedItem};

/// How long the daemon waits by default for what a send asks for.
pub const SEND_WAIT_DEFAULT: Duration = Duration::from_secs(10);

/// What the answer to a send may take beyond the wait itself.
const SEND_ANSWER_GRACE: Duration = Duration::from_secs(10);

/// Messages of one page of the history; the API gives up to 1,000.
const HISTORY_PAGE: u64 = 500;

/// A point before every message.
const BEGINNING: &str = "1970-01-01T00:00:00.000Z";

/// A message to send, and the idempotency key that makes it post once however often it is sent.
#[derive(Debug, Clone)]
pub struct OutgoingMessage {
    /// What is sent.
    pub request: SendRequest,
    /// The key.
    pub key: String,
}

impl OutgoingMessage {
    /// A message to these recipients, or to the whole room, that waits for this machine's disk alone; with a new key.
    pub fn new(to: Vec<String>, text: impl Into<String>) -> Self {
        SendRequest { to, text: text.into(), ..SendRequest::default() }.into()
    }
}

impl From<SendRequest> for OutgoingMessage {
    fn from(request: SendRequest) -> Self {
        // 128 random bits: no two sends share a key by chance.
        Self { request, key: format!("{:032x}", rand::random::<u128>()) }
    }
}

impl Client {
    /// The state of the daemon, its peer and its room.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.read(&Call::get(&["status"])).await
    }

    /// Every member of the room, this peer first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peers(&self) -> Result<Vec<PeerView>, ClientError> {
        Ok(self.read::<PeerList>(&Call::get(&["peers"])).await?.peers)
    }

    /// Which peer holds the rendezvous role, which would follow, and why.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rendezvous(&self) -> Result<RendezvousView, ClientError> {
        self.read(&Call::get(&["rendezvous"])).await
    }

    /// Sends a message and waits for what it asks for.
    ///
    /// # Errors
    /// [`ClientError::WaitRanOut`] when the message is stored and the rest has not come in time. After
    /// [`ClientError::Broken`] and [`ClientError::TimedOut`] it may be stored or not: sending the same value again is safe.
    pub async fn send(&self, message: &OutgoingMessage, repeat: Repeat) -> Result<SentMessage, ClientError> {
        let wait = message.request.timeout_ms.map_or(SEND_WAIT_DEFAULT, Duration::from_millis);
        let call = Call::post(&["messages"], &message.request)
            .header("idempotency-key", &message.key)
            .repeat(repeat)
            .timeout(Some(wait.saturating_add(SEND_ANSWER_GRACE)));
        let answer = self.call(&call).await?;
        let sent = answer.read()?;
        if answer.status() == 202 { Err(ClientError::WaitRanOut(Box::new(sent))) } else { Ok(sent) }
    }

    /// One message and how far it has come.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn message(&self, id: MessageId) -> Result<SentMessage, ClientError> {
        self.read(&Call::get(&["messages", &id.to_string()])).await
    }

    /// One page of the history, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history(&self, query: &HistoryQuery) -> Result<MessagePage, ClientError> {
        self.read(&Call::get(&["messages"]).query(query)).await
    }

    /// The last `count` messages that pass `filter`, oldest first, page by page.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn last_messages(&self, filter: &HistoryQuery, count: u64) -> Result<Vec<Message>, ClientError> {
        let messages = self.last_messages_with_cursors(filter, count).await?;
        Ok(messages.into_iter().map(|(message, _)| message).collect())
    }

    /// The last `count` messages that pass `filter`, oldest first, each with the cursor that resumes the event stream behind
    /// it; daemons of version 0.1 give no cursors.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn last_messages_with_cursors(
        &self,
        filter: &HistoryQuery,
        count: u64,
    ) -> Result<Vec<(Message, Option<Cursor>)>, ClientError> {
        let mut filter = filter.clone();
        let mut pages: Vec<MessagePage> = Vec::new();
        let mut left = count;
        while left > 0 {
            filter.limit = u32::try_from(left.min(HISTORY_PAGE)).ok();
            let page = self.history(&filter).await?;
            let Some(first) = page.messages.first() else { break };
            filter.before = Some(first.id.to_string());
            left = if page.more { left.saturating_sub(page.messages.len() as u64) } else { 0 };
            pages.push(page);
        }
        Ok(pages.into_iter().rev().flat_map(MessagePage::with_cursors).collect())
    }

    /// Gives `each` every message that passes `filter` and its cursor, oldest first, from its `after` or the beginning on, up to `count`.
    ///
    /// # Errors
    /// Says how a call failed, or what `each` failed with.
    pub async fn each_message<E: From<ClientError>>(
        &self,
        filter: &HistoryQuery,
        count: Option<u64>,
        mut each: impl FnMut(Message, Option<Cursor>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut filter = filter.clone();
        filter.after.get_or_insert_with(|| BEGINNING.to_owned());
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0 {
            filter.limit = u32::try_from(left.min(HISTORY_PAGE)).ok();
            let page = self.history(&filter).await?;
            let Some(last) = page.messages.last() else { break };
            filter.after = Some(last.id.to_string());
            left = if page.more { left.saturating_sub(page.messages.len() as u64) } else { 0 };
            page.with_cursors().try_for_each(|(message, cursor)| each(message, cursor))?;
        }
        Ok(())
    }

    /// Opens the event stream at `since` (a cursor, a duration, a time, or `all`), or from now on.
    ///
    /// # Errors
    /// [`ClientError`]; a daemon that is not there is not waited for.
    pub async fn events(&self, since: Option<String>) -> Result<EventFeed, ClientError> {
        EventFeed::open(self, since).await
    }

    /// Writes an invite and its ticket.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn invite(&self, request: &InviteRequest) -> Result<NewInvite, ClientError> {
        self.read(&Call::post(&["invites"], request)).await
    }

    /// Every invite of the room, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn invites(&self) -> Result<Vec<Invite>, ClientError> {
        Ok(self.read::<InviteList>(&Call::get(&["invites"])).await?.invites)
    }

    /// Revokes an invite: its id, or the first digits of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke(&self, invite: &str) -> Result<(), ClientError> {
        self.done(&Call::delete(&["invites", invite])).await
    }

    /// Newcomers that wait for admission, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn knocks(&self) -> Result<Vec<Knock>, ClientError> {
        Ok(self.read::<KnockList>(&Call::get(&["knocks"])).await?.knocks)
    }

    /// Admits or denies a newcomer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn answer_knock(&self, id: KnockId, answer: KnockAnswer) -> Result<(), ClientError> {
        self.done(&Call::post(&["knocks", &id.to_string()], &answer)).await
    }

    /// The member or former member that a name, `name~tag`, tag or key means.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn member(&self, name: &str) -> Result<PeerRef, ClientError> {
        self.read(&Call::get(&["members", name])).await
    }

    /// Accepts the member that bears a name now, after a send to it failed with [`ErrorCode::NameMoved`].
    ///
    /// # Errors
    /// [`ClientError`]; daemons of version 0.1 do not know the call.
    pub async fn trust(&self, name: &str) -> Result<PeerRef, ClientError> {
        self.read(&Call::post(&["members", name, "trust"], &json!({}))).await
    }

    /// Removes a member: a name, `name~tag`, tag or key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove(&self, member: &str) -> Result<(), ClientError> {
        self.done(&Call::post(&["members", member, "remove"], &json!({}))).await
    }

    /// Grants or revokes a member's admin rights.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_role(&self, member: &str, role: MemberRole) -> Result<(), ClientError> {
        self.done(&Call::put(&["members", member, "role"], &MemberRoleRequest { role })).await
    }

    /// Renames this peer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rename(&self, name: impl Into<String>) -> Result<(), ClientError> {
        self.done(&Call::put(&["name"], &NameRequest { name: name.into() })).await
    }

    /// The last message that a client of this name has read; none where it has not said so.
    ///
    /// # Errors
    /// [`ClientError`]; daemons of version 0.1 do not know the call.
    pub async fn read_mark(&self, reader: &str) -> Result<Option<MessageId>, ClientError> {
        Ok(self.read::<ReadMark>(&Call::get(&["readers", reader])).await?.message)
    }

    /// Notes the last message that a client of this name has read.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_read_mark(&self, reader: &str, message: MessageId) -> Result<(), ClientError> {
        self.done(&Call::put(&["readers", reader], &ReadMark { message: Some(message) })).await
    }

    /// Moves to another room. The answer comes when a member there has decided, however long that takes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn join(&self, request: &JoinRequest) -> Result<Joined, ClientError> {
        self.read(&Call::post(&["join"], request).timeout(None)).await
    }

    /// The same, and gives `knocking` the words of this peer's knock while a member there has to compare them and decide.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn join_with_words(
        &self,
        request: &JoinRequest,
        mut knocking: impl FnMut(&str),
    ) -> Result<Joined, ClientError> {
        let feed = match self.events(None).await {
            Ok(feed) => Some(feed),
            Err(error @ ClientError::NoDaemon { .. }) => return Err(error),
            // A daemon that is not in a room has no events, and may join one.
            Err(_) => None,
        };
        let words = async {
            let Some(mut feed) = feed else { return std::future::pending().await };
            loop {
                let received = match feed.next().await {
                    Ok(FeedItem::Event(received)) => received,
                    Ok(FeedItem::Lost | FeedItem::Back) => continue,
                    Err(_) => return std::future::pending::<Infallible>().await,
                };
                if let Some(Event::Knock { words, state: KnockState::Waiting, .. }) =
                    received.envelope.map(|read| read.event)
                {
                    knocking(&words);
                }
            }
        };
        tokio::select! {
            joined = self.join(request) => joined,
            never = words => match never {},
        }
    }

    /// Leaves the room for good.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leave(&self) -> Result<(), ClientError> {
        self.done(&Call::post(&["leave"], &json!({}))).await
    }

    /// The same where this peer is the only admin: the other members remain without one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leave_without_admin(&self) -> Result<(), ClientError> {
        self.done(&Call::post(&["leave"], &json!({})).query(&json!({"force": true}))).await
    }

    /// Rooms on the local network.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rooms(&self) -> Result<Vec<NearbyRoom>, ClientError> {
        Ok(self.read::<RoomList>(&Call::get(&["rooms"])).await?.rooms)
    }

    /// The tokens of callers over TCP, without their secrets.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tokens(&self) -> Result<Vec<TokenInfo>, ClientError> {
        Ok(self.read::<TokenList>(&Call::get(&["tokens"])).await?.tokens)
    }

    /// Makes a token; its secret is shown this once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(&self, request: &TokenRequest) -> Result<NewToken, ClientError> {
        self.read(&Call::post(&["tokens"], request)).await
    }

    /// Gives a token a new secret; the old one is void.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_token(&self, name: &str) -> Result<NewToken, ClientError> {
        self.read(&Call::post(&["tokens", name, "rotate"], &json!({}))).await
    }

    /// Revokes a token; event streams that were opened with it end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_token(&self, name: &str) -> Result<(), ClientError> {
        self.done(&Call::delete(&["tokens", name])).await
    }

    /// A one-time link to the page in the browser: a secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn web_link(&self) -> Result<WebLink, ClientError> {
        self.read(&Call::post(&["web", "links"], &json!({}))).await
    }

    /// Asks the daemon to stop; it answers before it does. One that is stopping already is no error.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        match self.done(&Call::post(&["shutdown"], &json!({}))).await {
            Err(ClientError::Refused(problem)) if problem.code == ErrorCode::ShuttingDown => Ok(()),
            done => done,
        }
    }

    async fn read<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ClientError> {
        self.call(call).await?.read()
    }

    async fn done(&self, call: &Call) -> Result<(), ClientError> {
        self.call(call).await.map(|_| ())
    }
}
