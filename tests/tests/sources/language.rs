//! Plain English: words and phrases that make a reader stop are kept out of doc comments and of every text that a user may
//! see. The table is short on purpose: it holds what had to be rewritten most often.

use crate::{is_test_code, sources};

/// What is rejected, and what to write instead.
const REJECTED: [(&str, &str); 14] = [
    ("whoever", "the peer, member, author, sender or caller that"),
    ("somebody", "a peer, a member, a client"),
    ("anybody", "any peer, any member"),
    ("nobody", "no peer, no member"),
    ("everybody", "every member, all peers"),
    ("shall", "must, will"),
    ("counts for nothing", "is void, is ignored"),
    ("count for nothing", "are void, are ignored"),
    ("is told", "receives, learns of"),
    ("are told", "receive, learn of"),
    ("hears of", "learns of"),
    ("of how many", "number of"),
    ("is no member", "is not a member"),
    ("is no admin", "is not an admin"),
];

/// The phrases of a text that are rejected; words are compared without regard to case and line breaks.
fn rejected(text: &str) -> Vec<(&'static str, &'static str)> {
    let words: Vec<String> = (text.split(|c: char| !c.is_alphabetic() && c != '\'' && c != '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let spaced = format!(" {} ", words.join(" "));
    REJECTED.into_iter().filter(|(phrase, _)| spaced.contains(&format!(" {phrase} "))).collect()
}

/// Texts of a file, each with the number of its first line.
type Texts = Vec<(usize, String)>;

/// The doc comments of a file, one text a block, and its string literals, each with the number of its first line.
fn texts(source: &str) -> (Texts, Texts) {
    let (mut docs, mut strings) = (Texts::new(), Texts::new());
    let mut rest = source;
    let line_of = |rest: &str| source[..source.len() - rest.len()].lines().count().max(1);
    let mut doc_ends_at = 0;
    while let Some(at) = rest.find(['/', '"', '\'']) {
        rest = &rest[at..];
        if rest.starts_with("//") {
            let line = rest.lines().next().unwrap_or_default();
            let number = line_of(&rest[1..]);
            if let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) {
                match docs.last_mut() {
                    Some((_, block)) if number == doc_ends_at + 1 => {
                        block.push('\n');
                        block.push_str(text);
                    }
                    Some(_) | None => docs.push((number, text.to_owned())),
                }
                doc_ends_at = number;
            }
            rest = &rest[line.len()..];
        } else if let Some(body) = rest.strip_prefix('"') {
            let before = &source[..source.len() - rest.len()];
            let hashes = before.len() - before.trim_end_matches('#').len();
            let raw = before.trim_end_matches('#').ends_with('r');
            let end = if raw { format!("\"{}", "#".repeat(hashes)) } else { "\"".to_owned() };
            let (mut length, mut escaped) = (body.len(), false);
            for (at, c) in body.char_indices() {
                if !raw && escaped {
                    escaped = false;
                } else if !raw && c == '\\' {
                    escaped = true;
                } else if body[at..].starts_with(&end) {
                    length = at;
                    break;
                }
            }
            strings.push((line_of(&rest[1..]), body[..length].to_owned()));
            rest = body.get(length + end.len()..).unwrap_or_default();
        } else if let Some(body) = rest.strip_prefix('\'') {
            // A character, which may be a quote; a lifetime has no closing quote near by.
            let length = body.char_indices().skip(1).take(10).find(|(_, c)| *c == '\'').map(|(at, _)| at);
            rest = match length {
                Some(at) if body.starts_with('\\') || body[..at].chars().count() == 1 => &body[at + 1..],
                Some(_) | None => body,
            };
        } else {
            rest = &rest[1..];
        }
    }
    (docs, strings)
}

#[test]
fn docs_and_user_visible_texts_are_plain_english() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if path.ends_with("sources/language.rs") {
            continue;
        }
        let (docs, mut strings) = texts(&text);
        // No user sees the texts of tests.
        let tests_from = text.find("#[cfg(test)]\nmod tests {").map_or(usize::MAX, |at| text[..at].lines().count());
        strings.retain(|(line, _)| !is_test_code(&path) && *line <= tests_from);
        for (line, text) in docs.iter().chain(&strings) {
            for (phrase, instead) in rejected(text) {
                found.push(format!("{}:{line}: '{phrase}': write '{instead}'", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{} texts to rewrite:\n{}", found.len(), found.join("\n"));
}

#[test]
fn rejected_words_are_found_in_docs_and_strings_and_nowhere_else() {
    let source = "//! Nobody\n//! is here.\nfn a<'a>() {\n    // nobody\n    let c = '\"';\n    say(\"it is \\\"told\\\"\",                   r#\"nobody \"is\" told\"#);\n    nobody();\n}\n";
    let (docs, strings) = texts(source);
    assert_eq!(docs, [(1, " Nobody\n is here.".to_owned())]);
    assert_eq!(strings.len(), 2);
    assert_eq!(rejected(&docs[0].1).len(), 1);
    assert_eq!(rejected(&strings[0].1).len(), 1, "quotes within a text do not hide a phrase");
    assert_eq!(rejected(&strings[1].1).len(), 2);
    assert_eq!(rejected("Nobodys told, isn't it so many"), []);
}
