//! Bounds of an entry: what no peer accepts, also if it is signed.

use crate::config::{ENTRY_BYTES_MAX, ENTRY_DEPS_MAX, ENTRY_MESSAGES_MAX};
use crate::log::entry::kind::is_marked;
use crate::log::entry::{Body, Control, EntryError, Header, MessageBody, Seq, SignedEntry};

pub(super) fn check_bounds(header: &Header, body: Option<&Body>, signed: &SignedEntry) -> Result<(), EntryError> {
    let genesis_header = header.room.as_bytes() == &[0; 32];
    let fits = signed.len_bytes() <= ENTRY_BYTES_MAX
        && header.deps.len() <= ENTRY_DEPS_MAX
        && !(genesis_header && is_marked(&signed.header))
        && match body {
            None => true,
            Some(Body::Messages(messages)) => {
                !genesis_header
                    && (1..=ENTRY_MESSAGES_MAX).contains(&messages.len())
                    && messages.iter().all(message_fits)
            }
            Some(Body::Control(control)) => {
                let genesis_body = matches!(control, Control::Genesis { .. });
                genesis_header == genesis_body && (!genesis_header || header.seq == Seq(1)) && control_fits(control)
            }
        };
    if fits { Ok(()) } else { Err(EntryError::OutOfBounds) }
}

fn message_fits(message: &MessageBody) -> bool {
    match message {
        MessageBody::Text(text) => chat_proto::text::check_text(text).is_ok(),
        MessageBody::Sealed(boxes) => (1..=chat_proto::RECIPIENTS_MAX + 1).contains(&boxes.len()),
    }
}

fn control_fits(control: &Control) -> bool {
    let name_fits = |name: &str| chat_proto::text::check_recorded_name("name", name).is_ok();
    match control {
        Control::Genesis { room_name, name, .. } => name_fits(room_name) && name_fits(name),
        Control::Admit { name, .. } | Control::Rename { name } => name_fits(name),
        Control::Remove { cuts, .. } => cuts.len() <= ENTRY_DEPS_MAX,
        Control::Invite { .. }
        | Control::Revoke { .. }
        | Control::Role { .. }
        | Control::Leave
        | Control::Keys { .. } => true,
    }
}
