//! The syntax of `rabbitmq.conf`: one `key = value` on a line, `#` starts a comment.
//!
//! A value may stand in single quotes, which keeps `#` and blanks; otherwise `$(NAME)` in it is replaced
//! by the environment variable `NAME`, as RabbitMQ 4 does. In a key, `\.` is a dot that does not separate.

use std::path::Path;

use super::error::{ConfigError, Origin};

/// One setting as written, before its meaning is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// The settings of a file, and what is wrong with the lines that are none.
pub(super) fn parse(
    file: &Path,
    text: &str,
    env: &impl Fn(&str) -> Option<String>,
) -> (Vec<Entry>, Vec<ConfigError>) {
    let mut entries = Vec::new();
    let mut errors = Vec::new();
    // Editors on Windows begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let origin = Origin::Line {
            file: file.to_owned(),
            line: index + 1,
        };
        match parse_line(line, env) {
            Ok((key, value)) => entries.push(Entry { key, value, origin }),
            Err(Malformed {
                key,
                expected,
                found,
            }) => errors.push(ConfigError {
                origin,
                key,
                expected,
                found,
            }),
        }
    }
    (entries, errors)
}

struct Malformed {
    key: String,
    expected: String,
    found: String,
}

fn parse_line(
    line: &str,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<(String, String), Malformed> {
    let malformed = |key: &str, expected: &str, found: String| Malformed {
        key: key.to_owned(),
        expected: expected.to_owned(),
        found,
    };
    let Some((key, rest)) = line.split_once('=') else {
        return Err(malformed(
            line,
            "a line of the form 'key = value'",
            "no '='".to_owned(),
        ));
    };
    let (key, rest) = (key.trim(), rest.trim());
    if !is_key(key) {
        let expected = "a key of words separated by dots";
        return Err(malformed(key, expected, format!("'{key}'")));
    }
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => unquote(quoted).ok_or_else(|| {
            // The text may be a password: it is not repeated.
            malformed(
                key,
                "one value in single quotes",
                "no closing quote at its end".to_owned(),
            )
        })?,
        None => interpolate(without_comment(rest), env).map_err(|name| {
            malformed(
                key,
                &format!("environment variable {name} to be set"),
                "no such variable".to_owned(),
            )
        })?,
    };
    if value.is_empty() {
        return Err(malformed(key, "a value after '='", "nothing".to_owned()));
    }
    Ok((key.to_owned(), value))
}

/// `\.` belongs to a word, as in `loopback_users.some\.user`. Words may hold what user names hold.
fn is_key(key: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || "_-@:/+%".contains(c);
    let unescaped = key.replace("\\.", "_");
    unescaped
        .split('.')
        .all(|word| !word.is_empty() && word.chars().all(in_word))
}

/// The text up to the closing quote, when nothing but a comment follows it.
fn unquote(rest: &str) -> Option<String> {
    let (value, after) = rest.split_once('\'')?;
    let after = after.trim_start();
    (after.is_empty() || after.starts_with('#')).then(|| value.to_owned())
}

fn without_comment(value: &str) -> &str {
    value
        .split_once('#')
        .map_or(value, |(value, _)| value.trim_end())
}

/// Replaces each `$(NAME)`; the error is the name of a variable that is not set.
fn interpolate(value: &str, env: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("$(") {
        let Some((name, tail)) = after.split_once(')') else {
            break;
        };
        result.push_str(before);
        result.push_str(&env(name.trim()).ok_or_else(|| name.trim().to_owned())?);
        rest = tail;
    }
    result.push_str(rest);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<(&str, &str), &str>) {
        let env = |name: &str| (name == "NAME").then(|| "from environment".to_owned());
        let (entries, errors) = parse(Path::new("f"), line, &env);
        match expected {
            Ok((key, value)) => {
                assert_eq!(errors, [], "{line}");
                let entry = entries.first().expect("one entry");
                assert_eq!(
                    (entry.key.as_str(), entry.value.as_str()),
                    (key, value),
                    "{line}"
                );
            }
            Err(expected) => {
                assert_eq!(entries, [], "{line}");
                assert_eq!(errors.first().expect("one error").to_string(), expected);
            }
        }
    }

    #[test]
    fn blanks_around_key_and_value_do_not_count() {
        check("heartbeat=5", Ok(("heartbeat", "5")));
        check(" \theartbeat   =  5 \t ", Ok(("heartbeat", "5")));
        check("default_user = a b", Ok(("default_user", "a b")));
        check("heartbeat = 5\r\n", Ok(("heartbeat", "5")));
        check("\u{feff}heartbeat = 5", Ok(("heartbeat", "5")));
    }

    #[test]
    fn a_comment_ends_the_value_unless_it_is_quoted() {
        check("default_pass = abc # secret", Ok(("default_pass", "abc")));
        check(
            "default_pass = 'a # b' # secret",
            Ok(("default_pass", "a # b")),
        );
        check(
            "default_pass = ' $(NAME)'",
            Ok(("default_pass", " $(NAME)")),
        );
        check("default_pass = it's", Ok(("default_pass", "it's")));
    }

    #[test]
    fn an_environment_variable_stands_for_its_value() {
        check(
            "default_user = $(NAME)",
            Ok(("default_user", "from environment")),
        );
        check(
            "default_user = <$( NAME )>",
            Ok(("default_user", "<from environment>")),
        );
        check("default_user = $(NAME", Ok(("default_user", "$(NAME")));
        check(
            "default_user = $(NOBODY)",
            Err(
                "f:1: default_user: expected environment variable NOBODY to be set, found no such variable",
            ),
        );
    }

    #[test]
    fn a_key_may_hold_an_escaped_dot() {
        check(
            "loopback_users.some\\.user = true",
            Ok(("loopback_users.some\\.user", "true")),
        );
    }

    #[test]
    fn lines_of_another_form_are_refused() {
        check(
            "listen",
            Err("f:1: listen: expected a line of the form 'key = value', found no '='"),
        );
        check(
            "[{rabbit, []}].",
            Err("f:1: [{rabbit, []}].: expected a line of the form 'key = value', found no '='"),
        );
        check(
            "a b = 1",
            Err("f:1: a b: expected a key of words separated by dots, found 'a b'"),
        );
        check(
            "heartbeat =",
            Err("f:1: heartbeat: expected a value after '=', found nothing"),
        );
        check(
            "heartbeat = # 5",
            Err("f:1: heartbeat: expected a value after '=', found nothing"),
        );
        check(
            "default_pass = 'abc",
            Err(
                "f:1: default_pass: expected one value in single quotes, found no closing quote at its end",
            ),
        );
    }

    #[test]
    fn lines_are_counted_with_comments_and_empty_ones() {
        let (entries, _) = parse(Path::new("f"), "# one\n\nheartbeat = 5\n", &|_: &str| None);
        assert_eq!(
            entries[0].origin,
            Origin::Line {
                file: "f".into(),
                line: 3
            }
        );
    }
}
