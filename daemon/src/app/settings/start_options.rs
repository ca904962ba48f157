//! The checked options of a start, and the default names of peer and room.

use std::ffi::OsString;

use chat_proto::NAME_CHARS_MAX;
use chat_proto::id::PeerId;
use chat_proto::text::{check_member_name, check_name};

use crate::app::home::Home;
use crate::app::report::exit_error::{ExitError, ExitKind};
use crate::app::settings::DaemonSettings;
use crate::app::settings::args::StartArgs;
use crate::net::JoinTarget;

/// Everything a daemon is started with, checked.
#[derive(Debug)]
pub(crate) struct StartOptions {
    /// The home directory.
    pub(crate) home: Home,
    /// The settings.
    pub(crate) settings: DaemonSettings,
    /// The room to join.
    pub(crate) join: Option<JoinTarget>,
    /// The name given on the command line, which a peer that is in a room already takes as well.
    pub(crate) rename: Option<String>,
    /// Whether the command line describes a room to found.
    pub(crate) describes_room: RoomDescription,
}

/// Whether the command line describes a room to found.
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
    /// When one of them is invalid.
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

/// Prefix of the default name of a peer without a usable login name.
const NAMELESS: &str = "peer-";

/// The login name without characters that names cannot hold, else a name derived from the peer's key.
pub(crate) fn default_name(me: &PeerId, variable: impl Fn(&str) -> Option<OsString>) -> String {
    let login = ["USER", "LOGNAME"].into_iter().find_map(|name| {
        let login: String = variable(name)?.to_str()?.chars().filter(|c| fits(*c)).take(NAME_CHARS_MAX).collect();
        check_member_name(&login).is_ok().then_some(login)
    });
    login.unwrap_or_else(|| format!("{NAMELESS}{}", me.tag()))
}

fn fits(c: char) -> bool {
    check_name("name", c.encode_utf8(&mut [0; 4])).is_ok()
}

/// A room name derived from the founder's name, where the founder has a name of its own.
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
    fn login_name_loses_characters_that_names_cannot_hold() {
        assert_eq!(name(Some("ann")), "ann");
        assert_eq!(name(Some("DOMAIN\\ann lee")), "DOMAINannlee");
        assert_eq!(name(Some("\\ ")), "peer-aaaaaaaa");
        assert_eq!(name(None), "peer-aaaaaaaa");
    }

    #[test]
    fn default_room_name_is_derived_from_the_founder() {
        assert_eq!(default_room("ann"), "anns-room");
        assert_eq!(default_room(&"x".repeat(32)), "room");
        assert_eq!(default_room(&name(None)), "room");
    }

    proptest! {
        #[test]
        fn any_login_name_gives_valid_names(login: String) {
            let name = name(Some(&login));
            prop_assert!(check_name("name", &name).is_ok());
            prop_assert!(check_name("room", &default_room(&name)).is_ok());
        }
    }
}
