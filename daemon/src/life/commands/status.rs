//! `chatd status`: how the daemon and its room stand.

use crate::life::args::OutputArgs;
use crate::life::client::Client;
use crate::life::commands::runtime;
use crate::life::failure::Failure;
use crate::life::home::Home;
use crate::life::report::{print, print_json, status_lines};

/// Asks the daemon and prints its answer.
pub(crate) fn run(args: OutputArgs, home: &Home) -> Result<(), Failure> {
    let client = Client::of(home)?;
    let status = runtime()?.block_on(client.status())?;
    if args.json {
        print_json(&status)?
    } else {
        print(&status_lines(&status, &client.api))?
    }
    Ok(())
}
