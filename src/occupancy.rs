//! How many there are of something that is limited: connections, channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that rises when a [`Place`] is taken and falls when it is dropped. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Occupancy(Arc<AtomicU64>);

/// One of those that are counted, for as long as it lives.
#[derive(Debug)]
pub struct Place(Arc<AtomicU64>);

/// The limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// How many there may be.
    pub limit: u64,
}

impl Occupancy {
    /// Takes a place, unless `limit` of them are taken; without a limit always. A limit that was lowered ends nothing.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn enter(&self, limit: Option<u64>) -> Result<Place, Full> {
        let limit = limit.unwrap_or(u64::MAX);
        let next = |count| (count < limit).then(|| count + 1);
        match self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
        {
            Ok(_) => Ok(Place(Arc::clone(&self.0))),
            Err(_) => Err(Full { limit }),
        }
    }

    /// How many places are taken.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let occupancy = Occupancy::default();
        let first = occupancy.enter(Some(2)).unwrap();
        let _second = occupancy.enter(Some(2)).unwrap();
        assert_eq!(occupancy.enter(Some(2)).unwrap_err(), Full { limit: 2 });
        assert_eq!(occupancy.enter(Some(0)).unwrap_err(), Full { limit: 0 });
        drop(first);
        assert_eq!(occupancy.count(), 1);
        let _third = occupancy.enter(Some(2)).unwrap();
        let _beyond = occupancy.enter(None).unwrap();
        assert_eq!(occupancy.count(), 3);
    }
}
