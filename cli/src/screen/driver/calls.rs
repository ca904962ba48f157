//! Makes the calls that the model asks for, each as a task of its own.

use chat_client::status::status_lines;
use chat_client::{Client, ClientError, Repeat};
use chat_proto::api::invites::InviteRequest;
use chat_proto::api::members::KnockAnswer;
use chat_proto::api::messages::{HistoryQuery, MessagePage};
use chat_proto::api::peers::MemberRole;
use chat_proto::id::MessageId;
use jiff::tz::TimeZone;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::commands::trust::trusted;
use crate::commands::{peers, send, why};
use crate::error::CliError;
use crate::screen::compose::command::{COMMANDS, InfoPage, KnockDecision};
use crate::screen::effect::{Ask, DaemonAnswer, HistoryPart, Messages, RoomChange};
use crate::text::render;
use crate::text::ui::Colour;

/// The name under which the daemon keeps where this client left off reading.
pub(super) const READER: &str = "chat";

/// Messages of a page.
const PAGE: u32 = 200;

/// Messages on each side of one that is gone to.
const AROUND: u32 = 150;

/// Maximum number of calls at once; the model asks for few.
const CALLS_MAX: usize = 64;

/// The keys, for the help.
const KEYS: &str = "\
Enter sends, Alt-Enter or Ctrl-J begins a new line. '@name text' goes to one, several names to several.
Tab completes @names and /commands, Up and Down recall what was typed, Ctrl-R finds it by its words.
PageUp and PageDown scroll, Esc or TimelineEnd returns; Alt-< goes to the beginning, Alt-> to the newest message.
Ctrl-F searches the history, Alt-M goes to the last mention, Alt-N to the first unread message.
Alt-A admits a newcomer that knocks, Alt-D denies it. F2 shows the members, F3 the rendezvous role.
Ctrl-A E B K U W Y T _, Alt-B F D U L C edit as in readline. Ctrl-L draws anew, Ctrl-Z stops the program.
exit, quit or Ctrl-D leaves, Ctrl-C twice as well; the peer remains in the room.

Behind an own message: … it waits, ✓ it is on this disk, ✓2 on those of two other peers, ✓✓ on those of all recipients.
Beside a member: ◆ holds the rendezvous role, ◇ would follow; then the round-trip time of a direct or relayed path.
";

/// Makes calls.
pub(super) struct DaemonCaller {
    client: Client,
    answers: Sender<DaemonAnswer>,
    tasks: JoinSet<()>,
}

impl DaemonCaller {
    /// Calls this daemon; answers are sent there.
    pub(super) fn new(client: Client, answers: Sender<DaemonAnswer>) -> Self {
        Self { client, answers, tasks: JoinSet::new() }
    }

    /// Makes a call. Calls beyond the maximum are not made: the daemon hangs, and what matters is asked for again.
    pub(super) fn make(&mut self, ask: Ask) {
        while self.tasks.try_join_next().is_some() {}
        let droppable = matches!(ask, Ask::Peers | Ask::Status | Ask::Knocks | Ask::Delivery(_) | Ask::Mark(_));
        if droppable && self.tasks.len() >= CALLS_MAX {
            return;
        }
        let (client, answers) = (self.client.clone(), self.answers.clone());
        self.tasks.spawn(async move {
            let answer = answer(&client, ask).await;
            let _ = answers.send(answer).await;
        });
    }
}

async fn answer(client: &Client, ask: Ask) -> DaemonAnswer {
    match ask {
        Ask::Send { ticket, message } => {
            let sent = send::post(client, &message, Repeat::Patient).await;
            DaemonAnswer::Sent(ticket, sent.map(|(sent, _)| Box::new(sent)))
        }
        Ask::History(part) => {
            let read = history(client, &part).await;
            DaemonAnswer::History(part, read)
        }
        Ask::Search { query } => DaemonAnswer::Found(client.history(&query).await.map(|page| {
            let older = page.more;
            Messages { messages: page.messages, older, newer: false }
        })),
        Ask::Peers => DaemonAnswer::Peers(client.peers().await),
        Ask::Status => DaemonAnswer::Status(client.status().await.map(Box::new)),
        Ask::Knocks => DaemonAnswer::Knocks(client.knocks().await),
        Ask::Delivery(id) => DaemonAnswer::Delivery(client.message(id).await.map(Box::new)),
        Ask::Mark(id) => DaemonAnswer::Marked(client.set_read_mark(READER, id).await),
        Ask::Show(page) => shown(client, page).await,
        Ask::Change(change) => DaemonAnswer::Changed(made(client, change).await),
    }
}

async fn history(client: &Client, part: &HistoryPart) -> Result<Messages, ClientError> {
    let query = |limit: u32| HistoryQuery { limit: Some(limit), ..HistoryQuery::default() };
    let before = |id: MessageId, limit: u32| HistoryQuery { before: Some(id.to_string()), ..query(limit) };
    let after = |point: String, limit: u32| HistoryQuery { after: Some(point), ..query(limit) };
    let older = |page: MessagePage| Messages { messages: page.messages, older: page.more, newer: false };
    let newer = |page: MessagePage| Messages { messages: page.messages, older: true, newer: page.more };
    match part {
        HistoryPart::Newest => client.history(&query(PAGE)).await.map(older),
        HistoryPart::Before(id) => client.history(&before(*id, PAGE)).await.map(older),
        HistoryPart::After(id) => client.history(&after(id.to_string(), PAGE)).await.map(newer),
        HistoryPart::From(point) => client.history(&after(point.clone(), PAGE)).await.map(newer),
        HistoryPart::Around(id) => {
            let found = client.message(*id).await?;
            let mut read = client.history(&before(*id, AROUND)).await.map(older)?;
            let behind = client.history(&after(id.to_string(), AROUND)).await?;
            read.messages.push(found.message);
            read.messages.extend(behind.messages);
            Ok(Messages { newer: behind.more, ..read })
        }
    }
}

async fn shown(client: &Client, page: InfoPage) -> DaemonAnswer {
    match page {
        InfoPage::Help => DaemonAnswer::Shown("help", Ok(help())),
        InfoPage::Peers => {
            let lines =
                client.peers().await.map(|list| peers::lines(&list, render::now(), Colour::Off, page_columns()));
            DaemonAnswer::Shown("members", lines.map_err(CliError::from))
        }
        InfoPage::Why => {
            let lines = client.rendezvous().await;
            let lines =
                lines.map(|held| why::lines(&held, render::now(), &TimeZone::system(), (Colour::Off, page_columns())));
            DaemonAnswer::Shown("rendezvous", lines.map_err(CliError::from))
        }
        InfoPage::Status => {
            let api = client.api_place();
            let lines = client.status().await.map(|status| status_lines(&status, &api, render::now(), str::to_owned));
            DaemonAnswer::Shown("status", lines.map_err(CliError::from))
        }
        InfoPage::Invite => DaemonAnswer::Shown("ticket", invite(client).await.map_err(CliError::from)),
        InfoPage::Knocks => {
            let lines = client.knocks().await.map(|knocks| {
                let line = |knock: &chat_proto::api::members::Knock| {
                    let (name, words) = (render::label(&knock.name), render::label(&knock.words));
                    format!("{}: {name} ({}), with the words '{words}'", knock.id, knock.tag)
                };
                if knocks.is_empty() {
                    return vec!["no newcomer asks for admission".to_owned()];
                }
                let mut lines: Vec<String> = knocks.iter().map(line).collect();
                lines.push("ask the newcomer for the words shown there, then /admit or /deny its number".into());
                lines
            });
            DaemonAnswer::Shown("knocks", lines.map_err(CliError::from))
        }
    }
}

/// Columns of a window over the history.
fn page_columns() -> Option<usize> {
    crate::text::ui::columns().map(|columns| columns.saturating_sub(2))
}

fn help() -> Vec<String> {
    let mut lines: Vec<String> = KEYS.lines().map(str::to_owned).collect();
    lines.push(String::new());
    lines.extend(COMMANDS.iter().map(|(name, what, does)| format!("{:<28}{does}", format!("{name} {what}"))));
    lines
}

async fn invite(client: &Client) -> Result<Vec<String>, ClientError> {
    let new = client.invite(&InviteRequest::default()).await?;
    let until = render::date_time(new.invite.expires, &TimeZone::system());
    let uses = render::count(new.invite.uses.into(), "newcomer", "newcomers");
    Ok(vec![
        format!("anyone with this ticket can join, up to {uses} until {until}:"),
        String::new(),
        new.ticket,
        String::new(),
        "they run 'chatd start --join TICKET'; 'chat invite' prints a ticket in a shell, to be copied".into(),
        format!("'chat revoke {}' revokes it", new.invite.id.short()),
    ])
}

async fn made(client: &Client, change: RoomChange) -> Result<String, CliError> {
    Ok(match change {
        RoomChange::Knock(id, decision) => {
            let (answer, words) = match decision {
                KnockDecision::Admit => (KnockAnswer { admit: true }, "admitted"),
                KnockDecision::Deny => (KnockAnswer { admit: false }, "denied"),
            };
            client.answer_knock(id, answer).await?;
            format!("{words} the newcomer of knock {id}")
        }
        RoomChange::Remove(member) => {
            client.remove(&member).await?;
            format!("removed {}", render::label(&member))
        }
        RoomChange::Role(member, role) => {
            client.set_role(&member, role).await?;
            let words = match role {
                MemberRole::Admin => "is now an admin",
                MemberRole::Member => "is no longer an admin",
            };
            format!("{} {words}", render::label(&member))
        }
        RoomChange::Trust(member) => trusted(&client.trust(&member).await?),
        RoomChange::Name(name) => {
            client.rename(name.as_str()).await?;
            format!("you are now called {}", render::label(&name))
        }
    })
}
