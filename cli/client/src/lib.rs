//! The local API of `chatd` for Rust programs: bots, bridges, tests, and the commands `chat` and `chatd` themselves.
//!
//! A [`Client`] talks to one daemon, over the Unix socket of its home or over TCP with a token. Every call of the API that
//! the commands use is a method with typed arguments and answers; their types are those of `chat-proto`. An [`EventFeed`]
//! follows the event stream and resumes it by cursor when the daemon restarts, so that no event is missed or repeated.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use chat_client::{Client, FeedItem, OutgoingMessage, Repeat};
//!
//! let client = Client::from_env()?;
//! let mut feed = client.events(None).await?;
//! client.send(&OutgoingMessage::new(vec![], "hello"), Repeat::Safe).await?;
//! while let FeedItem::Event(event) = feed.next().await? {
//!     println!("{}", event.json);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! * [`home`]: where the files of a daemon are, and which daemon `--home` and the environment select.
//! * [`client`] and [`calls`]: connecting, repeating, and the typed calls; [`call`] for any other call.
//! * [`message_stream`]: many messages on one connection, each answered.
//! * [`event_feed`]: the event stream; [`sse`]: its decoder.
//! * [`error`]: one enum for every failure, its variants by what the caller can do about it.
//! * [`chat_settings`]: how `chat` looks, as the configuration of the home has it.
//! * [`status`] and [`display`]: a daemon's status as lines, and values as short text that is safe on a terminal.
//!
//! A client needs a Tokio runtime with time and IO enabled; a single-threaded one is enough. Calls can be cancelled by
//! dropping their future; whether the daemon acted is then not known. `examples/echo_bot.rs` is a complete bot.

pub mod call;
pub mod calls;
pub mod chat_settings;
pub mod client;
pub mod display;
pub mod error;
pub mod event_feed;
pub mod home;
pub mod message_stream;
pub mod sse;
pub mod status;

pub use call::{Call, Repeat};
pub use calls::OutgoingMessage;
pub use client::Client;
pub use error::ClientError;
pub use event_feed::{EventFeed, FeedItem, ReceivedEvent};
pub use home::{DaemonAddr, Home};
pub use message_stream::{MessageAnswers, MessageWriter};
