//! File descriptors: every connection needs one, and the store must never be without.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What connections leave to the store and everything else. RocksDB keeps up to 512 files open, and a store that
/// cannot open one ends the process.
const DESCRIPTORS_RESERVED: u64 = 768;

/// Assumed where there is no limit: more connections than memory would serve.
const DESCRIPTORS_UNLIMITED: u64 = 1 << 20;

/// Raises the limit of this process as far as it may, and answers how many connections fit.
pub(super) fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            limit.current
        }
    };
    let connections = share_of_connections(current.unwrap_or(DESCRIPTORS_UNLIMITED));
    tracing::debug!(open_files = current, connections, "limits");
    connections
}

/// All descriptors but the reserve, of which a small limit gives half.
fn share_of_connections(descriptors: u64) -> usize {
    let reserved = DESCRIPTORS_RESERVED.min(descriptors / 2);
    usize::try_from(descriptors.min(DESCRIPTORS_UNLIMITED) - reserved).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_share() {
        assert_eq!(share_of_connections(1_048_576), 1_048_576 - 768);
        assert_eq!(share_of_connections(4096), 4096 - 768);
        assert_eq!(share_of_connections(1024), 512);
        assert_eq!(share_of_connections(u64::MAX), (1 << 20) - 768);
        assert_eq!(share_of_connections(0), 0);
    }

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let connections = connections_max();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert!(connections > 0);
    }
}
