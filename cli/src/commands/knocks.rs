//! `chat knocks`: newcomers that ask for admission.

use chat_client::Client;
use chat_proto::api::members::Knock;
use chat_proto::time::Timestamp;
use clap::Args;

use crate::error::CliError;
use crate::text::render::{self, label};
use crate::text::table::{Row, Side, table};
use crate::text::ui::{self, Ui};

const COLUMNS: [(&str, Side); 5] =
    [("ID", Side::Right), ("NAME", Side::Left), ("TAG", Side::Left), ("WORDS", Side::Left), ("SINCE", Side::Left)];

/// Arguments of `chat knocks`.
#[derive(Debug, Args)]
pub(crate) struct KnocksArgs {
    /// One newcomer per line as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the newcomers.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: KnocksArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let knocks = client.knocks().await?;
    if args.json {
        return knocks.iter().try_for_each(|knock| ui.json(knock));
    }
    if knocks.is_empty() {
        ui::say("no newcomer asks for admission");
        return Ok(());
    }
    let now = render::now();
    let rows: Vec<Row> = knocks.iter().map(|knock| row(knock, now)).collect();
    table(&COLUMNS, &rows, ui.colour, ui::columns()).iter().try_for_each(|line| ui.line(line))?;
    ui.flush()?;
    ui::say(
        "ask the newcomer for the words shown there: equal words mean that the connection is not intercepted; then 'chat admit ID'",
    );
    Ok(())
}

fn row(knock: &Knock, now: Timestamp) -> Row {
    let since = format!("{} ago", render::span(render::between(knock.since, now)));
    let removed = if knock.removed { " (was removed)" } else { "" };
    vec![
        knock.id.to_string(),
        format!("{}{removed}", label(&knock.name)),
        knock.tag.to_string(),
        label(&knock.words),
        since,
    ]
    .into()
}
