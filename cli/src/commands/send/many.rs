//! Many messages on one connection, in order, up to the first that is refused.
//!
//! Messages to the room do not wait for the answers before them: when one is refused, others are on their way already, and
//! what became of them is said. A direct message waits for all answers, and what follows waits for its own: after a name that
//! no member has, nothing is sent.

use std::collections::VecDeque;

use chat_client::message_stream::UNANSWERED_MAX;
use chat_client::{Client, ClientError, MessageAnswers, MessageWriter, Repeat};
use chat_proto::api::messages::{SendRequest, SentLine};
use chat_proto::text::check_text;
use tokio::sync::mpsc::Receiver;

use crate::error::CliError;
use crate::text::ui;

/// Sends the texts, numbered from 1, as the requests that they are worth; returns their number.
///
/// # Errors
/// That a text was refused or could not be read, or that the daemon has gone; what was not sent has been printed.
pub(crate) async fn send_all(
    client: &Client,
    word: &'static str,
    mut texts: Receiver<Result<String, CliError>>,
    request: impl Fn(String) -> Option<SendRequest>,
) -> Result<u64, CliError> {
    let (writer, answers) = client.message_stream(Repeat::Patient);
    let mut messages = ManyMessages { word, writer, answers, sent: VecDeque::new() };
    let mut number = 0;
    loop {
        let text = tokio::select! {
            biased;
            answer = messages.answers.next(), if !messages.sent.is_empty() => {
                messages.take(answer).await?;
                continue;
            }
            text = texts.recv(), if messages.sent.len() < UNANSWERED_MAX => text,
        };
        let Some(text) = text else { break };
        number += 1;
        match text.map(&request) {
            Ok(Some(request)) => messages.send(number, request).await?,
            Ok(None) => {}
            Err(error) => return Err(messages.stop(number, error).await),
        }
    }
    messages.settle().await?;
    Ok(number)
}

/// Numbered messages on their way.
struct ManyMessages {
    /// What a message is called: a line, a part.
    word: &'static str,
    writer: MessageWriter,
    answers: MessageAnswers,
    /// Numbers of the messages that are not answered.
    sent: VecDeque<u64>,
}

impl ManyMessages {
    async fn send(&mut self, number: u64, request: SendRequest) -> Result<(), CliError> {
        if let Err(error) = check_text(&request.text) {
            return Err(self.stop(number, error.into()).await);
        }
        let alone = !request.to.is_empty();
        if alone {
            self.settle().await?;
        }
        self.sent.push_back(number);
        // A stream that has ended says why in its answers.
        self.writer.send(request).await;
        if alone { self.settle().await } else { Ok(()) }
    }

    /// Waits until all messages are answered.
    async fn settle(&mut self) -> Result<(), CliError> {
        while !self.sent.is_empty() {
            let answer = self.answers.next().await;
            self.take(answer).await?;
        }
        Ok(())
    }

    async fn take(&mut self, answer: Option<Result<SentLine, ClientError>>) -> Result<(), CliError> {
        let answer = self.or_gone(answer)?;
        let Some(number) = self.sent.pop_front() else { return Ok(()) };
        match answer.problem {
            None => Ok(()),
            Some(problem) => Err(self.stop(number, ClientError::Refused(Box::new(problem)).into()).await),
        }
    }

    /// A message is not sent, for this reason: waits for what is on its way, and prints what became of it.
    async fn stop(&mut self, number: u64, reason: CliError) -> CliError {
        let word = self.word;
        let before = self.sent.iter().take_while(|sent| **sent < number).count();
        let (mut later, mut last) = (0_u64, number);
        for on_its_way in 0..self.sent.len() {
            let answer = self.answers.next().await;
            let answer = match self.or_gone(answer) {
                Ok(answer) => answer,
                Err(error) => return error,
            };
            let Some(sent) = self.sent.pop_front() else { break };
            if let Some(problem) = answer.problem.filter(|_| on_its_way < before) {
                let reason = ClientError::Refused(Box::new(problem)).into();
                return Box::pin(self.stop(sent, reason)).await;
            }
            if answer.id.is_some() && sent > number {
                (later, last) = (later + 1, sent);
            }
        }
        ui::say(&match later {
            0 => format!("chat: {word} {number} was not sent, nor the {word}s after it"),
            _ if later == last - number => {
                format!("chat: {word} {number} was not sent; those up to {word} {last} were on their way and were sent")
            }
            _ => format!(
                "chat: {word} {number} was not sent; {later} of those up to {word} {last} were on their way and were sent"
            ),
        });
        reason
    }

    /// An answer, or what is said where the stream has ended without one.
    fn or_gone(&mut self, answer: Option<Result<SentLine, ClientError>>) -> Result<SentLine, CliError> {
        let error = match answer {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => error,
            None => ClientError::Broken { source: None },
        };
        let (first, last) = (self.sent.front().copied().unwrap_or(1), self.sent.back().copied().unwrap_or(1));
        self.sent.clear();
        let word = self.word;
        if error.is_outcome_unknown() {
            return Err(CliError::ManyUnsure { word, first, last, source: error });
        }
        ui::say(&format!("chat: {word} {first} was not sent, nor the {word}s after it"));
        Err(error.into())
    }
}
