//! A timer finer than the poller's milliseconds.

use std::io;
use std::time::Duration;

use mio::{Registry, Token};

/// Wakes a poller after a time given in nanoseconds.
#[cfg(target_os = "linux")]
pub(super) struct Alarm {
    timer: std::os::fd::OwnedFd,
    /// When the timer goes off.
    set_ns: u64,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// A timer whose expiry is an event with `token`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        use std::os::fd::AsRawFd;

        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let mut source = mio::unix::SourceFd(&timer.as_raw_fd());
        registry.register(&mut source, token, mio::Interest::READABLE)?;
        Ok(Self { timer, set_ns: 0 })
    }

    /// Goes off once, at `at_ns`. Returns the timeout that the poller needs beside it.
    pub(super) fn set(&mut self, at_ns: u64, now_ns: u64) -> io::Result<Option<Duration>> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        if at_ns == self.set_ns && at_ns > now_ns {
            return Ok(None);
        }
        self.set_ns = at_ns;

        let never = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A timer set to 0 is off.
        let after = Duration::from_nanos(at_ns.saturating_sub(now_ns).max(1));
        let it_value = Timespec {
            tv_sec: after.as_secs() as _,
            tv_nsec: after.subsec_nanos().into(),
        };
        let once = Itimerspec {
            it_interval: never,
            it_value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(None)
    }
}

/// Elsewhere the poller's own timeout has to do, rounded up to a millisecond.
#[cfg(not(target_os = "linux"))]
pub(super) struct Alarm;

#[cfg(not(target_os = "linux"))]
impl Alarm {
    pub(super) fn new(_registry: &Registry, _token: Token) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn set(&mut self, at_ns: u64, now_ns: u64) -> io::Result<Option<Duration>> {
        Ok(Some(Duration::from_nanos(at_ns.saturating_sub(now_ns))))
    }
}
