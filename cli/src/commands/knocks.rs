//! `chat knocks`: strangers that ask to be let in.

use chat_proto::api::members::{Knock, KnockAnswer, KnockList};
use chat_proto::id::KnockId;
use chat_proto::time::Timestamp;
use clap::Args;

use crate::client::{Call, Client};
use crate::error::CommandError;
use crate::text::render::{self, label};
use crate::text::table::{Row, Side, table};
use crate::text::ui::{self, Ui};

const COLUMNS: [(&str, Side); 5] =
    [("ID", Side::Right), ("NAME", Side::Left), ("TAG", Side::Left), ("WORDS", Side::Left), ("SINCE", Side::Left)];

/// Arguments of `chat knocks`.
#[derive(Debug, Args)]
pub(crate) struct KnocksArgs {
    /// One stranger per line as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the strangers.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: KnocksArgs, client: &mut Client, ui: &mut Ui) -> Result<(), CommandError> {
    let knocks = client.get::<KnockList>("/v1/knocks").await?.knocks;
    if args.json {
        return knocks.iter().try_for_each(|knock| ui.json(knock));
    }
    if knocks.is_empty() {
        ui::say("nobody asks to be let in");
        return Ok(());
    }
    let now = render::now();
    let rows: Vec<Row> = knocks.iter().map(|knock| row(knock, now)).collect();
    table(&COLUMNS, &rows, ui.colour).iter().try_for_each(|line| ui.line(line))?;
    ui.flush()?;
    ui::say("ask for the words that they see: the same ones mean that nobody stands between; then 'chat admit ID'");
    Ok(())
}

/// Answers a stranger.
///
/// # Errors
/// Says how the call failed.
pub(super) async fn answer(client: &mut Client, id: KnockId, answer: KnockAnswer) -> Result<(), CommandError> {
    client.call(&Call::post(format!("/v1/knocks/{id}"), &answer)).await?;
    Ok(())
}

fn row(knock: &Knock, now: Timestamp) -> Row {
    let since = format!("{} ago", render::span(render::between(knock.since, now)));
    vec![knock.id.to_string(), label(&knock.name), knock.tag.to_string(), label(&knock.words), since].into()
}
