//! What the word before the cursor could become.

use super::command::COMMANDS;

/// Maximum number of candidates that are shown.
pub(crate) const CANDIDATES_MAX: usize = 8;

/// What can be completed besides commands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// Names of the other members.
    pub(crate) names: &'a [String],
    /// Numbers and names of newcomers that wait.
    pub(crate) knocks: &'a [(String, String)],
}

/// Candidates for the word before the cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Completion {
    /// Where the word begins, in bytes.
    pub(crate) start: usize,
    /// What it could become, and a few words on it.
    pub(crate) candidates: Vec<(String, String)>,
    /// Which one is selected.
    pub(crate) selected: usize,
}

impl Completion {
    /// The candidates at the cursor; none where there is nothing to complete.
    pub(crate) fn find(text: &str, cursor: usize, known: Known<'_>) -> Option<Self> {
        let typed = text.get(..cursor)?;
        let start = typed
            .rfind(char::is_whitespace)
            .map_or(0, |space| space + typed[space..].chars().next().map_or(1, char::len_utf8));
        let word = &typed[start..];
        let mut candidates = Self::candidates(typed, start, word, known);
        candidates.truncate(CANDIDATES_MAX);
        let is_done = candidates.iter().any(|(candidate, _)| candidate.trim_end() == word) && candidates.len() == 1;
        (!candidates.is_empty() && !is_done).then_some(Self { start, candidates, selected: 0 })
    }

    fn candidates(typed: &str, start: usize, word: &str, known: Known<'_>) -> Vec<(String, String)> {
        let before: Vec<&str> = typed[..start].split_whitespace().collect();
        match before.as_slice() {
            [] if word.starts_with('/') => COMMANDS
                .iter()
                .filter(|(name, ..)| name.starts_with(word))
                .map(|(name, what, does)| {
                    let space = if what.is_empty() { "" } else { " " };
                    (format!("{name}{space}"), (*does).to_owned())
                })
                .collect(),
            ["/admit" | "/deny"] => known.knocks.iter().filter(|(id, _)| id.starts_with(word)).cloned().collect(),
            ["/role", _] => ["admin", "member"]
                .iter()
                .filter(|role| role.starts_with(word))
                .map(|role| ((*role).to_owned(), String::new()))
                .collect(),
            ["/remove" | "/role" | "/trust" | "/msg"] => names(known, word.strip_prefix('@').unwrap_or(word), ""),
            _ => word.strip_prefix('@').map(|part| names(known, part, "@")).unwrap_or_default(),
        }
    }

    /// Selects the next candidate, or the one before.
    pub(crate) fn select(&mut self, step: isize) {
        let count = isize::try_from(self.candidates.len()).unwrap_or(isize::MAX).max(1);
        let selected = isize::try_from(self.selected).unwrap_or(0) + step;
        self.selected = usize::try_from(selected.rem_euclid(count)).unwrap_or(0);
    }

    /// The text of the selected candidate.
    pub(crate) fn text(&self) -> Option<&str> {
        self.candidates.get(self.selected).map(|(text, _)| text.as_str())
    }
}

fn names(known: Known<'_>, part: &str, sign: &str) -> Vec<(String, String)> {
    let part = part.to_lowercase();
    let fits = |name: &&String| name.to_lowercase().starts_with(&part);
    known.names.iter().filter(fits).map(|name| (format!("{sign}{name} "), String::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let names = ["bob".to_owned(), "Bea".to_owned(), "李".to_owned()];
        let knocks = [("3".to_owned(), "carol".to_owned())];
        let found = Completion::find(text, text.len(), Known { names: &names, knocks: &knocks });
        let found = found.map(|found| found.candidates).unwrap_or_default();
        assert_eq!(found.into_iter().map(|(text, _)| text).collect::<Vec<_>>(), expected, "{text:?}");
    }

    #[test]
    fn names_commands_and_their_arguments_are_completed() {
        check("@b", &["@bob ", "@Bea "]);
        check("hello @BE", &["@Bea "]);
        check("ask\u{3000}@李", &[]);
        check("@", &["@bob ", "@Bea ", "@李 "]);
        check("/pe", &["/peers"]);
        check("/peers", &[]);
        check("/admit ", &["3"]);
        check("/remove b", &["bob ", "Bea "]);
        check("/role bob a", &["admin"]);
        check("a /pe", &[]);
        check("plain", &[]);
        check("", &[]);
    }

    #[test]
    fn selection_goes_round() {
        let names = ["bob".to_owned(), "bea".to_owned()];
        let mut found = Completion::find("@b", 2, Known { names: &names, knocks: &[] }).expect("two");
        found.select(-1);
        assert_eq!(found.text(), Some("@bea "));
        found.select(1);
        assert_eq!(found.text(), Some("@bob "));
    }
}
