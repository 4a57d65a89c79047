//! Looks after memory and disk, and raises and clears the alarms of the broker.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::broker::Services;
use crate::broker::alarms::Alarm;
use crate::config::{Config, total_memory_bytes};
use crate::store::SpaceState;

/// How often the memory is looked at. A publisher at full speed takes less than 100 MB meanwhile.
const MEMORY_PAUSE: Duration = Duration::from_millis(250);

/// The disk is looked at once in so many looks at the memory.
const LOOKS_PER_DISK: u32 = 4;

/// An alarm ends after so many looks that found enough in a row: it must not come and go with every look.
const LOOKS_UNTIL_CLEAR: u32 = 4;

const MIB: u64 = 1024 * 1024;

/// Free space below which publishers wait whatever the configuration says: room for the write-ahead log (128 MiB), the
/// memtables (64 MiB) and 128 MiB more, so that acknowledgements can be stored and a restart succeeds.
const DISK_FREE_BYTES_MIN: u64 = (128 + 64 + 128) * MIB;

/// What is watched, and the limits.
pub(super) struct Monitor {
    services: Services,
    data_dir: PathBuf,
    memory: Level,
    disk: Level,
    memory_max_bytes: u64,
    disk_free_min_bytes: u64,
}

impl Monitor {
    pub(super) fn new(config: &Config, services: Services) -> Self {
        let total_bytes = total_memory_bytes();
        Self {
            services,
            data_dir: config.data_dir.clone(),
            memory: Level::default(),
            disk: Level::default(),
            memory_max_bytes: config.memory_high_watermark.bytes(total_bytes),
            disk_free_min_bytes: config
                .disk_free_limit
                .bytes(total_bytes)
                .max(DISK_FREE_BYTES_MIN),
        }
    }

    /// Looks once at everything: before the first connection is accepted the alarms are right.
    pub(super) fn look(&mut self) {
        self.look_at_memory();
        self.look_at_disk();
        self.look_at_store();
    }

    /// Goes on looking for ever.
    pub(super) async fn run(mut self) {
        let mut looks = interval(MEMORY_PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut space = self.services.store.space_changes();
        let mut looks_until_disk = LOOKS_PER_DISK;
        loop {
            tokio::select! {
                Ok(()) = space.changed() => self.look_at_store(),
                _ = looks.tick() => {
                    self.look_at_memory();
                    looks_until_disk -= 1;
                    if looks_until_disk == 0 {
                        looks_until_disk = LOOKS_PER_DISK;
                        self.look_at_disk();
                    }
                }
            }
        }
    }

    /// Raises or clears an alarm and tells of it. `true`: it was the other way before.
    fn set(&self, alarm: Alarm, raised: bool) -> bool {
        let alarms = &self.services.alarms;
        let is_low = || match alarm {
            Alarm::Memory => alarms.is_memory_low(),
            Alarm::DiskSpace | Alarm::StoreFull => alarms.is_disk_low(),
        };
        let before = is_low();
        let changed = alarms.set(alarm, raised);
        let after = is_low();
        if before != after {
            let event = if after { "alarm.set" } else { "alarm.cleared" };
            self.services.tell(event, |facts| {
                facts.text("node", &self.services.node);
                facts.text("source", alarm.source());
            });
        }
        changed
    }

    fn look_at_memory(&mut self) {
        let used_bytes = match resident_bytes() {
            Ok(bytes) => bytes,
            Err(error) => return tracing::debug!(%error, "cannot tell how much memory is used"),
        };
        let limit_bytes = self.memory_max_bytes;
        let raised = self.memory.look(used_bytes > limit_bytes);
        if !self.set(Alarm::Memory, raised) {
            return;
        }
        if raised {
            tracing::warn!(
                used_bytes,
                limit_bytes,
                "memory resource limit alarm set: publishers are blocked"
            );
        } else {
            tracing::warn!(
                used_bytes,
                limit_bytes,
                "memory resource limit alarm cleared"
            );
        }
    }

    fn look_at_disk(&mut self) {
        let free_bytes = match free_bytes(&self.data_dir) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::debug!(%error, "cannot tell how much disk space is free"),
        };
        let limit_bytes = self.disk_free_min_bytes;
        let raised = self.disk.look(free_bytes < limit_bytes);
        if !self.set(Alarm::DiskSpace, raised) {
            return;
        }
        if raised {
            tracing::warn!(
                free_bytes,
                limit_bytes,
                "disk resource limit alarm set: publishers are blocked"
            );
        } else {
            tracing::warn!(free_bytes, limit_bytes, "disk resource limit alarm cleared");
        }
    }

    fn look_at_store(&self) {
        let raised = self.services.store.space() == SpaceState::Full;
        if !self.set(Alarm::StoreFull, raised) {
            return;
        }
        if raised {
            tracing::warn!(
                "disk resource limit alarm set: the disk is full, publishers are blocked"
            );
        } else {
            tracing::warn!("disk resource limit alarm cleared: the store can write again");
        }
    }
}

/// A limit that is exceeded at once and kept again only after a while.
#[derive(Debug, Default)]
struct Level {
    is_raised: bool,
    looks_below: u32,
}

impl Level {
    fn look(&mut self, is_exceeded: bool) -> bool {
        self.looks_below = if is_exceeded {
            0
        } else {
            self.looks_below.saturating_add(1)
        };
        self.is_raised = is_exceeded || (self.is_raised && self.looks_below < LOOKS_UNTIL_CLEAR);
        self.is_raised
    }
}

/// The resident memory of this process, from the second number of `statm`, in pages.
fn resident_bytes() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as u64)
}

fn free_bytes(directory: &std::path::Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(directory)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_comes_at_once_and_goes_after_a_while() {
        let mut level = Level::default();
        let looks = [
            false, true, false, false, false, true, false, false, false, false, false,
        ];
        let raised = looks.map(|is_exceeded| level.look(is_exceeded));
        let expected = [
            false, true, true, true, true, true, true, true, true, false, false,
        ];
        assert_eq!(raised, expected);
    }

    #[test]
    fn memory_and_disk_are_measured_in_bytes() {
        let before = resident_bytes().unwrap();
        assert!((MIB..1 << 40).contains(&before), "{before}");
        let block = std::hint::black_box(vec![1_u8; 64 * MIB as usize]);
        let after = resident_bytes().unwrap();
        drop(block);
        assert!(after >= before + 32 * MIB, "{before} {after}");
        assert!(free_bytes(std::path::Path::new("/")).unwrap() > 0);
        assert!(free_bytes(std::path::Path::new("/no/such/directory")).is_err());
    }
}
