//! `chatd status`: the state of the daemon and its room.

use crate::app::client::Client;
use crate::app::commands::runtime;
use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::{print, print_json, status_lines};
use crate::app::settings::args::OutputArgs;

/// Prints the daemon's status.
pub(crate) fn run(args: OutputArgs, home: &Home) -> Result<(), ExitError> {
    let client = Client::of(home)?;
    let status = runtime()?.block_on(client.status())?;
    if args.json {
        print_json(&status)?
    } else {
        print(&status_lines(&status, &client.api))?
    }
    Ok(())
}
