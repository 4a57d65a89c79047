//! The rules of this code base that a compiler does not check, read from its source text.
//!
//! Every rule has its test here, and beside it a proof that the rule bites. What a rule forbids and why
//! stands in `docs/ARCHITECTURE.md`.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::path::{Path, PathBuf};

use documents::{check_links, check_names, words};
use rules::{
    check_imports, check_line_lengths, check_places, check_unfinished, check_unwraps,
    unexpected_entries,
};
use source::Source;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` (relative to the root) with one of the `extensions`, hidden ones and what
/// package managers put there left out.
fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with('.')
                || ["node_modules", "target", "__pycache__"].contains(&name.as_str())
            {
                continue;
            }
            let extension = path
                .extension()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if extensions.contains(&extension.as_str()) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The broker's own source, tests left out.
fn broker_sources() -> Vec<Source> {
    let sources: Vec<Source> = files("src", &["rs"])
        .iter()
        .map(|path| Source::read(root(), path))
        .collect();
    assert!(sources.len() > 5, "the source is where it was");
    let tests: Vec<PathBuf> = sources.iter().flat_map(Source::test_modules).collect();
    let is_test = |path: &Path| {
        tests
            .iter()
            .any(|test| path == test || path.starts_with(test.with_extension("")))
    };
    sources
        .into_iter()
        .filter(|source| !is_test(&source.path))
        .collect()
}

/// Every line of code in the repository, by people.
fn all_sources() -> Vec<Source> {
    let folders = ["src", "tests", "benches", "examples", "conformance"];
    let paths = folders
        .iter()
        .flat_map(|folder| files(folder, &["rs", "py", "sh"]));
    paths.map(|path| Source::read(root(), &path)).collect()
}

fn expect_none(rule: &str, violations: Vec<String>) {
    assert!(
        violations.is_empty(),
        "{rule}:\n  {}\n",
        violations.join("\n  ")
    );
}

#[test]
fn imports_between_layers_point_one_way() {
    let violations = broker_sources().iter().flat_map(check_imports).collect();
    expect_none(
        "imports go main -> server -> { amqp, perf } -> broker -> { store, auth } -> message",
        violations,
    );
}

#[test]
fn storage_network_and_clock_stay_in_their_places() {
    let violations = broker_sources().iter().flat_map(check_places).collect();
    expect_none(
        "RocksDB is the store's, sockets are the edge's, and time is a parameter to the broker",
        violations,
    );
}

#[test]
fn nothing_is_left_unfinished() {
    let own_rules = Path::new("tests/tidy");
    let sources = all_sources();
    let sources = sources
        .iter()
        .filter(|source| !source.path.starts_with(own_rules));
    expect_none(
        "finish it, or file an issue",
        sources.flat_map(check_unfinished).collect(),
    );
}

#[test]
fn errors_are_handled_or_explained() {
    let violations = broker_sources().iter().flat_map(check_unwraps).collect();
    expect_none(
        "use ?, or expect() with the reason why it cannot fail",
        violations,
    );
}

/// Tests quote what they expect, and tables have a row per line.
#[test]
fn lines_fit_on_a_screen() {
    let sources = broker_sources();
    let violations = sources.iter().flat_map(check_line_lengths).collect();
    expect_none("lines have at most 120 columns", violations);
}

#[test]
fn the_top_level_holds_what_it_should() {
    let entries = std::fs::read_dir(root()).expect("a readable root");
    let names = entries.map(|entry| {
        entry
            .expect("a readable root")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let ignored =
        std::fs::read_to_string(root().join(".gitignore")).expect("a readable .gitignore");
    expect_none(
        "the top level is the table of contents",
        unexpected_entries(names, &ignored),
    );
}

/// The documentation, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let top_level = ["README.md", "CHANGELOG.md"].map(|file| root().join(file));
    let folders = ["docs", "examples", "conformance", "benches"];
    let below = folders.iter().flat_map(|folder| files(folder, &["md"]));
    let paths = top_level.into_iter().chain(below);
    let documents: Vec<_> = paths
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a readable document");
            let path = path.strip_prefix(root()).expect("a path below the root");
            (path.to_owned(), text)
        })
        .collect();
    assert!(documents.len() > 5, "the documentation is where it was");
    documents
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let documents = documents();
    let exists = |path: &Path| root().join(path).exists();
    let violations = documents
        .iter()
        .flat_map(|(path, text)| check_links(path, text, exists));
    expect_none("links lead to a file", violations.collect());
}

#[test]
fn the_documentation_names_tests_that_exist() {
    let extensions = ["rs", "py", "toml", "go", "java", "js", "sh", "conf"];
    let folders = ["src", "tests", "benches", "conformance", "config"];
    let sources: Vec<String> = folders
        .iter()
        .flat_map(|folder| files(folder, &extensions))
        .map(|path| std::fs::read_to_string(path).expect("a readable source"))
        .collect();
    let words = sources.iter().flat_map(|source| words(source)).collect();
    let documents = documents();
    let violations = documents
        .iter()
        .flat_map(|(path, text)| check_names(path, text, &words));
    expect_none("what is named in backquotes exists", violations.collect());
}
