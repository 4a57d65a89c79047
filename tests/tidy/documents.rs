//! What the documentation must keep: links lead somewhere, and the tests that it names exist.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Names of this many parts are those of tests, or of something else that the sources know.
const NAME_PARTS_MIN: usize = 4;

/// Links of a Markdown file that lead to no file. `path` is relative to the root, and so is what `exists` is asked for.
pub(crate) fn check_links(path: &Path, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next());
    let files = targets.filter_map(|target| {
        let is_elsewhere = target.contains("://") || target.starts_with('#');
        let file = target.split('#').next().unwrap_or_default();
        (!is_elsewhere).then_some(file)
    });
    files
        .filter(|file| !exists(&normal(&folder.join(file))))
        .map(|file| format!("{}: '{file}' does not exist", path.display()))
        .collect()
}

/// `path` without `..`, which a file system would follow but a list of files does not know.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}

/// Names in backquotes, such as `a_message_comes_again` or `file/a_message_comes_again`, that are not among `words`.
pub(crate) fn check_names(path: &Path, text: &str, words: &HashSet<&str>) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let names = quoted.filter_map(|name| name.split('/').next_back());
    names
        .filter(|name| is_long_name(name) && !words.contains(name))
        .map(|name| format!("{}: nothing is called '{name}'", path.display()))
        .collect()
}

/// Not those of RabbitMQ's plugins.
fn is_long_name(name: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !name.starts_with("rabbitmq_")
        && name.chars().all(letters)
        && name.split('_').count() >= NAME_PARTS_MIN
}

/// All names in a source.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[test]
fn a_link_to_nowhere_is_found() {
    let text = "See [a](a.md#x), [b](../README.md), [c](https://c.org) and [d](#d).";
    let check = |there: &[&str]| {
        check_links(Path::new("docs/page.md"), text, |path| {
            there.iter().any(|file| Path::new(file) == path)
        })
    };
    assert_eq!(check(&["docs/a.md", "README.md"]), [""; 0]);
    assert_eq!(
        check(&["docs/a.md"]),
        ["docs/page.md: '../README.md' does not exist"]
    );
}

#[test]
fn a_test_that_does_not_exist_is_found() {
    let words = words("fn nothing_is_ever_lost() {}").collect();
    let text = "`frame_max`, unit a/b: `nothing_is_ever_lost`, diff `a/nothing_is_ever_doubled`";
    assert_eq!(
        check_names(Path::new("page.md"), text, &words),
        ["page.md: nothing is called 'nothing_is_ever_doubled'"]
    );
}
