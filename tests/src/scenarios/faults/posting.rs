//! Posts messages to daemons that may be down, stopped, or on a disk that fails: again and again with the same key.

use std::path::Path;
use std::time::{Duration, Instant};

use chat_proto::api::messages::{SendRequest, SentMessage};

use crate::api::DaemonApi;
use crate::eventually::eventually;

/// How long a message may need until it is acknowledged: a restart lies in between.
const ACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// An acknowledged message.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// As the daemon has it.
    pub sent: SentMessage,
    /// Number of calls that it took.
    pub tries: usize,
    /// From the first call to the acknowledgement.
    pub took: Duration,
}

/// Posts a message until the daemon acknowledges it as stored.
///
/// # Panics
/// When it does not within a minute.
#[track_caller]
pub fn post(api: &mut DaemonApi, socket: &Path, message: &SendRequest, key: &str) -> Acknowledged {
    let (mut tries, begun) = (0, Instant::now());
    let sent = eventually(ACKNOWLEDGED_MAX, "the message is acknowledged", || {
        tries += 1;
        try_post(api, socket, message, key)
    });
    Acknowledged { sent, tries, took: begun.elapsed() }
}

/// Posts a message once.
///
/// # Errors
/// What the daemon said instead of acknowledging it. It may be stored all the same.
pub fn try_post(api: &mut DaemonApi, socket: &Path, message: &SendRequest, key: &str) -> Result<SentMessage, String> {
    let reply = match api.post_message(message, key) {
        Ok(reply) => reply,
        Err(error) => {
            // The daemon is down, or was killed under the call: the next one opens a new connection.
            *api = DaemonApi::unix(socket);
            return Err(error.to_string());
        }
    };
    // 200: a try before this one had posted it. 202: it is stored, and what was waited for has not come about.
    match reply.status {
        status @ (200..=202) => Ok(reply.json::<SentMessage>(status)),
        _ => Err(reply.text()),
    }
}
