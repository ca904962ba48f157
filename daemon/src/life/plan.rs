//! What a daemon is started with, checked.

use std::ffi::OsString;

use crate::life::args::StartArgs;
use crate::life::failure::{Failure, Kind};
use crate::life::home::Home;
use crate::life::settings::Settings;
use crate::net::target::JoinTarget;

/// What a daemon is started with.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where.
    pub(crate) home: Home,
    /// How.
    pub(crate) settings: Settings,
    /// Which room to join.
    pub(crate) join: Option<JoinTarget>,
    /// The name that the command line asks for, which one in a room already takes.
    pub(crate) rename: Option<String>,
    /// Whether the command line describes a room to found.
    pub(crate) describes_room: Described,
}

/// Whether something was described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Described {
    /// It was.
    Yes,
    /// It was not.
    No,
}

impl Plan {
    /// Reads flags, variables and the home's settings. Nothing is changed.
    ///
    /// # Errors
    /// When one of them is wrong.
    pub(crate) fn new(
        args: &StartArgs,
        variable: impl Fn(&str) -> Option<OsString>,
        home: Home,
    ) -> Result<Self, Failure> {
        let settings = Settings::collect(args, variable, &home.config()).map_err(|error| {
            let kind = if error.is_usage() { Kind::Usage } else { Kind::Refused };
            Failure::new(kind, &error)
        })?;
        let join = args.join.as_deref().map(JoinTarget::parse).transpose();
        let join = join.map_err(|error| Failure::new(Kind::Usage, &error))?;
        let described = args.open || args.room.is_some();
        let describes_room = if described { Described::Yes } else { Described::No };
        Ok(Self { home, settings, join, rename: args.name.clone(), describes_room })
    }
}
