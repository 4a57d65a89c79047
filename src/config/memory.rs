//! How much memory this process may use, as the kernel says.

use std::path::Path;

use super::{DiskFreeLimit, MemoryWatermark};

impl MemoryWatermark {
    /// The number of bytes above which the alarm is raised, on a host with `total_bytes` of memory.
    pub fn bytes(&self, total_bytes: u64) -> u64 {
        match self {
            Self::Relative(fraction) => (total_bytes as f64 * fraction) as u64,
            // More than there is would never raise the alarm: RabbitMQ falls back to all of it too.
            Self::AbsoluteBytes(bytes) => (*bytes).min(total_bytes),
        }
    }
}

impl DiskFreeLimit {
    /// The number of bytes below which the alarm is raised, on a host with `total_bytes` of memory.
    pub fn bytes(&self, total_bytes: u64) -> u64 {
        match self {
            Self::Relative(multiple) => (total_bytes as f64 * multiple) as u64,
            Self::AbsoluteBytes(bytes) => *bytes,
        }
    }
}

/// The memory that this process may use, in bytes: that of the host, or less where a control group
/// (a container, a service unit) has a limit. Falls back to 1 GiB, with which a broker is careful
/// rather than killed, on a system that tells neither.
pub fn total_memory_bytes() -> u64 {
    total_memory(&|path| std::fs::read_to_string(path).ok())
}

const TOTAL_MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;

fn total_memory(read: &impl Fn(&Path) -> Option<String>) -> u64 {
    let host = read(Path::new("/proc/meminfo")).and_then(|text| host_memory(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| group_limit(line, read));
    limits
        .chain(host)
        .min()
        .unwrap_or(TOTAL_MEMORY_BYTES_UNKNOWN)
}

/// `MemTotal:  4019348 kB`, where kB stands for 1024 bytes.
fn host_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// The least limit on the way from one line of `/proc/self/cgroup` (`hierarchy:controllers:path`) up to
/// the root. Inside a container the path may be that of the host and lead nowhere: what counts is then
/// the mounted root itself, which the walk ends with.
fn group_limit(line: &str, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let group = Path::new(root).join(path.trim_start_matches('/'));
    let ancestors = group
        .ancestors()
        .take_while(|directory| directory.starts_with(root));
    // "max" (v2) is no number: no limit. v1 writes a number near 2^63 instead, never the least.
    ancestors
        .filter_map(|directory| read(&directory.join(file))?.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: (&str, &str) = (
        "/proc/meminfo",
        "MemTotal:        8000000 kB\nMemFree: 1 kB\n",
    );

    fn check(files: &[(&str, &str)], expected: u64) {
        let read = |path: &Path| {
            files
                .iter()
                .find(|(name, _)| Path::new(name) == path)
                .map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(total_memory(&read), expected, "{files:?}");
    }

    #[test]
    fn without_a_group_the_host_counts() {
        check(&[MEMINFO], 8_192_000_000);
        check(
            &[
                MEMINFO,
                ("/proc/self/cgroup", "0::/\n"),
                ("/sys/fs/cgroup/memory.max", "max\n"),
            ],
            8_192_000_000,
        );
    }

    #[test]
    fn the_least_limit_of_the_ancestors_counts() {
        let group = ("/proc/self/cgroup", "0::/a/b\n");
        let inner = ("/sys/fs/cgroup/a/b/memory.max", "max\n");
        check(
            &[
                MEMINFO,
                group,
                inner,
                ("/sys/fs/cgroup/a/memory.max", "1000000\n"),
            ],
            1_000_000,
        );
        check(
            &[MEMINFO, group, ("/sys/fs/cgroup/memory.max", "2000000\n")],
            2_000_000,
        );
    }

    #[test]
    fn the_first_version_of_groups_is_read_too() {
        let group = (
            "/proc/self/cgroup",
            "5:cpu,cpuacct:/x\n4:memory:/docker/1\n",
        );
        let unlimited = (
            "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        check(&[MEMINFO, group, unlimited], 8_192_000_000);
        check(
            &[
                MEMINFO,
                group,
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n"),
            ],
            4096,
        );
    }

    #[test]
    fn a_silent_system_has_a_careful_answer() {
        check(&[], 1 << 30);
    }

    #[test]
    fn alarms_are_computed_from_the_memory() {
        assert_eq!(MemoryWatermark::Relative(0.5).bytes(1000), 500);
        assert_eq!(MemoryWatermark::AbsoluteBytes(700).bytes(1000), 700);
        assert_eq!(MemoryWatermark::AbsoluteBytes(7000).bytes(1000), 1000);
        assert_eq!(DiskFreeLimit::Relative(1.5).bytes(1000), 1500);
        assert_eq!(DiskFreeLimit::AbsoluteBytes(7).bytes(1000), 7);
    }
}
