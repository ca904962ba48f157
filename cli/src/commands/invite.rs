//! `chat invite`: a ticket on standard output, and nothing else there.

use std::time::Duration;

use chat_client::Client;
use chat_proto::api::invites::InviteRequest;
use chat_proto::ticket::Ticket;
use clap::Args;
use jiff::tz::TimeZone;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::error::CliError;
use crate::text::ui::{self, Colour, Ui};
use crate::text::{render, time_arg};

/// Arguments of `chat invite`.
#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// How long the ticket is valid, up to a year [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = time_arg::invite_expiry)]
    expires: Option<Duration>,
    /// Maximum number of newcomers it admits [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    uses: Option<u32>,
    /// Print the ticket as a link, which '--join' takes, too
    #[arg(long)]
    link: bool,
    /// Draw the link as a QR code above it
    #[arg(long, conflicts_with = "json")]
    qr: bool,
    /// Invite and ticket as JSON
    #[arg(long, conflicts_with = "link")]
    json: bool,
}

/// Prints a new ticket.
///
/// # Errors
/// Says how the call failed.
pub(crate) async fn run(args: InviteArgs, client: &Client, ui: &mut Ui) -> Result<(), CliError> {
    let expires_ms = args.expires.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    let request = InviteRequest { expires_ms, uses: args.uses };
    let new = client.invite(&request).await?;
    if args.json {
        return ui.json(&new);
    }
    let link = Ticket::link(&new.ticket);
    if args.qr {
        qr_code(&link, ui.colour)?.iter().try_for_each(|line| ui.line(line))?;
    }
    ui.line(if args.link || args.qr { &link } else { &new.ticket })?;
    ui.flush()?;
    let until = render::date_time(new.invite.expires, &TimeZone::system());
    let uses = render::count(new.invite.uses.into(), "newcomer", "newcomers");
    ui::say(&format!("anyone with this ticket can join, up to {uses} until {until}: 'chatd start --join TICKET'"));
    ui::say(&format!("to revoke it: 'chat revoke {}'", new.invite.id.short()));
    Ok(())
}

/// The lines of a QR code, two of its rows each. In upper case a link needs less room, and means the same.
fn qr_code(link: &str, colour: Colour) -> Result<Vec<String>, CliError> {
    let code =
        QrCode::with_error_correction_level(link.to_ascii_uppercase(), EcLevel::L).map_err(|_| CliError::QrCode)?;
    // Black on white where there are colours; else as if the terminal were dark.
    let (dark, light) = match colour {
        Colour::On => (Dense1x2::Dark, Dense1x2::Light),
        Colour::Off => (Dense1x2::Light, Dense1x2::Dark),
    };
    let picture = code.render::<Dense1x2>().dark_color(dark).light_color(light).build();
    Ok(picture.lines().map(|line| colour.paint("30;107", line)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_square_and_fits_a_terminal() {
        let link = Ticket::link(&format!("chat1{}", "a2".repeat(150)));
        let lines = qr_code(&link, Colour::Off).expect("it fits");
        let columns = lines[0].chars().count();
        assert!(columns <= 80 && lines.len() * 2 - columns <= 1, "{columns} by {}", lines.len());
        // The frame around it is light, which is drawn where the terminal is dark.
        assert!(lines[0].chars().all(|c| c == '█') && lines[5].starts_with("████"), "{}", lines.join("\n"));
        let painted = qr_code(&link, Colour::On).expect("it fits");
        assert!(painted[0].starts_with("\x1b[30;107m    "));
        assert!(qr_code(&"a".repeat(5000), Colour::Off).is_err());
    }
}
