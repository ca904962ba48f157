//! Folders are rooms: few files each, and no two rooms whose files import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::{is_test_code, sources};

/// Largest number of files in a folder, except where each file is one verb.
const FOLDER_FILES_MAX: usize = 12;

/// Folders that still have more, and how many at most: these numbers only get smaller.
const LARGER_FOLDERS: [(&str, usize); 1] = [("daemon/core/src", 17)];

/// Crates that still have circles of imports, and how many at most: these numbers only get smaller.
const CIRCLES_LEFT: [(&str, usize); 0] = [];

/// Folders of which each file is one verb of a command line, or one whole test or program.
const INDEXES: [&str; 3] = ["commands", "tests", "bin"];

/// A module by its path in its crate: `["net", "transport"]`; the crate itself is empty.
type Module = Vec<String>;

/// The modules that a file imports, as `use` names them, each `{…}` taken apart.
fn imports(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for statement in text.split(';') {
        let line = statement.lines().position(|line| {
            let line = line.trim_start();
            ["use ", "pub use ", "pub(crate) use ", "pub(super) use "].iter().any(|start| line.starts_with(start))
        });
        let Some(line) = line else { continue };
        let tree = statement.lines().skip(line).collect::<Vec<_>>().join(" ");
        let Some((_, tree)) = tree.split_once("use ") else { continue };
        for path in leaves(tree) {
            found.push(
                path.split("::").map(|part| part.split(" as ").next().unwrap_or(part).trim().to_owned()).collect(),
            );
        }
    }
    found
}

/// The paths of a `use` tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inside)) = tree.strip_suffix('}').and_then(|tree| tree.split_once('{')) else {
        return vec![tree.to_owned()];
    };
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| leaves(part)).map(|leaf| format!("{before}{leaf}")).collect()
}

/// The module that a path leads to, seen from `from`; none outside of the crate.
fn resolve(from: &[String], path: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let mut full: Module = match path.first().map(String::as_str) {
        Some("crate") => Vec::new(),
        Some("self" | "super") => from.to_vec(),
        Some(_) | None => return None,
    };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => {
                full.pop();
            }
            name => full.push(name.to_owned()),
        }
    }
    while !modules.contains(&full) {
        full.pop()?;
    }
    Some(full)
}

/// Every module that can be reached from `from` along imports.
fn reachable(from: &Module, graph: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        for to in graph.get(module).into_iter().flatten() {
            if seen.insert(to.clone()) {
                next.push(to);
            }
        }
    }
    seen
}

/// The folder of a module; `net.rs` lies in `net/`, as its front.
fn folder(module: &Module, modules: &BTreeSet<Module>) -> Module {
    let has_children = modules.iter().any(|other| other.len() > module.len() && other.starts_with(module));
    if has_children { module.clone() } else { module[..module.len().saturating_sub(1)].to_vec() }
}

/// Circles of imports over several folders, among files given as paths within `src` and their texts.
fn circles(files: &[(Module, &str)]) -> Vec<BTreeSet<Module>> {
    let modules: BTreeSet<Module> = files.iter().map(|(module, _)| module.clone()).collect();
    let mut graph = BTreeMap::new();
    for (module, text) in files {
        let targets = imports(text).iter().filter_map(|path| resolve(module, path, &modules)).collect::<BTreeSet<_>>();
        graph.insert(module.clone(), targets.into_iter().filter(|to| to != module).collect());
    }
    let reach: BTreeMap<&Module, BTreeSet<Module>> = modules.iter().map(|m| (m, reachable(m, &graph))).collect();
    let mut found = BTreeSet::new();
    for module in &modules {
        let circle =
            reach[module].iter().filter(|other| reach[other].contains(module)).cloned().collect::<BTreeSet<_>>();
        let folders: BTreeSet<Module> = circle.iter().map(|module| folder(module, &modules)).collect();
        if folders.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

#[test]
fn folders_do_not_import_each_other_in_circles() {
    let sources = sources();
    let crates = ["proto/src", "daemon/core/src", "daemon/src", "cli/client/src", "cli/src", "tests/src"];
    let mut found = Vec::new();
    for root in crates {
        let files: Vec<(Module, &str)> = (sources.iter())
            .filter(|(path, _)| !is_test_code(path.strip_prefix("tests").unwrap_or(path)))
            .filter_map(|(path, text)| {
                let path = path.strip_prefix(root).ok()?.with_extension("");
                let parts: Module = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                let is_root = parts == ["lib"] || parts == ["main"];
                let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
                Some((if is_root { Vec::new() } else { parts }, product))
            })
            .collect();
        assert!(files.len() > 5, "{root} has sources");
        let shown = |circle: &BTreeSet<Module>| circle.iter().map(|m| m.join("/")).collect::<Vec<_>>().join(", ");
        let circles = circles(&files);
        let left = CIRCLES_LEFT.iter().find(|(name, _)| *name == root).map_or(0, |(_, left)| *left);
        if circles.len() > left {
            found.extend(circles.iter().map(|circle| format!("{root}: {}", shown(circle))));
        }
    }
    assert!(found.is_empty(), "circles of imports:\n{}", found.join("\n"));
}

#[test]
fn circles_of_imports_are_noticed() {
    let module = |path: &str| path.split('/').map(str::to_owned).collect::<Module>();
    let files = [
        (module("a/x"), "use crate::{b::y::{Y, Z as Q}, c};"),
        (module("b/y"), "fn f() {}\nuse super::super::a::x::X;"),
        (module("c"), "use std::fmt;"),
    ];
    let circle: BTreeSet<Module> = [module("a/x"), module("b/y")].into();
    assert_eq!(circles(&files), [circle]);
    assert_eq!(circles(&files[1..]), Vec::<BTreeSet<Module>>::new());
}

#[test]
fn folders_have_few_files() {
    let mut folders = BTreeMap::<&Path, usize>::new();
    let sources = sources();
    for (path, _) in &sources {
        *folders.entry(path.parent().expect("a file lies in a folder")).or_default() += 1;
    }
    let is_index = |folder: &Path| INDEXES.iter().any(|name| folder.ends_with(name));
    let most = |folder: &Path| {
        let larger = LARGER_FOLDERS.iter().find(|(name, _)| folder == Path::new(name));
        larger.map_or(FOLDER_FILES_MAX, |(_, files)| *files)
    };
    let large = folders.iter().filter(|(folder, files)| **files > most(folder) && !is_index(folder));
    let large: Vec<String> = large.map(|(folder, files)| format!("{}: {files} files", folder.display())).collect();
    assert!(large.is_empty(), "split by concern:\n{}", large.join("\n"));
}
