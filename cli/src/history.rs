//! Reads the history page by page, in the shared order, oldest first.

use chat_proto::api::messages::{HistoryQuery, Message, MessagePage};

use crate::client::{Client, query};
use crate::error::CommandError;

/// Messages of one page; the API gives up to 1,000.
const PAGE: u64 = 500;

/// The point before every message.
const BEGINNING: &str = "1970-01-01T00:00:00.000Z";

/// The last `count` messages that pass `filter`, and whether there are older ones.
///
/// # Errors
/// Says how a call failed.
pub(crate) async fn last(
    client: &mut Client,
    filter: &HistoryQuery,
    count: u64,
) -> Result<(Vec<Message>, bool), CommandError> {
    let mut filter = filter.clone();
    let mut pages: Vec<Vec<Message>> = Vec::new();
    let mut left = count;
    let mut more = left > 0;
    while more && left > 0 {
        let page = page(client, &mut filter, left).await?;
        let Some(first) = page.messages.first() else {
            more = false;
            break;
        };
        filter.before = Some(first.id.to_string());
        left = left.saturating_sub(page.messages.len() as u64);
        more = page.more;
        pages.push(page.messages);
    }
    Ok((pages.into_iter().rev().flatten().collect(), more))
}

/// Every message that passes `filter` from its `after` on, or from the beginning, up to `count`, given to `each` as it
/// comes.
///
/// # Errors
/// Says how a call failed, or what `each` failed with.
pub(crate) async fn forward(
    client: &mut Client,
    filter: &HistoryQuery,
    count: Option<u64>,
    mut each: impl FnMut(Message) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut filter = filter.clone();
    filter.after.get_or_insert_with(|| BEGINNING.to_owned());
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let page = page(client, &mut filter, left).await?;
        let Some(last) = page.messages.last() else { break };
        filter.after = Some(last.id.to_string());
        left = left.saturating_sub(page.messages.len() as u64);
        for message in page.messages {
            each(message)?;
        }
        if !page.more {
            break;
        }
    }
    Ok(())
}

async fn page(client: &mut Client, filter: &mut HistoryQuery, left: u64) -> Result<MessagePage, CommandError> {
    filter.limit = u32::try_from(left.min(PAGE)).ok();
    Ok(client.get(&query("/v1/messages", filter)).await?)
}
