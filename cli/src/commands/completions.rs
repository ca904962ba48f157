//! `chat completions`: the script with which a shell completes the command line. The script asks this program, which asks the
//! daemon for the names that a person would have to look up.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use chat_client::home::environment;
use chat_client::{Client, ClientError, DaemonAddr};
use clap::builder::StyledStr;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};

use crate::error::CliError;
use crate::text::render::{label, name};
use crate::text::ui::Ui;

/// The variable with which the script of a shell asks this program.
const VARIABLE: &str = "CHAT_COMPLETE";

/// Timeout for the daemon: a key was pressed.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Bash parts words at '@', and replaces what follows it: the two are joined for the question, and parted in the answers.
const BASH_JOINS_NAMES: &str = r#"
_chat_joined() {
    local at=$((COMP_CWORD - 1))
    if [[ ${COMP_WORDS[COMP_CWORD]} == @ ]]; then
        _clap_complete_chat "$1" @ "$3"
        COMPREPLY=("${COMPREPLY[@]#@}")
    elif (( at > 0 )) && [[ ${COMP_WORDS[at]} == @ ]]; then
        local joined="@$2"
        COMP_WORDS=("${COMP_WORDS[@]:0:at}" "$joined" "${COMP_WORDS[@]:at + 2}")
        COMP_CWORD=$at
        _clap_complete_chat "$1" "$joined" "$3"
        COMPREPLY=("${COMPREPLY[@]#@}")
    else
        _clap_complete_chat "$@"
    fi
}
complete -o nosort -o bashdefault -o default -F _chat_joined chat
"#;

/// Arguments of `chat completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the completions.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn run(args: CompletionsArgs, ui: &mut Ui) -> Result<(), CliError> {
    let shell = args.shell.to_string();
    let mut text = Vec::new();
    let shells = Shells::builtins();
    let script = shells.completer(&shell).expect("every shell that is known has a script");
    script.write_registration(VARIABLE, "chat", "chat", "chat", &mut text)?;
    if args.shell == Shell::Bash {
        text.extend_from_slice(BASH_JOINS_NAMES.as_bytes());
    }
    ui.bytes(&text)?;
    ui.flush()
}

/// Answers the script of a shell, if it is the one that asks; returns whether it was.
pub(crate) fn answer(definition: fn() -> Command) -> bool {
    let here = std::env::current_dir().ok();
    let answered =
        CompleteEnv::with_factory(definition).var(VARIABLE).try_complete(std::env::args_os(), here.as_deref());
    // There is no person to tell: a shell shows no answer where there is none.
    answered.unwrap_or(true)
}

/// Members.
pub(crate) fn members() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names().into_iter().map(CompletionCandidate::new).collect())
}

/// Members as recipients; texts are not completed.
pub(crate) fn recipients() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let word = word.to_string_lossy().to_lowercase();
        let marked = names().into_iter().map(|name| format!("@{name}"));
        marked.filter(|name| name.to_lowercase().starts_with(&word)).map(CompletionCandidate::new).collect()
    })
}

/// Newcomers that ask for admission.
pub(crate) fn knocks() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let knocks = ask(async |client| client.knocks().await).unwrap_or_default();
        let candidate = |id: String, who: String| CompletionCandidate::new(id).help(Some(StyledStr::from(who)));
        knocks.iter().map(|knock| candidate(knock.id.to_string(), label(&knock.name))).collect()
    })
}

/// Invites.
pub(crate) fn invites() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let invites = ask(async |client| client.invites().await).unwrap_or_default();
        let by = |invite: &chat_proto::api::invites::Invite| StyledStr::from(format!("by {}", name(&invite.by)));
        invites.iter().map(|one| CompletionCandidate::new(one.id.short()).help(Some(by(one)))).collect()
    })
}

/// Addresses of rooms on the local network.
pub(crate) fn rooms() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let rooms = ask(async |client| client.rooms().await).unwrap_or_default();
        let first = |room: &chat_proto::api::members::NearbyRoom| {
            let about = StyledStr::from(label(&room.room.name));
            room.addrs.first().map(|addr| CompletionCandidate::new(addr.to_string()).help(Some(about)))
        };
        rooms.iter().filter_map(first).collect()
    })
}

/// Names of the other members that are one word.
fn names() -> Vec<String> {
    let peers = ask(async |client| client.peers().await).unwrap_or_default();
    let names = peers.iter().filter(|view| !view.me).map(|view| name(&view.peer));
    names.filter(|name| !name.contains(char::is_whitespace)).collect()
}

/// Asks the daemon that the command line names; nothing where it does not answer at once.
fn ask<T>(question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> Option<T> {
    let mut words = std::env::args_os().skip_while(|word| word != "--home").skip(1);
    let home = words.next().map(PathBuf::from);
    let client = Client::new(DaemonAddr::locate(home.as_deref(), environment).ok()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async { tokio::time::timeout(ANSWER_MAX, question(&client)).await.ok()?.ok() })
}
