//! Windows over the history: a text to read, a question, the search.

use chat_proto::api::messages::Message;

use super::compose::composer::Composer;
use super::effect::RoomChange;

/// A window.
pub(crate) enum Overlay {
    /// A text to read.
    Pager(Pager),
    /// A question.
    Question(Question),
    /// The search in the history.
    Search(Search),
}

/// A text to read.
#[derive(Debug)]
pub(crate) struct Pager {
    /// What it is.
    pub(crate) title: &'static str,
    /// Its lines.
    pub(crate) lines: Vec<String>,
    /// The first line that is shown.
    pub(crate) top: usize,
}

/// A question to answer with y or n.
#[derive(Debug)]
pub(crate) struct Question {
    /// The question.
    pub(crate) text: String,
    /// What is done on yes.
    pub(crate) yes: Yes,
}

/// What is done when a question is answered with yes.
#[derive(Debug)]
pub(crate) enum Yes {
    /// Insert pasted text.
    Paste(String),
    /// RoomChange the room.
    Change(RoomChange),
}

/// The search.
#[derive(Default)]
pub(crate) struct Search {
    /// The words.
    pub(crate) words: Composer,
    /// The words that were searched for.
    pub(crate) asked: Option<String>,
    /// What was found, newest first.
    pub(crate) found: Vec<Message>,
    /// The selected one.
    pub(crate) selected: usize,
    /// How the search went.
    pub(crate) state: SearchState,
}

/// How a search went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SearchState {
    /// Nothing was searched for.
    #[default]
    Idle,
    /// The daemon searches.
    Asked,
    /// It is over, and there is nothing older.
    Complete,
    /// It is over, and there is more.
    More,
    /// It failed.
    Failed(String),
}
