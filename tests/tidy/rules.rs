//! What is forbidden. Each rule takes a source and returns its violations, one line each.

use std::path::Path;

use super::source::Source;

/// Each top-level module with the modules it may import. `main.rs` and its own modules may import all;
/// the leaves are open to all.
const LAYERS: &[(&str, &[&str])] = &[
    ("server", &["amqp", "broker", "store", "auth", "message"]),
    ("amqp", &["broker", "store", "auth", "message"]),
    ("perf", &["message"]),
    ("broker", &["store", "auth", "message"]),
    ("store", &["message"]),
    ("auth", &["message"]),
    ("message", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("metrics", &[]),
    ("occupancy", &[]),
    ("random", &[]),
    ("rate", &[]),
];
const LEAVES: &[&str] = &["clock", "config", "metrics", "occupancy", "random", "rate"];
/// The files of the binary, and the list of modules.
const MAIN: &[&str] = &["main", "definitions", "log", "ping", "lib"];

const LINE_COLUMNS_MAX: usize = 120;

const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "CHANGELOG.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "benches",
    "clippy.toml",
    "conformance",
    "config",
    "docker-compose.yml",
    "docs",
    "examples",
    "src",
    "tests",
];

/// The top-level module that a file of `src` belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap_or(path);
    let first = inside
        .components()
        .next()
        .map(|first| first.as_os_str().to_string_lossy().into_owned());
    first.unwrap_or_default().trim_end_matches(".rs").to_owned()
}

pub(crate) fn check_imports(source: &Source) -> Vec<String> {
    let module = module(&source.path);
    if MAIN.contains(&module.as_str()) {
        return Vec::new();
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == module) else {
        return vec![format!(
            "{}: give the new module a layer in tests/tidy/rules.rs",
            source.path.display()
        )];
    };
    let mut imports = source.names_in("crate");
    // In src/broker.rs itself, but not below it, `super` is the crate.
    if source.path.components().count() == 2 {
        imports.extend(source.names_in("super"));
    }
    let is_layer = |name: &str| LAYERS.iter().any(|(layer, _)| *layer == name);
    imports
        .retain(|(_, name)| is_layer(name) && *name != module && !LEAVES.contains(&name.as_str()));
    imports.retain(|(_, name)| !allowed.contains(&name.as_str()));
    let violation = |(line, name)| {
        at(
            source,
            line,
            &format!("'{module}' must not import '{name}'"),
        )
    };
    imports.into_iter().map(violation).collect()
}

pub(crate) fn check_places(source: &Source) -> Vec<String> {
    let module = module(&source.path);
    let mut violations = Vec::new();
    let mut forbid = |lines: Vec<usize>, problem: &str| {
        violations.extend(lines.into_iter().map(|line| at(source, line, problem)));
    };
    if module != "store" {
        forbid(
            source.lines_with("rocksdb").collect(),
            "only the store knows RocksDB",
        );
    }
    if !["server", "amqp", "perf"].contains(&module.as_str()) && !MAIN.contains(&module.as_str()) {
        let names = source.names_in("tokio").into_iter();
        let lines = names
            .filter(|(_, name)| name == "net")
            .map(|(line, _)| line)
            .collect();
        forbid(lines, "only server, amqp, perf and main know the network");
    }
    if module == "broker" {
        for clock in ["SystemTime", "Instant::now"] {
            forbid(
                source.lines_with(clock).collect(),
                "time is a parameter: the broker has no clock",
            );
        }
    }
    violations
}

pub(crate) fn check_unfinished(source: &Source) -> Vec<String> {
    let macros = ["todo!", "unimplemented!", "dbg!"].into_iter();
    let in_code = macros.flat_map(|word| {
        source
            .lines_with(word)
            .map(move |line| at(source, line, word))
    });
    let lines = source
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("FIXME"));
    let in_comments = lines.map(|(index, _)| at(source, index + 1, "FIXME"));
    in_code.chain(in_comments).collect()
}

pub(crate) fn check_unwraps(source: &Source) -> Vec<String> {
    source
        .lines_with(".unwrap()")
        .map(|line| at(source, line, ".unwrap()"))
        .collect()
}

pub(crate) fn check_line_lengths(source: &Source) -> Vec<String> {
    let lines = source
        .text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.chars().count()));
    let long = lines.filter(|(_, columns)| *columns > LINE_COLUMNS_MAX);
    long.map(|(line, columns)| at(source, line, &format!("{columns} columns")))
        .collect()
}

/// `ignored` is the text of `.gitignore`: what git does not see may lie about.
pub(crate) fn unexpected_entries(
    names: impl Iterator<Item = String>,
    ignored: &str,
) -> Vec<String> {
    let is_ignored = |name: &str| ignored.lines().any(|line| line.trim_matches('/') == name);
    let expected =
        |name: &str| name.starts_with('.') || TOP_LEVEL.contains(&name) || is_ignored(name);
    let unexpected = names.filter(|name| !expected(name));
    unexpected
        .map(|name| format!("'{name}' is not in the list of tests/tidy/rules.rs"))
        .collect()
}

fn at(source: &Source, line: usize, problem: &str) -> String {
    format!("{}:{line}: {problem}", source.path.display())
}

/// Checks that `rule` finds exactly `expected` (as "line: problem") in a file of that name and text.
#[cfg(test)]
fn check(rule: fn(&Source) -> Vec<String>, path: &str, text: &str, expected: &[&str]) {
    let source = Source::new(Path::new(path), text.to_owned());
    let expected: Vec<String> = expected
        .iter()
        .map(|problem| format!("{path}:{problem}"))
        .collect();
    assert_eq!(rule(&source), expected, "{text}");
}

#[test]
fn an_import_against_the_layers_is_found() {
    let allowed =
        "use crate::message::Record;\nuse crate::config::Config;\nuse crate::store::Store;";
    check(check_imports, "src/broker/queue.rs", allowed, &[]);
    check(
        check_imports,
        "src/store/journal.rs",
        "use crate::broker::X;",
        &["1: 'store' must not import 'broker'"],
    );
    check(
        check_imports,
        "src/auth.rs",
        "\nuse super::store::X;",
        &["2: 'auth' must not import 'store'"],
    );
    check(
        check_imports,
        "src/store/journal.rs",
        "use super::broker::X;",
        &[],
    );
    let group = "use crate::{amqp::Frame, message::Record};";
    check(
        check_imports,
        "src/broker.rs",
        group,
        &["1: 'broker' must not import 'amqp'"],
    );
    check(
        check_imports,
        "src/config.rs",
        "fn f() { crate::store::g() }",
        &["1: 'config' must not import 'store'"],
    );
    check(
        check_imports,
        "src/store.rs",
        "#[cfg(test)]\nmod tests { use crate::broker::X; }",
        &[],
    );
    check(check_imports, "src/main.rs", "use crate::anything::X;", &[]);
    check(
        check_imports,
        "src/new/a.rs",
        "",
        &[" give the new module a layer in tests/tidy/rules.rs"],
    );
}

#[test]
fn storage_network_and_clock_elsewhere_are_found() {
    check(check_places, "src/store/db.rs", "use rocksdb::DB;", &[]);
    check(
        check_places,
        "src/auth/user.rs",
        "// rocksdb\nuse rocksdb::DB;",
        &["2: only the store knows RocksDB"],
    );
    check(
        check_places,
        "src/amqp/connection.rs",
        "use tokio::net::TcpStream;",
        &[],
    );
    let network = "use tokio::{net::TcpStream, time};";
    check(
        check_places,
        "src/broker/a.rs",
        network,
        &["1: only server, amqp, perf and main know the network"],
    );
    let clock = "time is a parameter: the broker has no clock";
    check(
        check_places,
        "src/broker/a.rs",
        "let t = Instant::now();",
        &[&format!("1: {clock}")],
    );
    check(
        check_places,
        "src/broker.rs",
        "use std::time::{Duration, SystemTime};",
        &[&format!("1: {clock}")],
    );
    check(check_places, "src/amqp.rs", "let t = Instant::now();", &[]);
}

#[test]
fn leftovers_are_found() {
    check(
        check_unfinished,
        "src/a.rs",
        "a();\ntodo!()\n",
        &["2: todo!"],
    );
    check(
        check_unfinished,
        "src/a.rs",
        "dbg!(a); // FIXME: b",
        &["1: dbg!", "1: FIXME"],
    );
    check(
        check_unfinished,
        "conformance/a.py",
        "# FIXME",
        &["1: FIXME"],
    );
    check(check_unfinished, "src/a.rs", "my_todo!(); \"todo!\"", &[]);
    check(check_unwraps, "src/a.rs", "a.unwrap();", &["1: .unwrap()"]);
    check(
        check_unwraps,
        "src/a.rs",
        "a.unwrap_or(b); // .unwrap()\n#[cfg(test)]\nmod t { fn c() { a.unwrap() } }",
        &[],
    );
    let long = "x".repeat(LINE_COLUMNS_MAX);
    check(
        check_line_lengths,
        "src/a.rs",
        &format!("{long}\n{long}y"),
        &["2: 121 columns"],
    );
}

#[test]
fn a_stray_file_at_the_top_is_found() {
    let names = ["src", ".ci", "data", "notes.txt"].map(str::to_owned);
    let expected = ["'notes.txt' is not in the list of tests/tidy/rules.rs"];
    assert_eq!(
        unexpected_entries(names.into_iter(), "/data\n*.pyc\n"),
        expected
    );
}
