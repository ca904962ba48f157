//! `chat log`: the history in the shared order.

use chat_client::Client;
use chat_proto::api::messages::{HistoryQuery, Message};
use clap::Args;
use jiff::tz::TimeZone;

use crate::commands::completions;
use crate::error::CliError;
use crate::text::time_arg;
use crate::text::transcript::Transcript;
use crate::text::ui::{self, Ui};

/// Default number of messages.
const COUNT_DEFAULT: u64 = 100;

/// Arguments of `chat log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Short for '-n N'
    #[arg(value_name = "-N", allow_negative_numbers = true, value_parser = time_arg::minus_count, conflicts_with_all = ["limit", "all"])]
    minus: Option<u64>,
    /// Only messages with these words
    #[arg(short, value_name = "QUERY")]
    q: Option<String>,
    /// Only by this author: name, tag or key
    #[arg(long, value_name = "NAME", add = completions::members())]
    from: Option<String>,
    /// Only direct messages exchanged with this member
    #[arg(long, value_name = "NAME", add = completions::members())]
    with: Option<String>,
    /// Only messages before a message id, a time ('2026-11-22 14:05', local or RFC 3339) or a duration ago ('2h')
    #[arg(long, value_name = "POINT", value_parser = time_arg::history_point)]
    before: Option<String>,
    /// Only messages after such a point
    #[arg(long, value_name = "POINT", value_parser = time_arg::history_point)]
    after: Option<String>,
    /// Maximum number of messages: the last ones, or with --after the first ones [default: 100, with --after all]
    #[arg(short = 'n', value_name = "LIMIT", conflicts_with = "all")]
    limit: Option<u64>,
    /// The whole history
    #[arg(long)]
    all: bool,
    /// One message per line as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the history.
///
/// # Errors
/// Says how a call failed.
pub(crate) async fn run(args: LogArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let zone = TimeZone::system();
    let filter = HistoryQuery {
        before: args.before,
        after: args.after,
        limit: None,
        from: args.from,
        with: args.with,
        q: args.q,
    };
    let mut transcript = match args.json {
        true => None,
        false => {
            let me = client.status().await?.peer.id;
            Some(Transcript::dated(me, ui.colour, zone.clone()).folded(ui::columns))
        }
    };
    let mut print = |message: Message| match &mut transcript {
        Some(transcript) => ui.line(&transcript.message(&message)),
        None => ui.json(&message),
    };
    let limit = args.limit.or(args.minus);
    if args.all || filter.after.is_some() {
        return client.each_message(&filter, limit, |message, _| print(message)).await;
    }
    let messages = client.last_messages(&filter, limit.unwrap_or(COUNT_DEFAULT)).await?;
    messages.into_iter().try_for_each(&mut print)
}
