//! Where the daemon's log goes, and what is in it.

mod rotating;

use std::io;
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

pub(crate) use rotating::{RotatingLog, Streams, older};

/// Largest log file, in bytes (10 MiB); a second one of that size is kept.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// What others write into the log: warnings. Behind it, targets that complain about what is not wrong: probes of the hello
/// protocol, a relay that ends with its endpoint or whose client goes, the last path of a connection that dies, a local network without
/// multicast.
const OTHERS: &str = "warn,iroh::socket::remote_map=error,iroh::socket::transports::relay=off,\
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
    // A second subscriber in one process, in tests: the first one stays.
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

/// A level alone is meant for chatd's own parts; directives are taken as they are, over the default.
fn directives(filter: &str) -> String {
    match filter.trim().parse::<LevelFilter>() {
        Ok(level) => format!("{OTHERS},chatd={level},chat_core={level}"),
        Err(_) => format!("{OTHERS},chatd=info,chat_core=info,{filter}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_or_directives() {
        for good in ["info", "WARN", "off", "debug", "chatd=trace", "warn,chatd::net=debug", "iroh=info,chatd=debug"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "loud", "chatd=loud", "chatd", "info,", "=", "chatd=debug,verbose"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn a_level_is_for_our_own_parts() {
        assert_eq!(directives("debug"), format!("{OTHERS},chatd=debug,chat_core=debug"));
        assert_eq!(directives("iroh=info"), format!("{OTHERS},chatd=info,chat_core=info,iroh=info"));
        for text in ["trace", "iroh=info"] {
            EnvFilter::builder().parse(directives(text)).expect("valid directives");
        }
    }
}
