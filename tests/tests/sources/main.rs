//! Tests over the sources themselves: their shape, their layers, their language.

use std::path::{Path, PathBuf};

mod language;
mod layers;
mod shape;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// All sources of the workspace, with paths relative to its root.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("sources are text");
                found.push((path.strip_prefix(root()).expect("within the workspace").to_owned(), text));
            }
        }
    }
    assert!(found.len() > 50, "the sources of all crates are read");
    found.sort();
    found
}

/// Whether a file only serves tests or simulations: nothing in it reaches a user.
fn is_test_code(path: &Path) -> bool {
    path.iter().any(|part| ["tests", "tests.rs", "sim", "sim.rs", "benches"].iter().any(|name| part == *name))
}
