//! Opening what others sealed for this peer.

use chat_core::log::entry::SealedBox;
use chat_proto::id::PeerId;
use rusqlite::Connection;
use tracing::{debug, warn};
use vodozemac::olm::{DecryptionError, OlmMessage, PreKeyMessage, SessionConfig, SessionCreationError};

use super::plaintext::{BindingError, Plaintext};
use super::sessions::{self, Held, Use};
use super::{account, is_published};
use crate::store::Secret;
use crate::store::tables::entries::Scene;

/// After so many failures in one entry the rest of it is not tried: an entry holds up to 1,024 messages, and each try
/// may cost a millisecond of the writer's time.
const FAILURES_MAX: u32 = 16;

/// Opens the messages of one entry.
#[derive(Debug)]
pub(in crate::store) struct Opener {
    /// Row number of the author.
    author: i64,
    failures: u32,
}

/// Why a message stays closed.
#[derive(Debug, thiserror::Error)]
enum UnsealError {
    #[error("its ciphertext cannot be decoded")]
    Malformed(#[from] vodozemac::DecodeError),
    #[error("it names an identity key that its author did not publish")]
    Identity,
    #[error("no session opens it")]
    NoSession,
    #[error("its session does not open it")]
    Session(#[from] DecryptionError),
    #[error("it does not open a session")]
    Creation(#[from] SessionCreationError),
    #[error("this database has no keys")]
    NoAccount,
    #[error("what it holds does not belong here")]
    Binding(#[from] BindingError),
    #[error("database")]
    Database(#[from] rusqlite::Error),
}

impl Opener {
    pub(in crate::store) fn new(author: i64) -> Self {
        Self { author, failures: 0 }
    }

    /// The text of a sealed message; none when it cannot be opened.
    pub(in crate::store) fn open(
        &mut self,
        scene: &Scene<'_>,
        author: PeerId,
        boxes: &[SealedBox],
        mine: &SealedBox,
    ) -> rusqlite::Result<Option<String>> {
        if self.failures >= FAILURES_MAX {
            return Ok(None);
        }
        match self.try_open(scene, author, boxes, mine) {
            Ok(text) => Ok(Some(text)),
            Err(UnsealError::Database(error)) => Err(error),
            Err(error) => {
                self.failures += 1;
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                // The next message to this author opens a new session, with which it can answer.
                if sessions::retire(scene.connection, self.author)? {
                    warn!(author = %author.short(), %error, cause, "a direct message cannot be opened");
                } else {
                    // After a lost database everything old comes again: that is not worth a line each.
                    debug!(author = %author.short(), %error, cause, "a direct message cannot be opened");
                }
                Ok(None)
            }
        }
    }

    fn try_open(
        &self,
        scene: &Scene<'_>,
        author: PeerId,
        boxes: &[SealedBox],
        mine: &SealedBox,
    ) -> Result<String, UnsealError> {
        let Scene { connection, secret, .. } = scene;
        let message = OlmMessage::from_parts(mine.kind.into(), &mine.ciphertext)?;
        let (held, inside) = match &message {
            OlmMessage::PreKey(first) => self.open_first(connection, secret, first, &message)?,
            OlmMessage::Normal(_) => self.open_next(connection, secret, &message)?,
        };
        let room = scene.room.as_ref().ok_or(BindingError::Room)?.id;
        let text = Plaintext::open(&inside, room, author, boxes)?;
        sessions::save(connection, secret, self.author, &held, Use::Opened)?;
        Ok(text)
    }

    /// A message that may open a session.
    fn open_first(
        &self,
        connection: &Connection,
        secret: &Secret,
        first: &PreKeyMessage,
        message: &OlmMessage,
    ) -> Result<(Held, Vec<u8>), UnsealError> {
        if let Some(mut held) = sessions::named(connection, secret, self.author, &first.session_id())? {
            let inside = held.session.decrypt(message)?;
            return Ok((held, inside));
        }
        let identity = first.identity_key();
        if !is_published(connection, self.author, identity.as_bytes())? {
            return Err(UnsealError::Identity);
        }
        let mut account = account::load(connection, secret)?.ok_or(UnsealError::NoAccount)?;
        // Sessions open with fallback keys only, so the account stays as it is.
        let opened = account.create_inbound_session(SessionConfig::version_1(), identity, first)?;
        Ok((Held { session: opened.session, identity: identity.to_bytes() }, opened.plaintext))
    }

    /// A message of a session that stands.
    fn open_next(
        &self,
        connection: &Connection,
        secret: &Secret,
        message: &OlmMessage,
    ) -> Result<(Held, Vec<u8>), UnsealError> {
        for mut held in sessions::all(connection, secret, self.author)? {
            if let Ok(inside) = held.session.decrypt(message) {
                return Ok((held, inside));
            }
        }
        Err(UnsealError::NoSession)
    }
}
