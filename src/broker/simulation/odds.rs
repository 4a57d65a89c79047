//! How often the queues and clients of a run have what: some things never, some mostly, so that rare ones meet.

use super::chance::Chance;

/// Out of a hundred.
pub(super) struct Odds {
    pub(super) priorities: usize,
    pub(super) ttl: usize,
    pub(super) limit: usize,
    pub(super) delivery_limit: usize,
    pub(super) retry: usize,
    pub(super) consumer_timeout: usize,
    pub(super) expires: usize,
    pub(super) single_active: usize,
    pub(super) group: usize,
    pub(super) deduplication: usize,
    pub(super) delay: usize,
    /// Publishers that say how long a message waits in a queue that delays.
    pub(super) own_delay: usize,
    pub(super) rate: usize,
    pub(super) auto_delete: usize,
    pub(super) exclusive: usize,
    /// Consumers that have a priority.
    pub(super) ranked: usize,
    /// Publishers that say how long a message lives.
    pub(super) expiration: usize,
    /// Queues where the consumer that holds least is next.
    pub(super) least_loaded: usize,
}

impl Odds {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        let mut about = |usual: usize| match chance.below(4) {
            0 => 0,
            1 | 2 => usual,
            _ => (4 * usual).min(80),
        };
        Self {
            priorities: about(30),
            ttl: about(30),
            limit: about(35),
            delivery_limit: about(30),
            retry: about(30),
            consumer_timeout: about(20),
            expires: about(10),
            single_active: about(15),
            group: about(20),
            deduplication: about(20),
            delay: about(15),
            own_delay: about(15),
            rate: about(10),
            auto_delete: about(10),
            exclusive: about(8),
            ranked: about(30),
            expiration: about(20),
            least_loaded: about(20),
        }
    }
}
