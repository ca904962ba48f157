//! Runs the model: waits for what happens, hands it over, does what follows, and draws.

mod calls;
mod keyboard;
mod terminal;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_client::{Client, ClientError, DaemonAddr, FeedItem};
use jiff::tz::TimeZone;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use self::calls::{DaemonCaller, READER};
use self::terminal::Screen;
use super::app::{App, ScreenInput};
use super::compose::recall::Recall;
use super::effect::{DaemonAnswer, ScreenEffect};
use super::room::{Link, Room};
use super::settings::Settings;
use super::view;
use crate::error::CliError;
use crate::text::render;
use crate::text::ui;

/// Maximum number of events that wait while the screen is drawn.
const EVENT_QUEUE: usize = 256;

/// Maximum number of answers that wait.
const ANSWER_QUEUE: usize = 64;

/// Shortest time between two drawings that no key asked for.
const FRAME: Duration = Duration::from_millis(40);

/// The same where the terminal is gone: until then, the keyboard's thread asks it again and again.
const HANG_UP_MAX: Duration = Duration::from_secs(1);

/// Timeout for posts in flight on leaving.
const LEAVING_MAX: Duration = Duration::from_secs(10);

/// Timeout for noting what was read at the end.
const MARK_MAX: Duration = Duration::from_secs(2);

/// Runs the screen until the user leaves.
///
/// # Errors
/// Says why it ended, unless the user left.
pub(crate) async fn run(client: &Client) -> Result<(), CliError> {
    // The stream is opened before anything is read, so that no message is missed in between.
    let feed = client.events(None).await?;
    let status = client.status().await?;
    let home = match client.addr() {
        DaemonAddr::Home(home) => Some(home.root().to_path_buf()),
        DaemonAddr::Tcp { .. } => None,
    };
    let variable = |name: &str| std::env::var(name).ok();
    let settings = Settings::load(home.as_deref(), variable)?;
    let (recall, draft) = Recall::load(home.as_deref().filter(|home| is_ours(home)));
    let mut app = App::new(settings, Room::new(&status), recall, Screen::size(), TimeZone::system());
    // Where the last run left off; a daemon that does not keep it is as good as a first run.
    app.reading.resume(client.read_mark(READER).await.ok().flatten());
    if let Some(draft) = draft {
        app.composer.set(&draft);
    }
    let signals = ScreenSignals::listen().map_err(CliError::Runtime)?;
    let (sender, answers) = channel(ANSWER_QUEUE);
    let screen = Screen::take_over(app.settings.mouse).map_err(CliError::Screen)?;
    let mut driver = ScreenDriver {
        caller: DaemonCaller::new(client.clone(), sender),
        answers,
        events: feed.into_channel(EVENT_QUEUE),
        keys: keyboard::start(),
        gone: keyboard::gone(),
        patience: LEAVING_MAX,
        signals,
        screen,
        redraw: Redraw::Now,
        drawn: Instant::now(),
    };
    let result = driver.talk(&mut app).await;
    // The terminal is given back before anything is said.
    let ScreenDriver { mut caller, mut answers, screen, patience, .. } = driver;
    drop(screen);
    finish(client, &mut app, (&mut caller, &mut answers), patience).await;
    result
}

/// Whether files can be kept in a home: it is there.
fn is_ours(home: &Path) -> bool {
    PathBuf::from(home).is_dir()
}

/// When the screen is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Redraw {
    /// Nothing changed.
    Not,
    /// After a while: something arrived.
    Soon,
    /// A key was pressed.
    Now,
}

/// What happened to the program.
enum Happened {
    Inputs(Vec<ScreenInput>),
    Stopped,
    Continued,
    Draw,
    End(Result<(), CliError>),
}

struct ScreenDriver {
    caller: DaemonCaller,
    answers: Receiver<DaemonAnswer>,
    events: Receiver<Result<FeedItem, ClientError>>,
    keys: Receiver<Vec<ScreenInput>>,
    /// Answers when the terminal is gone.
    gone: oneshot::Receiver<()>,
    /// Timeout for posts in flight on leaving.
    patience: Duration,
    signals: ScreenSignals,
    screen: Screen,
    redraw: Redraw,
    drawn: Instant,
}

impl ScreenDriver {
    async fn talk(&mut self, app: &mut App) -> Result<(), CliError> {
        let mut ticked = Instant::now();
        self.act(app)?;
        loop {
            if self.redraw == Redraw::Now {
                self.draw(app)?;
            }
            let happened = self.wait(ticked + app.pace()).await;
            let mut inputs = match happened {
                Happened::Inputs(inputs) => inputs,
                Happened::Stopped => {
                    self.suspend()?;
                    Vec::new()
                }
                Happened::Continued => {
                    self.screen.again().map_err(CliError::Screen)?;
                    let (width, height) = Screen::size();
                    vec![ScreenInput::Resize(width, height)]
                }
                Happened::Draw => {
                    self.draw(app)?;
                    continue;
                }
                Happened::End(result) => return result,
            };
            // What else is there already belongs into the same drawing.
            let end = self.gather(&mut inputs);
            if inputs.iter().any(|input| matches!(input, ScreenInput::Tick)) {
                ticked = Instant::now();
            }
            for input in inputs {
                self.note(&input);
                app.handle(input, render::now());
                if self.act(app)? {
                    return Ok(());
                }
            }
            if let Some(result) = end {
                return result;
            }
        }
    }

    async fn wait(&mut self, due: Instant) -> Happened {
        let ScreenSignals { terminate, hang_up, interrupt, stop, go_on } = &mut self.signals;
        let frame = if self.redraw == Redraw::Soon { Some(self.drawn + FRAME) } else { None };
        tokio::select! {
            biased;
            keys = self.keys.recv() => keys.map_or(Happened::End(Ok(())), Happened::Inputs),
            _ = &mut self.gone => {
                self.patience = HANG_UP_MAX;
                Happened::End(Ok(()))
            }
            _ = terminate.recv() => Happened::End(Ok(())),
            _ = hang_up.recv() => Happened::End(Ok(())),
            _ = interrupt.recv() => Happened::End(Ok(())),
            _ = stop.recv() => Happened::Stopped,
            _ = go_on.recv() => Happened::Continued,
            () = sleep_until(frame.unwrap_or(due)), if frame.is_some() => Happened::Draw,
            Some(answer) = self.answers.recv() => Happened::Inputs(vec![ScreenInput::Answer(answer)]),
            Some(item) = self.events.recv() => match item {
                Ok(item) => Happened::Inputs(vec![ScreenInput::Stream(item)]),
                Err(error) => Happened::End(Err(error.into())),
            },
            () = sleep_until(due) => Happened::Inputs(vec![ScreenInput::Tick]),
        }
    }

    /// Takes what is there without waiting; returns how the program ends, if it does.
    fn gather(&mut self, inputs: &mut Vec<ScreenInput>) -> Option<Result<(), CliError>> {
        while inputs.len() < EVENT_QUEUE {
            match self.events.try_recv() {
                Ok(Ok(item)) => inputs.push(ScreenInput::Stream(item)),
                Ok(Err(error)) => return Some(Err(error.into())),
                Err(_) => break,
            }
        }
        while let Ok(answer) = self.answers.try_recv() {
            inputs.push(ScreenInput::Answer(answer));
        }
        None
    }

    fn note(&mut self, input: &ScreenInput) {
        let redraw = match input {
            ScreenInput::Key(_)
            | ScreenInput::Paste(_)
            | ScreenInput::Wheel(_)
            | ScreenInput::Resize(..)
            | ScreenInput::Answer(_) => Redraw::Now,
            ScreenInput::Focus(_) | ScreenInput::Stream(_) | ScreenInput::Tick => Redraw::Soon,
        };
        if self.redraw != Redraw::Now {
            self.redraw = redraw;
        }
    }

    /// Does what the model asks for; returns whether it ends.
    fn act(&mut self, app: &mut App) -> Result<bool, CliError> {
        for effect in app.drain() {
            match effect {
                ScreenEffect::Ask(ask) => self.caller.make(ask),
                ScreenEffect::Bell => self.screen.bell(),
                ScreenEffect::Notify(text) => self.screen.notify(app.settings.notify, &text),
                ScreenEffect::Title(title) => self.screen.title(&title),
                ScreenEffect::Suspend => {
                    self.suspend()?;
                    let (width, height) = Screen::size();
                    app.handle(ScreenInput::Resize(width, height), render::now());
                }
                ScreenEffect::Redraw => self.screen.clear().map_err(CliError::Screen)?,
                ScreenEffect::Leave => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Gives the terminal back, stops this process, and takes the terminal over again when it is continued.
    fn suspend(&mut self) -> Result<(), CliError> {
        self.screen.give_back();
        // The process stops here; it goes on with the next line.
        let _ = kill_process(getpid(), Signal::STOP);
        self.redraw = Redraw::Now;
        self.screen.again().map_err(CliError::Screen)
    }

    fn draw(&mut self, app: &App) -> Result<(), CliError> {
        self.redraw = Redraw::Not;
        self.drawn = Instant::now();
        self.screen.draw(|frame| view::draw(frame, app)).map_err(CliError::Screen)
    }
}

/// Waits a little for the posts in flight; what was not sent and what was being typed is kept for the next time.
async fn finish(
    client: &Client,
    app: &mut App,
    (caller, answers): (&mut DaemonCaller, &mut Receiver<DaemonAnswer>),
    patience: Duration,
) {
    let all_sent = tokio::time::timeout(patience, async {
        while app.outbox.len() > 0 {
            let Some(answer) = answers.recv().await else { break };
            app.handle(ScreenInput::Answer(answer), render::now());
            for effect in app.drain() {
                if let ScreenEffect::Ask(ask) = effect {
                    caller.make(ask);
                }
            }
            if app.outbox.is_held() {
                break;
            }
        }
    });
    let _ = all_sent.await;
    if app.outbox.len() > 0 {
        let count = render::count(app.outbox.len() as u64, "message was", "messages were");
        ui::say(&format!("chat: the daemon does not answer: {count} not sent, Up brings back what was typed"));
    }
    if let Some(id) = app.reading.last().filter(|_| app.room.link == Link::Up) {
        // A busy machine takes a moment to write it; a daemon that hangs keeps the one before.
        let _ = tokio::time::timeout(MARK_MAX, client.set_read_mark(READER, id)).await;
    }
    app.recall.save(app.composer.text());
}

/// The signals that concern the screen.
struct ScreenSignals {
    terminate: SignalStream,
    hang_up: SignalStream,
    interrupt: SignalStream,
    stop: SignalStream,
    go_on: SignalStream,
}

impl ScreenSignals {
    /// From here on, they no longer act by themselves.
    fn listen() -> std::io::Result<Self> {
        let on = |number: Signal| signal(SignalKind::from_raw(number.as_raw()));
        Ok(Self {
            terminate: on(Signal::TERM)?,
            hang_up: on(Signal::HUP)?,
            interrupt: on(Signal::INT)?,
            stop: on(Signal::TSTP)?,
            go_on: on(Signal::CONT)?,
        })
    }
}
