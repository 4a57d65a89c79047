//! What the documentation must keep: the tests that it names exist.

use std::collections::HashSet;
use std::path::Path;

/// Names of this many parts are those of tests, or of something else that the sources know.
const NAME_PARTS_MIN: usize = 4;

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
fn a_test_that_does_not_exist_is_found() {
    let words = words("fn nothing_is_ever_lost() {}").collect();
    let text = "`frame_max`, unit a/b: `nothing_is_ever_lost`, diff `a/nothing_is_ever_doubled`";
    assert_eq!(
        check_names(Path::new("page.md"), text, &words),
        ["page.md: nothing is called 'nothing_is_ever_doubled'"]
    );
}
