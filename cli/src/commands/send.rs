//! `chat send`: sends a message to the room or to some of its members, once, however often the connection breaks.

pub(crate) mod many;

use std::io::{self, BufRead, Cursor, IsTerminal};
use std::time::Duration;

use chat_client::calls::SEND_WAIT_DEFAULT;
use chat_client::{Client, ClientError, OutgoingMessage, Repeat};
use chat_proto::api::messages::{SendRequest, SentMessage, Wait};
use chat_proto::id::MessageId;
use chat_proto::text::{TextError, check_text};
use clap::{Args, ValueEnum};

use crate::commands::completions;
use crate::error::CliError;
use crate::text::input::{self, Parts};
use crate::text::ui::{self, Ui};
use crate::text::{recipients, render, time_arg};

/// Arguments of `chat send`.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The text. Names in front ('@bob', several too) make it a direct message. Without a text, or with '-', standard
    /// input is one message; a space in front keeps a text that begins with '@' for the room
    #[arg(value_name = "[@NAME]... TEXT", allow_negative_numbers = true, add = completions::recipients())]
    pub(crate) text: Vec<String>,
    /// Answer this message: its id, as 'chat log --json' prints it
    #[arg(long, value_name = "ID")]
    pub(crate) reply: Option<MessageId>,
    /// What to wait for: the disk here, the disks of other peers, or those of all recipients [default: stored]
    #[arg(long, value_enum)]
    pub(crate) wait: Option<WaitFor>,
    /// With '--wait replicated', which it implies: number of other peers that must hold it [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) copies: Option<u32>,
    /// Timeout for the wait, up to 1h [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = time_arg::send_timeout)]
    pub(crate) timeout: Option<Duration>,
    /// Idempotency key: sends with the same key and text post once [default: a new one]
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Of a text that is too long for one message, send the last part that fits
    #[arg(long)]
    pub(crate) tail: bool,
    /// Send a text that is too long for one message as several messages, split at line ends
    #[arg(long, conflicts_with_all = ["tail", "key"])]
    pub(crate) split: bool,
    /// Print on standard error how far the message has come
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print the message and its state as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `--wait` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// On this machine's disk.
    Stored,
    /// On the disks of other peers.
    Replicated,
    /// On the disks of all recipients; of a message to the room, of all members that are online.
    Delivered,
}

/// Posts a message; the second value is whether what was waited for has come.
///
/// # Errors
/// [`CliError::Unsure`] when it is not known whether it was posted; otherwise it was not.
pub(crate) async fn post(
    client: &Client,
    message: &OutgoingMessage,
    repeat: Repeat,
) -> Result<(SentMessage, bool), CliError> {
    check_text(&message.request.text)?;
    match client.send(message, repeat).await {
        Ok(sent) => Ok((sent, true)),
        Err(ClientError::WaitRanOut(sent)) => Ok((*sent, false)),
        Err(source) if source.is_outcome_unknown() => Err(CliError::Unsure { key: message.key.clone(), source }),
        Err(other) => Err(other.into()),
    }
}

/// Sends.
///
/// # Errors
/// Says why the message was not sent, or that the wait for it ran out.
pub(crate) async fn run(args: SendArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let wait = match (args.wait, args.copies) {
        (Some(WaitFor::Replicated), _) | (None, Some(_)) => Wait::Replicated,
        (Some(WaitFor::Stored), None) | (None, None) => Wait::Stored,
        (Some(WaitFor::Delivered), None) => Wait::Delivered,
        (Some(WaitFor::Stored | WaitFor::Delivered), Some(_)) => return Err(CliError::CopiesWithoutReplicated),
    };
    let timeout_ms = args.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let joined = args.text.join(" ");
    let (to, rest) = what(&args.text, &joined)?;
    let (reply_to, copies) = (args.reply, args.copies);
    let request = |text| SendRequest { text, to: to.clone(), reply_to, wait, copies, timeout_ms };
    if args.split {
        return send_parts(rest.map(str::to_owned), request, &args, client, ui).await;
    }
    let mut input = input_of(rest.map(str::to_owned));
    let text = match rest {
        _ if args.tail => input::tail(&mut input)?,
        Some(text) => text.to_owned(),
        None => input::whole(&mut input)?,
    };
    let mut message = OutgoingMessage::from(request(text));
    if let Some(key) = &args.key {
        message.key = key.clone();
    }
    send(&message, &args, client, ui).await
}

/// The text, or standard input.
fn input_of(text: Option<String>) -> Box<dyn BufRead> {
    match text {
        Some(text) => Box::new(Cursor::new(text)),
        None => Box::new(io::stdin().lock()),
    }
}

/// Sends a text as several messages. What waits for more than this disk, or is reported on, is sent one by one.
async fn send_parts(
    text: Option<String>,
    request: impl Fn(String) -> SendRequest,
    args: &SendArgs,
    client: &Client,
    ui: &mut Ui,
) -> Result<(), CliError> {
    let mut parts = input::read_ahead(move || {
        let mut parts = Parts::new(input_of(text));
        move || parts.next()
    });
    let sent = if args.wait.is_none() && args.copies.is_none() && !args.json && !args.verbose {
        many::send_all(client, "part", parts, |text| Some(request(text))).await?
    } else {
        let mut number = 0;
        while let Some(text) = parts.recv().await {
            number += 1;
            let not_sent = |_: &CliError| ui::say(&format!("chat: part {number} was not sent, nor what follows it"));
            send(&request(text?).into(), args, client, ui).await.inspect_err(not_sent)?;
        }
        number
    };
    if sent == 0 { Err(TextError::Empty("message").into()) } else { Ok(()) }
}

/// Sends one message and reports how far it has come.
async fn send(message: &OutgoingMessage, args: &SendArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let (sent, complete) = post(client, message, Repeat::Safe).await?;
    if args.json {
        ui.json(&sent)?;
    }
    if let Some(off_ms) = sent.message.clock_off_ms {
        let off = render::clock_off(off_ms);
        ui::say(&format!("the clock of this machine is {off} against the other members' clocks, set its time"));
    }
    if !complete {
        ui.flush()?;
        let after = args.timeout.unwrap_or(SEND_WAIT_DEFAULT);
        return Err(CliError::WaitRanOut { after, reached: reached(&sent) });
    }
    if args.verbose {
        let id = sent.message.id;
        ui::say(&format!("stored as {}.{}, held by {}", id.entry.short(), id.index, reached(&sent)));
    }
    Ok(())
}

/// Recipients and text of the arguments; without a text it is on standard input.
fn what<'a>(arguments: &[String], joined: &'a str) -> Result<(Vec<String>, Option<&'a str>), CliError> {
    let (to, rest) = recipients::split(joined);
    let names_only = rest.is_empty() && arguments.iter().all(|argument| argument.starts_with('@'));
    if names_only && io::stdin().is_terminal() {
        return Err(CliError::NothingToSend);
    }
    Ok((to, (!names_only && rest != "-").then_some(rest)))
}

fn reached(sent: &SentMessage) -> String {
    let copies = render::count(sent.state.copies.into(), "other peer", "other peers");
    if sent.state.copies == 0 { "no other peer".into() } else { copies }
}
