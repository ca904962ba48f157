//! `chatd service`: a systemd user unit that runs the daemon in the foreground.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chat_client::home::environment;

use crate::app::home::Home;
use crate::app::home::private_file::{self, Lasting};
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::print;
use crate::app::settings::args::ServiceAction;

/// Name of the unit.
const UNIT: &str = "chatd.service";

/// First line of a unit that chatd may replace and remove.
const MARK: &str = "# Written by 'chatd service install'.";

/// Why the unit was not installed or removed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    /// The environment does not determine the directory of units.
    #[error("no directory for systemd units is known: set HOME or XDG_CONFIG_HOME")]
    NoDirectory,
    /// A unit of that name was not written by chatd.
    #[error("{path} was not written by chatd: move it away first")]
    Foreign {
        /// The unit.
        path: PathBuf,
    },
    /// A path that a unit cannot name.
    #[error("a systemd unit cannot name {path:?}, which is not text or holds control characters")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Installs or removes the unit, and prints the commands that activate the change.
pub(crate) fn run(action: ServiceAction, home: &Home) -> Result<(), ExitError> {
    let unit = unit_path(environment).map_err(refused)?;
    let text = match action {
        ServiceAction::Install => {
            let program = std::env::current_exe()
                .map_err(|source| refused(ServiceError::File { path: "/proc/self/exe".into(), source }))?;
            install(&unit, &program, home).map_err(refused)?
        }
        ServiceAction::Uninstall => uninstall(&unit).map_err(refused)?,
    };
    Ok(print(&text)?)
}

fn refused(error: ServiceError) -> ExitError {
    ExitError::refused(&error)
}

fn unit_path(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, ServiceError> {
    let directory = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")));
    Ok(config.ok_or(ServiceError::NoDirectory)?.join("systemd/user").join(UNIT))
}

fn install(path: &Path, program: &Path, home: &Home) -> Result<String, ServiceError> {
    let unit = unit_text(program, home)?;
    let before = read_own(path)?;
    let fail = |source| ServiceError::File { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(fail)?;
    }
    private_file::write(path, unit.as_bytes(), Lasting::Forever).map_err(fail)?;
    let done = match before {
        Some(before) if before == unit => "is unchanged",
        Some(_) => "was replaced",
        None => "was written",
    };
    Ok(format!(
        "{} {done}\n  next   systemctl --user daemon-reload && systemctl --user enable --now {UNIT}\n  next   loginctl enable-linger   (to keep it running after logout)\n",
        path.display()
    ))
}

fn uninstall(path: &Path) -> Result<String, ServiceError> {
    if read_own(path)?.is_none() {
        return Ok(format!("there is no {}\n", path.display()));
    }
    fs::remove_file(path).map_err(|source| ServiceError::File { path: path.to_owned(), source })?;
    Ok(format!(
        "{} was removed\n  next   systemctl --user disable --now {UNIT}; systemctl --user daemon-reload\n",
        path.display()
    ))
}

/// The installed unit, if chatd wrote it.
fn read_own(path: &Path) -> Result<Option<String>, ServiceError> {
    match fs::read_to_string(path) {
        Ok(unit) if unit.starts_with(MARK) => Ok(Some(unit)),
        Ok(_) => Err(ServiceError::Foreign { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ServiceError::File { path: path.to_owned(), source }),
    }
}

fn unit_text(program: &Path, home: &Home) -> Result<String, ServiceError> {
    let mut command = escape(program)?;
    // The unit does not have the environment of this shell.
    if home.is_default() {
        command.push_str(" start --foreground");
    } else {
        command.push_str(&format!(" --home {} start --foreground", escape(home.root())?));
    }
    Ok(format!(
        "{MARK}\n\
         [Unit]\n\
         Description=chatd, a chatroom without a server\n\
         \n\
         [Service]\n\
         ExecStart={command}\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

/// Quotes a path for `ExecStart=`, with systemd's specifiers escaped (systemd.service(5)).
fn escape(path: &Path) -> Result<String, ServiceError> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| ServiceError::Path { path: path.to_owned() })?;
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(path: &str) -> Home {
        Home::locate(Some(Path::new(path)), |_| None).expect("known")
    }

    #[test]
    fn unit_quotes_program_and_home_for_systemd() {
        let unit = unit_text(Path::new("/opt/50% \"x\"/chatd"), &home("/srv/$a b")).expect("text");
        let line = unit.lines().find(|line| line.starts_with("ExecStart=")).expect("a command");
        assert_eq!(line, r#"ExecStart="/opt/50%% \"x\"/chatd" --home "/srv/$$a b" start --foreground"#);
        unit_text(Path::new("/a\nb"), &home("/srv")).expect_err("a line end would start another setting");
    }

    #[test]
    fn repeated_install_replaces_and_repeated_uninstall_succeeds() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let unit = directory.path().join("deep/systemd/user/chatd.service");
        let program = Path::new("/usr/bin/chatd");
        assert!(install(&unit, program, &home("/a")).expect("installed").contains("was written"));
        assert!(install(&unit, program, &home("/a")).expect("installed").contains("unchanged"));
        assert!(install(&unit, program, &home("/b")).expect("installed").contains("was replaced"));
        assert!(fs::read_to_string(&unit).expect("readable").contains("\"/b\""));
        assert!(uninstall(&unit).expect("removed").contains("was removed"));
        assert!(uninstall(&unit).expect("removed").contains("there is no"));
    }

    #[test]
    fn foreign_unit_is_left_alone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let unit = directory.path().join(UNIT);
        fs::write(&unit, "[Service]\n").expect("written");
        install(&unit, Path::new("/usr/bin/chatd"), &home("/a")).expect_err("foreign");
        uninstall(&unit).expect_err("foreign");
        assert_eq!(fs::read_to_string(&unit).expect("readable"), "[Service]\n");
    }

    #[test]
    fn unit_path_follows_the_environment() {
        let path = |variables: &[(&str, &str)]| {
            unit_path(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        let unit = "systemd/user/chatd.service";
        assert_eq!(path(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]).expect("known"), Path::new("/c").join(unit));
        assert_eq!(path(&[("HOME", "/h")]).expect("known"), Path::new("/h/.config").join(unit));
        path(&[]).expect_err("unknown");
    }
}
