//! What a daemon is started with, checked, and the names of peer and room where none was chosen.

use std::ffi::OsString;

use chat_proto::NAME_CHARS_MAX;
use chat_proto::id::PeerId;
use chat_proto::text::check_name;

use crate::app::home::Home;
use crate::app::report::exit_error::{ExitError, ExitKind};
use crate::app::settings::DaemonSettings;
use crate::app::settings::args::StartArgs;
use crate::net::JoinTarget;

/// What a daemon is started with.
#[derive(Debug)]
pub(crate) struct StartOptions {
    /// Where.
    pub(crate) home: Home,
    /// How.
    pub(crate) settings: DaemonSettings,
    /// Which room to join.
    pub(crate) join: Option<JoinTarget>,
    /// The name that the command line asks for, which one in a room already takes.
    pub(crate) rename: Option<String>,
    /// Whether the command line describes a room to found.
    pub(crate) describes_room: RoomDescription,
}

/// Whether something was described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomDescription {
    /// It was.
    Yes,
    /// It was not.
    No,
}

impl StartOptions {
    /// Reads flags, variables and the home's settings. Nothing is changed.
    ///
    /// # Errors
    /// When one of them is wrong.
    pub(crate) fn new(
        args: &StartArgs,
        variable: impl Fn(&str) -> Option<OsString>,
        home: Home,
    ) -> Result<Self, ExitError> {
        let settings = DaemonSettings::collect(args, variable, &home.config()).map_err(|error| {
            let kind = if error.is_usage() { ExitKind::Usage } else { ExitKind::Refused };
            ExitError::new(kind, &error)
        })?;
        let join = args.join.as_deref().map(JoinTarget::parse).transpose();
        let join = join.map_err(|error| ExitError::new(ExitKind::Usage, &error))?;
        let described = args.open || args.room.is_some();
        let describes_room = if described { RoomDescription::Yes } else { RoomDescription::No };
        Ok(Self { home, settings, join, rename: args.name.clone(), describes_room })
    }
}

/// What stands before the key of a peer without a name.
const NAMELESS: &str = "peer-";

/// The login name without what names cannot hold, else one after the peer's key.
pub(crate) fn default_name(me: &PeerId, variable: impl Fn(&str) -> Option<OsString>) -> String {
    let login = ["USER", "LOGNAME"].into_iter().find_map(|name| {
        let login: String = variable(name)?.to_str()?.chars().filter(|c| fits(*c)).take(NAME_CHARS_MAX).collect();
        check_name("name", &login).is_ok().then_some(login)
    });
    login.unwrap_or_else(|| format!("{NAMELESS}{}", me.tag()))
}

fn fits(c: char) -> bool {
    check_name("name", c.encode_utf8(&mut [0; 4])).is_ok()
}

/// A room after its founder, where that gives a name that says something.
pub(crate) fn default_room(founder: &str) -> String {
    let room = format!("{founder}s-room");
    let nameless = founder.starts_with(NAMELESS);
    if !nameless && check_name("room", &room).is_ok() { room } else { "room".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(login: Option<&str>) -> String {
        let me = PeerId::from_bytes([0; 32]);
        default_name(&me, |variable| if variable == "USER" { login.map(Into::into) } else { None })
    }

    #[test]
    fn the_login_name_is_taken_as_far_as_it_goes() {
        assert_eq!(name(Some("ann")), "ann");
        assert_eq!(name(Some("DOMAIN\\ann lee")), "DOMAINannlee");
        assert_eq!(name(Some("\\ ")), "peer-aaaaaaaa");
        assert_eq!(name(None), "peer-aaaaaaaa");
    }

    #[test]
    fn rooms_are_called_after_their_founders() {
        assert_eq!(default_room("ann"), "anns-room");
        assert_eq!(default_room(&"x".repeat(32)), "room");
        assert_eq!(default_room(&name(None)), "room");
    }

    proptest! {
        #[test]
        fn every_login_gives_a_name(login: String) {
            let name = name(Some(&login));
            prop_assert!(check_name("name", &name).is_ok());
            prop_assert!(check_name("room", &default_room(&name)).is_ok());
        }
    }
}
