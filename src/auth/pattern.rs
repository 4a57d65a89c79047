//! The regular expressions of permissions and policies.

use fancy_regex::{Regex, RegexBuilder};

/// How many steps back one match may take. RabbitMQ's PCRE has a limit as well; there and here a match
/// that exceeds it counts as none.
const BACKTRACK_STEPS_MAX: usize = 100_000;

/// How long a pattern may be, in bytes: what an AMQP name needs many times over.
pub(super) const PATTERN_BYTES_MAX: usize = 4096;

/// A compiled pattern: unanchored, in the syntax of PCRE with look-around and back-references.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles `source`. The empty pattern stands for `^$`: it matches no name but the empty one, where
    /// an empty regular expression would match all.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        Self::compile(source, if source.is_empty() { "^$" } else { source })
    }

    /// Compiles `source`, where the empty pattern matches every name, as it does in policies.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn unanchored(source: &str) -> Result<Self, String> {
        Self::compile(source, source)
    }

    fn compile(source: &str, expression: &str) -> Result<Self, String> {
        if source.len() > PATTERN_BYTES_MAX {
            return Err(format!("longer than {PATTERN_BYTES_MAX} bytes"));
        }
        let regex = RegexBuilder::new(expression)
            .backtrack_limit(BACKTRACK_STEPS_MAX)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            source: source.to_owned(),
            regex,
        })
    }

    /// The pattern as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it matches somewhere in `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let pattern = Pattern::new(pattern).unwrap();
        for name in matching {
            assert!(pattern.matches(name), "{pattern:?} {name:?}");
        }
        for name in others {
            assert!(!pattern.matches(name), "{pattern:?} {name:?}");
        }
    }

    #[test]
    fn patterns_are_unanchored() {
        check("b", &["b", "abc"], &["", "ac"]);
        check("^b", &["b", "bc"], &["ab"]);
        check(".*", &["", "a"], &[]);
    }

    #[test]
    fn the_empty_pattern_matches_the_empty_name_only() {
        check("", &[""], &["a"]);
        check("^$", &[""], &["a"]);
    }

    #[test]
    fn look_around_and_back_references_work_as_in_pcre() {
        check("^(?!amq\\.).*", &["orders"], &["amq.direct"]);
        check("^(a|b)\\1$", &["aa", "bb"], &["ab"]);
        check("(?<=x)y", &["xy"], &["y"]);
    }

    #[test]
    fn a_match_without_end_counts_as_none() {
        check("^(?=(a+)+$)\\1b", &[], &[&format!("{}!", "a".repeat(200))]);
    }

    #[test]
    fn a_malformed_pattern_is_refused() {
        assert!(Pattern::new("(").is_err());
        assert!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }
}
