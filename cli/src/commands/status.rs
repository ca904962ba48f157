//! `chat status`: how the daemon, its peer and its room stand.

use chat_proto::api::peers::RoleView;
use chat_proto::api::status::Status;
use chat_proto::time::Timestamp;
use clap::Args;

use crate::client::Client;
use crate::error::CommandError;
use crate::text::render::{self, label, name};
use crate::text::ui::Ui;

/// Arguments of `chat status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Prints the status.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: StatusArgs, client: &mut Client, ui: &mut Ui) -> Result<(), CommandError> {
    let status: Status = client.get("/v1/status").await?;
    if args.json {
        return ui.json(&status);
    }
    for (title, text) in facts(&status, render::now()) {
        ui.line(&format!("{} {text}", ui.colour.paint("1", &format!("{title:<10}"))))?;
    }
    Ok(())
}

fn facts(status: &Status, now: Timestamp) -> Vec<(&'static str, String)> {
    let room = if status.room.name.is_empty() { status.room.id.short() } else { label(&status.room.name) };
    let door = if status.room.open { "open to everybody who knocks" } else { "by invitation" };
    let members = render::count(status.members.into(), "member", "members");
    let rendezvous = match (&status.rendezvous, status.role) {
        (Some(held), RoleView::Holder) => format!("this peer, term {}", held.term),
        (Some(held), RoleView::Standby) => format!("{}, term {}; this peer stands by", name(&held.peer), held.term),
        (Some(held), RoleView::Member) => format!("{}, term {}", name(&held.peer), held.term),
        (None, _) => "nobody known".into(),
    };
    let reach = &status.reachability;
    let inbound = match reach.inbound {
        Some(true) => "others reach it unasked",
        Some(false) => "others from outside do not reach it unasked",
        None => "whether others from outside reach it is not known yet",
    };
    let list = |addrs: &[std::net::SocketAddr]| match addrs {
        [] => "none".to_owned(),
        addrs => addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let up = render::span(render::between(status.started_at, now));
    vec![
        ("you", format!("{} ({})", name(&status.peer), status.peer.tag)),
        ("room", format!("{room}, {door}")),
        ("members", format!("{members}, {} online", status.members_online)),
        ("messages", status.messages.to_string()),
        ("rendezvous", rendezvous),
        ("port", format!("{}; {inbound}", reach.port)),
        ("addresses", list(&reach.addrs)),
        ("seen as", list(&reach.observed)),
        ("daemon", format!("chatd {}, process {}, up for {up}", label(&status.version), status.pid)),
        ("home", label(&status.home)),
    ]
}
