//! The example of the Rust SDK runs against a real daemon.

#[allow(dead_code)]
#[path = "../../cli/client/examples/echo_bot.rs"]
mod echo_bot;

use std::time::Duration;

use chat_client::{Client, DaemonAddr, FeedItem, Home, OutgoingMessage, Repeat};
use chat_proto::event::Event;
use chat_tests::cluster::TestRoom;
use chat_tests::daemon::Daemon;

fn client(daemon: &Daemon) -> Client {
    let home = Home::locate(Some(daemon.home().path()), |_| None).expect("an absolute path");
    Client::new(DaemonAddr::Home(home))
}

/// The text of the next direct message to the owner of `alice`.
async fn answer(alice: &Client) -> String {
    let me = alice.status().await.expect("it runs").peer.id;
    let mut feed = alice.events(Some("all".into())).await.expect("it runs");
    loop {
        let FeedItem::Event(event) = feed.next().await.expect("it goes on") else { continue };
        if let Some(Event::Message { message }) = event.envelope.map(|envelope| envelope.event)
            && message.from.id != me
        {
            return message.text;
        }
    }
}

#[tokio::test]
async fn echo_bot_answers_a_direct_message() {
    let room = tokio::task::spawn_blocking(|| TestRoom::of(&["alice", "bot"])).await.expect("a room");
    let alice = client(&room["alice"]);
    let bot = tokio::spawn(echo_bot::echo(client(&room["bot"])));
    let text = async {
        // The bot may not listen yet: only messages after its start are echoed.
        loop {
            let message = OutgoingMessage::new(vec!["bot".into()], "marco");
            alice.send(&message, Repeat::Never).await.expect("sent");
            if let Ok(text) = tokio::time::timeout(Duration::from_secs(1), answer(&alice)).await {
                return text;
            }
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(30), text).await;
    assert_eq!(text.as_deref(), Ok("marco"), "the bot: {bot:?}");
    bot.abort();
    tokio::task::spawn_blocking(move || drop(room)).await.expect("it ends");
}
