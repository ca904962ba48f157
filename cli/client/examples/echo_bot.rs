//! Answers every direct message with its own text, until it is stopped: `cargo run -p chat-client --example echo_bot`.
//!
//! The daemon is found as `chat` finds it: CHATD_URL and CHATD_TOKEN, else CHATD_HOME, else the default home.

use std::error::Error;
use std::io::{self, Write};

use chat_client::{Client, FeedItem, OutgoingMessage, Repeat};
use chat_proto::event::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::from_env()?;
    // The stream is opened first, so that no message is missed from here on.
    let mut feed = client.events(None).await?;
    let me = client.status().await?.peer;
    writeln!(io::stdout(), "{} echoes", me.name)?;
    loop {
        // Restarts of the daemon are waited for in here.
        let FeedItem::Event(received) = feed.next().await? else { continue };
        let Some(Event::Message { message }) = received.envelope.map(|envelope| envelope.event) else { continue };
        if message.from.id == me.id || message.to.is_empty() {
            continue;
        }
        let answer = OutgoingMessage::new(vec![message.from.id.to_string()], message.text);
        client.send(&answer, Repeat::Patient).await?;
    }
}
