//! `chat web`: a one-time link to the room in the browser.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chat_client::{Client, DaemonAddr};
use clap::Args;

use crate::error::CliError;
use crate::text::ui::{self, Ui};

/// Name of the file in the run directory that leads a browser to the link.
const FILE: &str = "web-link.html";

/// Arguments of `chat web`.
#[derive(Debug, Args)]
pub(crate) struct WebArgs {
    /// Print the link and start no browser
    #[arg(long)]
    no_open: bool,
    /// The link as JSON; starts no browser
    #[arg(long)]
    json: bool,
}

/// Prints a link, and opens it where there is a browser.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: WebArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let link = client.web_link().await?;
    if args.json {
        return ui.json(&link);
    }
    ui.line(&link.url)?;
    ui.flush()?;
    let opened = if args.no_open { None } else { open(client, &link.url) };
    ui::say(match opened {
        Some(()) => "opening it in your browser; the link works once, within a minute",
        None => "open it in a browser on this machine, within a minute; the link works once",
    });
    Ok(())
}

/// Starts the browser. The command lines of programs are visible to every user of the machine, so the browser receives the name
/// of a private file that leads to the link, not the link.
fn open(client: &Client, url: &str) -> Option<()> {
    let DaemonAddr::Home(home) = client.addr() else { return None };
    let opener = opener()?;
    let file = write_redirect(home.clone().follow().run(), url).ok()?;
    let mut command = Command::new(opener);
    command.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok().map(drop)
}

/// The program that opens files in the user's browser, where there is a screen to show it on.
fn opener() -> Option<&'static str> {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    match () {
        () if cfg!(target_os = "macos") => Some("open"),
        () if set("WAYLAND_DISPLAY") || set("DISPLAY") => Some("xdg-open"),
        () => None,
    }
}

/// Writes the file that leads to the link. The next link replaces it.
fn write_redirect(run: &Path, url: &str) -> io::Result<PathBuf> {
    let path = run.join(FILE);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    writeln!(file, "<!doctype html><meta http-equiv=\"refresh\" content=\"0; url={url}\"><a href=\"{url}\">chat</a>")?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn file_that_leads_to_the_link_is_private_and_replaced() {
        let run = tempfile::tempdir().expect("a directory");
        for url in ["http://127.0.0.1:24284/web/#0123456789", "http://127.0.0.1:24284/web/#45"] {
            let path = write_redirect(run.path(), url).expect("written");
            let text = fs::read_to_string(&path).expect("it is there");
            assert_eq!(text.matches(&format!("url={url}\"")).count(), 1, "{text}");
            assert!(text.ends_with("</a>\n") && !text.trim_end().contains('\n'), "{text}");
            let mode = fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
