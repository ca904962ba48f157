//! Splits a typed text into its recipients, named at its front, and the message.

/// Splits `@bob @carol, text` into the names and the text. Without names at the very front it is all text: a space in
/// front keeps a text that begins with `@` for the room.
///
/// Whatever follows an `@` there is taken for a name, whether it can be one or not: a direct message with a mistyped
/// recipient must fail rather than reach the room.
pub(crate) fn split(text: &str) -> (Vec<String>, &str) {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(tail) = rest.strip_prefix('@') {
        let end = tail.find(char::is_whitespace).unwrap_or(tail.len());
        let name = tail[..end].trim_end_matches([',', ':']);
        if name.is_empty() {
            break;
        }
        names.push(name.to_owned());
        rest = tail[end..].trim_start();
    }
    (names, rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, names: &[&str], rest: &str) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(split(text), (names, rest));
    }

    #[test]
    fn name_at_the_front_is_a_recipient() {
        check("hello @bob", &[], "hello @bob");
        check("@bob hello", &["bob"], "hello");
        check("@bob: hello", &["bob"], "hello");
        check("@bob, @carol~k2j4w6aa  two  spaces ", &["bob", "carol~k2j4w6aa"], "two  spaces ");
        check("@bob\n  code\n", &["bob"], "code\n");
        check("@bob", &["bob"], "");
    }

    #[test]
    fn text_behind_a_space_or_a_lone_sign_is_for_the_room() {
        check(" @bob hello", &[], " @bob hello");
        check("@ noon", &[], "@ noon");
        check("@: noon", &[], "@: noon");
        check("@bob @ noon", &["bob"], "@ noon");
    }

    #[test]
    fn invalid_name_is_still_a_recipient() {
        check("@bob's secret", &["bob's"], "secret");
    }

    proptest! {
        #[test]
        fn text_is_a_tail_of_what_was_typed(text: String) {
            let (names, rest) = split(&text);
            prop_assert!(text.ends_with(rest));
            prop_assert!(!names.is_empty() || rest == text);
        }
    }
}
