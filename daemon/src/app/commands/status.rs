//! `chatd status`: the state of the daemon and its room.

use chat_client::client::announced;
use chat_client::status::status_lines;

use crate::app::api;
use crate::app::commands::runtime;
use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::{print, print_json};
use crate::app::settings::args::OutputArgs;
use crate::clock::Clock;

/// Prints the daemon's status.
pub(crate) fn run(args: OutputArgs, home: &Home) -> Result<(), ExitError> {
    announced(home)?;
    let client = api::client(home);
    let status = runtime()?.block_on(client.status())?;
    if args.json {
        print_json(&status)?;
    } else {
        let now = Clock::start().now().wall;
        print(&(status_lines(&status, &client.api_place(), now, str::to_owned).join("\n") + "\n"))?;
    }
    Ok(())
}
