//! CPU time and memory of processes, as Linux tells them under `/proc`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use super::error::PerfError;

/// What a process and its children have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time, ended children included.
    pub(super) cpu: Duration,
    /// Resident bytes now.
    pub(super) resident: u64,
}

/// CPU time of this process.
pub(super) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

/// A process and its descendants, as they were when it was looked up.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pid: u32,
    members: Vec<u32>,
}

impl Family {
    /// Looks through all processes for the descendants of `pid`: not for every second.
    pub(super) fn of(pid: u32) -> Result<Self, PerfError> {
        let children = children().map_err(|source| PerfError::Process { pid, source })?;
        let mut members = vec![pid];
        let mut at = 0;
        while let Some(member) = members.get(at) {
            let of_member = children.get(member).cloned().unwrap_or_default();
            members.extend(of_member);
            at += 1;
        }
        Ok(Self { pid, members })
    }

    /// What all of them have used.
    pub(super) fn usage(&self) -> Result<Usage, PerfError> {
        let ticks = rustix::param::clock_ticks_per_second();
        let mut total = Usage::default();
        for member in &self.members {
            match one(*member, ticks) {
                Ok(usage) => {
                    total.cpu += usage.cpu;
                    total.resident += usage.resident;
                }
                // A child may end at any time; the process asked for may not.
                Err(source) if *member == self.pid => {
                    return Err(PerfError::Process {
                        pid: self.pid,
                        source,
                    });
                }
                Err(_) => {}
            }
        }
        Ok(total)
    }
}

fn one(pid: u32, ticks_per_second: u64) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let stat = Stat::parse(&stat).ok_or(io::ErrorKind::InvalidData)?;
    let cpu = Duration::from_secs_f64(stat.ticks as f64 / ticks_per_second as f64);
    Ok(Usage {
        cpu,
        resident: resident(&status),
    })
}

/// The children of each process.
fn children() -> io::Result<HashMap<u32, Vec<u32>>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some(stat) = Stat::parse(&stat)
        {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    Ok(children)
}

/// The fields of `/proc/PID/stat` that matter here: see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// utime, stime, cutime and cstime.
    ticks: u64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The name in parentheses may hold anything, parentheses and spaces too.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
        Some(Self {
            parent: number(1)? as u32,
            ticks,
        })
    }
}

fn resident(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_is() {
        let line = "7 (a) (b c) S 42 7 7 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 5";
        assert_eq!(
            Stat::parse(line),
            Some(Stat {
                parent: 42,
                ticks: 100
            })
        );
        assert_eq!(Stat::parse("7 (a) S"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Family::of(std::process::id()).unwrap().usage().unwrap();
        assert!(usage.resident > 100_000);
        assert!(own_cpu() > Duration::ZERO);
    }

    #[test]
    fn a_child_belongs_to_the_family() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let family = Family::of(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.members.contains(&child.id()));
        assert!(
            family.usage().is_ok(),
            "the child is gone, the process is not"
        );
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        let usage = Family::of(u32::MAX).unwrap().usage();
        assert!(matches!(
            usage,
            Err(PerfError::Process { pid: u32::MAX, .. })
        ));
    }
}
