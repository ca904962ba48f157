//! What a typed text means: a message, or a command.

use crate::text::recipients;

/// The commands: name, what follows it, and what it does.
pub(crate) const COMMANDS: [(&str, &str, &str); 21] = [
    ("/help", "", "shows the keys and commands"),
    ("/msg", "NAME TEXT", "sends a direct message, like '@name text'"),
    ("/reply", "[@NAME] TEXT", "answers the last message (of that member)"),
    ("/me", "TEXT", "says what you do"),
    ("/peers", "", "lists the members and how they are connected"),
    ("/why", "", "explains which peer holds the rendezvous role"),
    ("/status", "", "shows the daemon, its peer and its room"),
    ("/invite", "", "makes a ticket for newcomers"),
    ("/knocks", "", "lists newcomers that ask for admission"),
    ("/admit", "ID", "admits a newcomer"),
    ("/deny", "ID", "denies a newcomer admission"),
    ("/remove", "NAME", "removes a member from the room"),
    ("/role", "NAME admin|member", "grants or revokes admin rights"),
    ("/trust", "NAME", "accepts the member to which a name has moved"),
    ("/name", "NEW", "changes your own name"),
    ("/search", "WORDS", "finds messages with these words"),
    ("/log", "[POINT]", "goes to a date, a time, '2h' ago, or the beginning"),
    ("/unread", "", "goes to the first message that is not read yet"),
    ("/clear", "", "closes what is open and goes to the newest message"),
    ("/quit", "", "leaves; the peer remains in the room"),
    ("/exit", "", "leaves, too"),
];

/// A typed text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TypedText {
    /// White space only.
    Nothing,
    /// A message.
    Say {
        /// Recipients; empty for the room.
        to: Vec<String>,
        /// The text.
        text: String,
    },
    /// An answer to the newest message, of this member if one is named.
    Reply {
        /// The author of the message.
        author: Option<String>,
        /// The text.
        text: String,
    },
    /// A command that needs no argument.
    Show(InfoPage),
    /// A newcomer's number and whether to admit it.
    Knock(String, KnockDecision),
    /// A member to remove.
    Remove(String),
    /// A member and the role it gets.
    Role(String, String),
    /// A name that moved to another member, or that member.
    Trust(String),
    /// A new name for this peer.
    Name(String),
    /// Words to search for.
    Search(String),
    /// A point in the history; empty: its beginning.
    Log(String),
    /// To the first unread message.
    Unread,
    /// To the newest message.
    Newest,
    /// End the program.
    Leave,
    /// It cannot be done; why.
    Invalid(String),
}

/// What can be shown in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InfoPage {
    /// Keys and commands.
    Help,
    /// Members.
    Peers,
    /// The holder and its successors.
    Why,
    /// The daemon.
    Status,
    /// A new ticket.
    Invite,
    /// Newcomers.
    Knocks,
}

/// The answer to a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnockDecision {
    /// Let it in.
    Admit,
    /// Do not.
    Deny,
}

/// Parses a text.
pub(crate) fn parse(text: &str) -> TypedText {
    let text = text.trim_end();
    match text.trim_start() {
        "" => return TypedText::Nothing,
        "exit" | "quit" => return TypedText::Leave,
        _ => {}
    }
    if text.starts_with('/') {
        return command(text);
    }
    say(text)
}

fn say(text: &str) -> TypedText {
    let (to, rest) = recipients::split(text);
    if rest.trim().is_empty() {
        return TypedText::Invalid(format!("no text for @{}", to.join(" @")));
    }
    TypedText::Say { to, text: rest.to_owned() }
}

fn command(text: &str) -> TypedText {
    let (verb, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let needs = |made: TypedText| if rest.is_empty() { usage(verb) } else { made };
    let name = || rest.strip_prefix('@').unwrap_or(rest).to_owned();
    match verb {
        "/help" | "/?" => TypedText::Show(InfoPage::Help),
        "/peers" => TypedText::Show(InfoPage::Peers),
        "/why" => TypedText::Show(InfoPage::Why),
        "/status" => TypedText::Show(InfoPage::Status),
        "/invite" => TypedText::Show(InfoPage::Invite),
        "/knocks" => TypedText::Show(InfoPage::Knocks),
        "/admit" => needs(TypedText::Knock(rest.to_owned(), KnockDecision::Admit)),
        "/deny" => needs(TypedText::Knock(rest.to_owned(), KnockDecision::Deny)),
        "/remove" => needs(TypedText::Remove(name())),
        "/trust" => needs(TypedText::Trust(name())),
        "/name" => needs(TypedText::Name(name())),
        "/search" => needs(TypedText::Search(rest.to_owned())),
        "/log" => TypedText::Log(rest.to_owned()),
        "/unread" => TypedText::Unread,
        "/clear" => TypedText::Newest,
        "/quit" | "/exit" => TypedText::Leave,
        "/me" => needs(TypedText::Say { to: Vec::new(), text: format!("/me {rest}") }),
        "/role" => match name().split_once(char::is_whitespace) {
            Some((name, role)) => TypedText::Role(name.to_owned(), role.trim().to_owned()),
            None => usage(verb),
        },
        "/msg" => {
            let named = if rest.starts_with('@') { rest.to_owned() } else { format!("@{rest}") };
            if rest.split_whitespace().count() < 2 { usage(verb) } else { say(&named) }
        }
        "/reply" => {
            let (to, text) = recipients::split(rest);
            if text.trim().is_empty() || to.len() > 1 {
                return usage(verb);
            }
            TypedText::Reply { author: to.into_iter().next(), text: text.to_owned() }
        }
        other => {
            let other = chat_client::display::label(other);
            TypedText::Invalid(format!(
                "there is no {other}, /help lists the commands; a space in front sends it as text"
            ))
        }
    }
}

fn usage(verb: &str) -> TypedText {
    let known = COMMANDS.iter().find(|(name, ..)| *name == verb);
    TypedText::Invalid(
        known.map_or_else(String::new, |(name, what, does)| format!("write it like {name} {what}: {does}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(to: &[&str], text: &str) -> TypedText {
        TypedText::Say { to: to.iter().map(|name| (*name).to_owned()).collect(), text: text.into() }
    }

    #[test]
    fn text_is_a_message_or_a_command() {
        for (text, meaning) in [
            ("  ", TypedText::Nothing),
            ("exit", TypedText::Leave),
            (" quit ", TypedText::Leave),
            ("exit now", say(&[], "exit now")),
            ("@bob hello", say(&["bob"], "hello")),
            ("/msg bob hello there", say(&["bob"], "hello there")),
            ("/msg @bob hello", say(&["bob"], "hello")),
            ("/me waves", say(&[], "/me waves")),
            (" /etc/hosts is wrong", say(&[], " /etc/hosts is wrong")),
            ("/peers", TypedText::Show(InfoPage::Peers)),
            ("/admit 3", TypedText::Knock("3".into(), KnockDecision::Admit)),
            ("/remove @bob", TypedText::Remove("bob".into())),
            ("/trust @bob", TypedText::Trust("bob".into())),
            ("/role bob admin", TypedText::Role("bob".into(), "admin".into())),
            ("/log", TypedText::Log(String::new())),
            ("/log 2026-11-22", TypedText::Log("2026-11-22".into())),
            ("/reply three", TypedText::Reply { author: None, text: "three".into() }),
            ("/reply @bob three", TypedText::Reply { author: Some("bob".into()), text: "three".into() }),
        ] {
            assert_eq!(parse(text), meaning, "{text:?}");
        }
    }

    #[test]
    fn command_that_cannot_be_done_says_how_to_write_it() {
        for (text, part) in [
            ("/nonsense", "there is no /nonsense"),
            ("/admit", "/admit ID"),
            ("/msg bob", "/msg NAME TEXT"),
            ("/role bob", "/role NAME admin|member"),
            ("/reply", "/reply [@NAME] TEXT"),
            ("@bob", "no text for @bob"),
        ] {
            let meaning = parse(text);
            assert!(matches!(&meaning, TypedText::Invalid(reason) if reason.contains(part)), "{text:?}: {meaning:?}");
        }
    }
}
