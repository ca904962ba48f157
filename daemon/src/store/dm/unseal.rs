//! Decrypts messages that others sealed for this peer.
//!
//! A message either opens a session (a pre-key message, which names an identity key that its author must have
//! published) or continues one; then each session with the author is tried, the one used last first. The plaintext must
//! name this room, this author and exactly the recipients of the boxes. Then the advanced session is stored.
//!
//! Invariants: a session advances only if the text is returned, in the transaction that writes the text; a message that
//! cannot be decrypted is an ordinary outcome (`None`), and retires the sessions with its author, so that the next
//! message to it opens a new one; one entry costs at most [`FAILURES_MAX`] failed attempts.
//!
//! Called by `tables::messages` for a new message and by `tables::visibility` for one that was hidden.

use chat_core::log::entry::SealedBox;
use chat_proto::id::{EntryHash, MessageId, PeerId};
use rusqlite::{Connection, OptionalExtension as _};
use tracing::{debug, warn};
use vodozemac::olm::{DecryptionError, OlmMessage, PreKeyMessage, SessionConfig, SessionCreationError};

use super::plaintext::{BindingError, Plaintext, ReplyMark};
use super::sessions::{self, PeerSession, SessionUse};
use super::{account, is_published};
use crate::store::tables::WriteContext;
use crate::store::types::Secret;

/// Maximum number of failed attempts per entry; the rest of the entry is not tried. An entry has up to 1,024 messages,
/// and an attempt may take a millisecond of the writer's time.
const FAILURES_MAX: u32 = 16;

/// Version of an Olm message from which on it carries a whole MAC.
const WHOLE_MAC_VERSION: u8 = 4;

/// Decrypts the messages of one entry.
#[derive(Debug)]
pub(in crate::store) struct Unsealer {
    /// Row number of the author.
    author: i64,
    failures: u32,
}

/// A direct message as its reader has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct OpenedMessage {
    pub(in crate::store) text: String,
    /// The message that it answers, if its entry is stored here.
    pub(in crate::store) reply_to: Option<MessageId>,
}

/// Why a message cannot be decrypted.
#[derive(Debug, thiserror::Error)]
enum UnsealError {
    #[error("its ciphertext cannot be decoded")]
    Malformed(#[from] vodozemac::DecodeError),
    #[error("it names an identity key that its author did not publish")]
    Identity,
    #[error("no session decrypts it")]
    NoSession,
    #[error("its session does not decrypt it")]
    Session(#[from] DecryptionError),
    #[error("it does not open a session")]
    Creation(#[from] SessionCreationError),
    #[error("this database has no keys")]
    NoAccount,
    #[error("its plaintext does not belong to this entry")]
    Binding(#[from] BindingError),
    #[error("database")]
    Database(#[from] rusqlite::Error),
}

impl Unsealer {
    pub(in crate::store) fn new(author: i64) -> Self {
        Self { author, failures: 0 }
    }

    /// A sealed message; `None` if it cannot be decrypted.
    pub(in crate::store) fn open(
        &mut self,
        context: &WriteContext<'_>,
        author: PeerId,
        boxes: &[SealedBox],
        mine: &SealedBox,
    ) -> rusqlite::Result<Option<OpenedMessage>> {
        if self.failures >= FAILURES_MAX {
            return Ok(None);
        }
        match self.try_open(context, author, boxes, mine) {
            Ok(opened) => Ok(Some(opened)),
            Err(UnsealError::Database(error)) => Err(error),
            Err(error) => {
                self.failures += 1;
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                // The next message to this author then opens a new session, which it can answer with.
                if sessions::retire(context.connection, self.author)? {
                    warn!(author = %author.short(), %error, cause, "a direct message cannot be decrypted");
                } else {
                    // After a lost database all old messages arrive again: not worth a warning each.
                    debug!(author = %author.short(), %error, cause, "a direct message cannot be decrypted");
                }
                Ok(None)
            }
        }
    }

    fn try_open(
        &self,
        context: &WriteContext<'_>,
        author: PeerId,
        boxes: &[SealedBox],
        mine: &SealedBox,
    ) -> Result<OpenedMessage, UnsealError> {
        let WriteContext { connection, secret, .. } = context;
        let message = OlmMessage::from_parts(mine.kind.into(), &mine.ciphertext)?;
        let (held, inside) = match &message {
            OlmMessage::PreKey(first) => self.open_first(connection, secret, first, &message)?,
            OlmMessage::Normal(_) => self.open_next(connection, secret, &message)?,
        };
        let room = context.room.as_ref().ok_or(BindingError::Room)?.id;
        let (text, mark) = Plaintext::open(&inside, room, author, boxes)?;
        sessions::save(connection, secret, self.author, &held, SessionUse::Opened)?;
        Ok(OpenedMessage { text, reply_to: marked(connection, &mark)? })
    }

    /// Decrypts a message that may open a session.
    fn open_first(
        &self,
        connection: &Connection,
        secret: &Secret,
        first: &PreKeyMessage,
        message: &OlmMessage,
    ) -> Result<(PeerSession, Vec<u8>), UnsealError> {
        if let Some(mut held) = sessions::named(connection, secret, self.author, &first.session_id())? {
            let inside = held.session.decrypt(message)?;
            return Ok((held, inside));
        }
        let identity = first.identity_key();
        if !is_published(connection, self.author, identity.as_bytes())? {
            return Err(UnsealError::Identity);
        }
        let mut account = account::load(connection, secret)?.ok_or(UnsealError::NoAccount)?;
        // Sessions open with fallback keys only, so the account does not change.
        let whole_mac = first.message().version() >= WHOLE_MAC_VERSION;
        let config = if whole_mac { SessionConfig::version_2() } else { SessionConfig::version_1() };
        let opened = account.create_inbound_session(config, identity, first)?;
        Ok((PeerSession { session: opened.session, identity: identity.to_bytes() }, opened.plaintext))
    }

    /// Decrypts a message of an existing session.
    fn open_next(
        &self,
        connection: &Connection,
        secret: &Secret,
        message: &OlmMessage,
    ) -> Result<(PeerSession, Vec<u8>), UnsealError> {
        for mut held in sessions::all(connection, secret, self.author)? {
            if let Ok(inside) = held.session.decrypt(message) {
                return Ok((held, inside));
            }
        }
        Err(UnsealError::NoSession)
    }
}

/// The message that a mark names: what an answer answers is older than the answer, and so is stored.
fn marked(connection: &Connection, mark: &ReplyMark) -> rusqlite::Result<Option<MessageId>> {
    let (first, last) = mark.hashes();
    let entry: Option<[u8; 32]> = connection
        .prepare_cached("SELECT hash FROM entries WHERE hash BETWEEN ? AND ? AND control = 0")?
        .query_row([first, last], |row| row.get(0))
        .optional()?;
    Ok(entry.map(|entry| MessageId { entry: EntryHash::from_bytes(entry), index: mark.index() }))
}
