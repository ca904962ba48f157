//! Which names look alike, and who may carry one.

use unicode_normalization::UnicodeNormalization;

/// The form under which names are compared: compatibility normalisation (NFKC), case folding, and the confusable
/// skeleton of Unicode TS 39, so that `bob`, `BOB`, `ｂｏｂ` and a Cyrillic look-alike are one name.
pub(crate) fn skeleton(name: &str) -> String {
    let folded: String = name.nfkc().flat_map(char::to_lowercase).collect();
    unicode_security::skeleton(&folded).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_are_one_name() {
        for alike in ["BOB", "Bob", "ｂｏｂ", "b\u{043E}b"] {
            assert_eq!(skeleton(alike), skeleton("bob"), "{alike}");
        }
        assert_ne!(skeleton("bob"), skeleton("rob"));
    }
}
