//! A whole number that is the same in every message, or is drawn for each: `5`, or `LOW..HIGH`, both ends included.

use super::error::PerfError;
use super::settings::refuse;

/// Numbers to draw from, each equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) low: u64,
    pub(super) high: u64,
}

impl Range {
    /// What `text` says; `option` is what it was typed for.
    pub(super) fn parse(text: &str, option: &str) -> Result<Self, PerfError> {
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        match (low.parse(), high.parse()) {
            // Numbers go into headers as signed ones.
            (Ok(low), Ok(high)) if low <= high && high <= i64::MAX as u64 => Ok(Self { low, high }),
            _ => refuse(format!(
                "{option}: '{text}' is neither a number nor LOW..HIGH"
            )),
        }
    }

    pub(super) fn draw(self, random: &mut fastrand::Rng) -> u64 {
        random.u64(self.low..=self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_understood_and_nothing_else() {
        let range = |low, high| Some(Range { low, high });
        for (text, expected) in [
            ("5", range(5, 5)),
            ("0..9", range(0, 9)),
            ("9..0", None),
            ("..9", None),
            ("a", None),
            ("-1..1", None),
            ("1..2..3", None),
        ] {
            assert_eq!(Range::parse(text, "--priority").ok(), expected, "{text}");
        }
    }

    #[test]
    fn both_ends_are_drawn_and_nothing_beyond() {
        let mut random = fastrand::Rng::with_seed(1);
        let range = Range { low: 3, high: 5 };
        let mut drawn: Vec<_> = (0..100).map(|_| range.draw(&mut random)).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [3, 4, 5]);
    }
}
