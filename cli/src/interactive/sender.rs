//! Posts typed messages one after the other, while the person types on.

use chat_client::{Client, OutgoingMessage, Repeat};
use chat_proto::id::MessageId;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use crate::commands::send;
use crate::error::CliError;

/// Maximum number of messages that wait behind one that is being posted; no more is read from the terminal until the daemon
/// is back.
const QUEUE: usize = 1_000;

/// How a post ended.
pub(super) struct Posted {
    /// The start of the text, for when it failed.
    pub(super) text: String,
    /// The message's id, or why it is not posted.
    pub(super) result: Result<MessageId, CliError>,
}

/// The task that posts.
pub(super) struct MessageSender {
    queue: Option<Sender<(Vec<String>, String)>>,
    results: Receiver<Posted>,
    task: JoinHandle<()>,
}

impl MessageSender {
    /// Starts posting.
    pub(super) fn start(client: Client) -> Self {
        let (queue, mut posts) = channel::<(Vec<String>, String)>(QUEUE);
        let (answers, results) = channel(QUEUE);
        let task = tokio::spawn(async move {
            while let Some((to, text)) = posts.recv().await {
                let posted = send::post(&client, &OutgoingMessage::new(to, text.as_str()), Repeat::Patient).await;
                let result = posted.map(|(sent, _)| sent.message.id);
                if answers.send(Posted { text, result }).await.is_err() {
                    break;
                }
            }
        });
        Self { queue: Some(queue), results, task }
    }

    /// Whether there is room for another message.
    pub(super) fn has_room(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.capacity() > 0)
    }

    /// Queues a message; returns whether there was room for it.
    pub(super) fn post(&self, to: Vec<String>, text: String) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.try_send((to, text)).is_ok())
    }

    /// The next result; waits for ever when no message is being posted.
    pub(super) async fn result(&mut self) -> Posted {
        match self.results.recv().await {
            Some(posted) => posted,
            None => std::future::pending().await,
        }
    }

    /// Takes no more messages, and gives the results of those that are on their way, one by one.
    pub(super) async fn last_results(&mut self) -> Option<Posted> {
        self.queue = None;
        self.results.recv().await
    }
}

impl Drop for MessageSender {
    fn drop(&mut self) {
        self.task.abort();
    }
}
