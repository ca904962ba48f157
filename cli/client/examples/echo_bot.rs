//! Answers every direct message with its own text, until it is stopped: `cargo run -p chat-client --example echo_bot`.
//!
//! The daemon is found as `chat` finds it: CHATD_URL and CHATD_TOKEN, else CHATD_HOME, else the default home.

use std::error::Error;

use chat_client::{Client, ClientError, FeedItem, OutgoingMessage, Repeat};
use chat_proto::event::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    Ok(echo(Client::from_env()?).await?)
}

/// Echoes until the daemon refuses to go on; its restarts are waited for.
pub(crate) async fn echo(client: Client) -> Result<(), ClientError> {
    // The stream is opened first, so that no message is missed from here on.
    let mut feed = client.events(None).await?;
    let me = client.status().await?.peer.id;
    loop {
        let FeedItem::Event(received) = feed.next().await? else { continue };
        let Some(Event::Message { message }) = received.envelope.map(|envelope| envelope.event) else { continue };
        if message.from.id != me && !message.to.is_empty() {
            let answer = OutgoingMessage::new(vec![message.from.id.to_string()], message.text);
            client.send(&answer, Repeat::Patient).await?;
        }
    }
}
