//! The daemon's log: its destination and its filter.

mod rotating;

use std::io;
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

pub(crate) use rotating::{RotatingLog, Streams, older};

/// Maximum size of the log file, in bytes (10 MiB); one older file of that size is kept.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// Filter for the libraries: warnings, except from targets that warn about normal events: probes of the hello protocol, a
/// relay that ends with its endpoint or whose client disconnects, the last path of a connection that ends, a local network
/// without multicast.
const LIBRARIES: &str = "warn,iroh::socket::remote_map=error,iroh::socket::transports::relay=off,\
    iroh_relay::server::client=error,noq_proto::connection=error,swarm_discovery=error";

/// Logs to standard error, for a daemon in the foreground.
pub(crate) fn log_to_stderr(filter: &str) {
    subscribe(filter, io::stderr);
}

/// Logs to a file of bounded size, for a daemon in the background.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) fn log_to_file(filter: &str, path: &Path, streams: Streams) -> io::Result<()> {
    subscribe(filter, RotatingLog::open(path, LOG_BYTES_MAX, streams)?);
    Ok(())
}

fn subscribe<W>(filter: &str, writer: W)
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    // Tests install a second subscriber in one process: the first one stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives(filter)))
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(writer)
        .try_init();
}

/// Whether a text is a level, or directives that name targets.
pub(crate) fn is_filter(text: &str) -> bool {
    let directives = || text.split(',').map(str::trim);
    let names_or_level = |directive: &str| {
        directive.contains('=') || (!directive.is_empty() && directive.parse::<LevelFilter>().is_ok())
    };
    directives().all(names_or_level) && EnvFilter::builder().parse(text).is_ok()
}

/// Turns a level into directives for chatd's own crates; directives are applied over the default.
fn directives(filter: &str) -> String {
    match filter.trim().parse::<LevelFilter>() {
        Ok(level) => format!("{LIBRARIES},chatd={level},chat_core={level}"),
        Err(_) => format!("{LIBRARIES},chatd=info,chat_core=info,{filter}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_is_a_level_or_directives() {
        for good in ["info", "WARN", "off", "debug", "chatd=trace", "warn,chatd::net=debug", "iroh=info,chatd=debug"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "loud", "chatd=loud", "chatd", "info,", "=", "chatd=debug,verbose"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn level_applies_to_own_crates_only() {
        assert_eq!(directives("debug"), format!("{LIBRARIES},chatd=debug,chat_core=debug"));
        assert_eq!(directives("iroh=info"), format!("{LIBRARIES},chatd=info,chat_core=info,iroh=info"));
        for text in ["trace", "iroh=info"] {
            EnvFilter::builder().parse(directives(text)).expect("valid directives");
        }
    }
}
