//! `chatd service`: a systemd user unit that runs the daemon in the foreground.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use chat_client::home::environment;

use crate::app::home::Home;
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::print;
use crate::app::settings::args::ServiceAction;
use crate::private_file::{self, Lasting};

/// Name of the unit of the default home.
const UNIT: &str = "chatd.service";

/// Maximum characters of a home's name in the name of its unit.
const SLUG_CHARS_MAX: usize = 32;

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
    /// The unit runs the daemon of another home.
    #[error("{path} runs the daemon of another home: run 'chatd service uninstall' with that home first")]
    OtherHome {
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
    let unit = unit_path(home, environment).map_err(refused)?;
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

/// The unit of a home: each has one of its own. Earlier versions had one for all, which its home keeps.
fn unit_path(home: &Home, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, ServiceError> {
    let directory = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = directory("XDG_CONFIG_HOME").or_else(|| Some(directory("HOME")?.join(".config")));
    let units = config.ok_or(ServiceError::NoDirectory)?.join("systemd/user");
    let first = units.join(UNIT);
    let arguments = arguments(home)?;
    let ours = matches!(read_own(&first), Ok(Some(unit)) if runs(&unit, &arguments));
    Ok(if home.is_default() || ours { first } else { units.join(unit_name(home.root())) })
}

/// `chatd-lab-0123abcd.service` for `/srv/lab`.
fn unit_name(root: &Path) -> String {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let slug: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    let slug: String = slug.trim_start_matches('.').chars().take(SLUG_CHARS_MAX).collect();
    let hash = blake3::hash(root.as_os_str().as_bytes()).to_hex();
    format!("chatd-{slug}-{}.service", &hash[..8])
}

/// Whether a unit of chatd starts it with these arguments.
fn runs(unit: &str, arguments: &str) -> bool {
    unit.lines().filter(|line| line.starts_with("ExecStart=")).any(|line| {
        let own = line.split_once("\" ").map_or("", |(_, own)| own);
        own == arguments
    })
}

fn install(path: &Path, program: &Path, home: &Home) -> Result<String, ServiceError> {
    let unit = unit_text(program, home)?;
    let before = read_own(path)?;
    let arguments = arguments(home)?;
    if before.as_deref().is_some_and(|before| !runs(before, &arguments)) {
        return Err(ServiceError::OtherHome { path: path.to_owned() });
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
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
        "{} {done}\n  next   systemctl --user daemon-reload && systemctl --user enable --now {name}\n  next   loginctl enable-linger   (to keep it running after logout)\n",
        path.display()
    ))
}

fn uninstall(path: &Path) -> Result<String, ServiceError> {
    if read_own(path)?.is_none() {
        return Ok(format!("there is no {}\n", path.display()));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    fs::remove_file(path).map_err(|source| ServiceError::File { path: path.to_owned(), source })?;
    Ok(format!(
        "{} was removed\n  next   systemctl --user disable --now {name}; systemctl --user daemon-reload\n",
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
    let command = format!("{} {}", escape(program)?, arguments(home)?);
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

/// The arguments of the unit's command, which does not have the environment of this shell.
fn arguments(home: &Home) -> Result<String, ServiceError> {
    if home.is_default() {
        return Ok("start --foreground".to_owned());
    }
    Ok(format!("--home {} start --foreground", escape(home.root())?))
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
        assert!(install(&unit, Path::new("/opt/chatd"), &home("/a")).expect("installed").contains("was replaced"));
        let refused = install(&unit, program, &home("/b")).expect_err("of another home");
        assert!(refused.to_string().contains("another home"), "{refused}");
        assert!(fs::read_to_string(&unit).expect("readable").contains("\"/a\""));
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
        let default = Home::locate(None, |name| (name == "HOME").then(|| "/h".into())).expect("known");
        let path_of = |home: &Home, variables: &[(&str, &str)]| {
            unit_path(home, |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        let path = |variables: &[(&str, &str)]| path_of(&default, variables);
        let unit = "systemd/user/chatd.service";
        assert_eq!(path(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]).expect("known"), Path::new("/c").join(unit));
        assert_eq!(path(&[("HOME", "/h")]).expect("known"), Path::new("/h/.config").join(unit));
        path(&[]).expect_err("unknown");
    }

    #[test]
    fn each_home_has_a_unit_of_its_own() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = |home: &Home| unit_path(home, |name| (name == "XDG_CONFIG_HOME").then(|| directory.path().into()));
        let (lab, other) = (path(&home("/srv/lab 1")).expect("known"), path(&home("/home/lab 1")).expect("known"));
        assert_ne!(lab, other);
        let name = lab.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(name.starts_with("chatd-lab1-") && name.ends_with(".service"), "{name}");
        // Installed by an earlier version.
        let first = directory.path().join("systemd/user").join(UNIT);
        install(&first, Path::new("/usr/bin/chatd"), &home("/srv/lab 1")).expect("installed");
        assert_eq!(path(&home("/srv/lab 1")).expect("known"), first);
        assert_eq!(path(&home("/home/lab 1")).expect("known"), other);
    }
}
