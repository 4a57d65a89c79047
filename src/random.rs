//! Where chance enters: choices are drawn from a source that is passed in, so that tests repeat them.

/// A source of chance.
pub trait Random: Send + Sync {
    /// A number below `bound`, each equally likely. `bound` is at least 1.
    fn below(&self, bound: usize) -> usize;
}

/// Different in every process; for choices, not for secrets.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn below(&self, bound: usize) -> usize {
        fastrand::usize(..bound.max(1))
    }
}

/// The same numbers for the same seed.
#[derive(Debug)]
pub struct SeededRandom(parking_lot::Mutex<fastrand::Rng>);

impl SeededRandom {
    /// A source that begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Self(parking_lot::Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Random for SeededRandom {
    fn below(&self, bound: usize) -> usize {
        self.0.lock().usize(..bound.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_numbers_and_every_number_comes() {
        let draw = |seed| {
            let random = SeededRandom::new(seed);
            (0..200).map(|_| random.below(5)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!((0..5).all(|number| draw(1).contains(&number)));
        assert!(draw(1).iter().all(|number| *number < 5));
    }

    #[test]
    fn the_only_choice_is_made() {
        assert_eq!(SystemRandom.below(1), 0);
        assert_eq!(
            SystemRandom.below(0),
            0,
            "nothing to choose from is no panic"
        );
    }
}
