//! Wakes a loop at a moment of the clock that all decisions use (`clock.rs`). Decides nothing.
//!
//! The runtime's own timers wake a process twice in a second of sleep, to the millisecond, and stand still while the machine sleeps. That is
//! good enough for time limits, and where there is nothing better.

use std::io;

use hastmon_core::time::Instant;

pub use self::system::Alarm;
use crate::os::clock;

/// Sleeps until a deadline by the runtime's timers; for ever without one.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe;

    use super::{Instant, io};

    const NS_PER_S: u64 = 1_000_000_000;
    const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

    /// One alarm of this process.
    #[derive(Debug)]
    pub struct Alarm {
        /// The runtime has no safe name for a timer: its pipe waits until there is something to read, and reads it.
        timer: pipe::Receiver,
        set: Option<Instant>,
    }

    impl Alarm {
        /// # Errors
        /// The system has no more descriptors.
        pub fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
            Ok(Self { timer: pipe::Receiver::from_owned_fd_unchecked(timer)?, set: None })
        }

        /// Waits until `deadline`; without one for ever. When this is cancelled and another deadline is given, only that one counts.
        pub async fn until(&mut self, deadline: Option<Instant>) {
            if let Err(error) = self.ring(deadline).await {
                log::error!("cannot set a timer of the system: {error}; going on with those of the runtime");
                self.set = None;
                super::sleep_until(deadline).await;
            }
        }

        async fn ring(&mut self, deadline: Option<Instant>) -> io::Result<()> {
            if self.set != deadline {
                // Zero would mean never.
                let at = deadline.map_or(NEVER, |at| timespec(at.as_nanos().max(1)));
                let times = Itimerspec { it_interval: NEVER, it_value: at };
                timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &times)?;
                self.set = deadline;
            }
            // Longer than what comes, so that the runtime sees that nothing is left.
            let _size = self.timer.read(&mut [0; 2 * size_of::<u64>()]).await?;
            self.set = None;
            Ok(())
        }
    }

    fn timespec(ns: u64) -> Timespec {
        let (s, rest) = (ns / NS_PER_S, ns % NS_PER_S);
        Timespec { tv_sec: s.try_into().unwrap_or(i64::MAX), tv_nsec: rest.try_into().unwrap_or(0) }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Instant, io};

    /// One alarm of this process.
    #[derive(Debug)]
    pub struct Alarm;

    impl Alarm {
        /// # Errors
        /// None.
        pub const fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Waits until `deadline`; without one for ever. When this is cancelled and another deadline is given, only that one counts.
        pub async fn until(&mut self, deadline: Option<Instant>) {
            super::sleep_until(deadline).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn it_wakes_at_its_time_and_never_before() {
        run(async {
            let mut alarm = Alarm::new().unwrap();
            for ms in [0, 1, 20] {
                let deadline = clock::now() + Duration::from_millis(ms);
                alarm.until(Some(deadline)).await;
                assert!(clock::now() >= deadline);
            }
            // One that is long over, and the same once more.
            for _ in 0..2 {
                alarm.until(Some(Instant::from_nanos(0))).await;
            }
        });
    }

    #[test]
    fn only_the_last_deadline_counts() {
        run(async {
            let mut alarm = Alarm::new().unwrap();
            let (soon, later) = (clock::now() + Duration::from_millis(5), clock::now() + Duration::from_millis(60));
            tokio::select! {
                biased;
                () = alarm.until(Some(soon)) => panic!("it was not its time"),
                () = std::future::ready(()) => {}
            }
            // It rings unheard.
            while clock::now() <= soon {}
            alarm.until(Some(later)).await;
            assert!(clock::now() >= later);
            let never = alarm.until(None);
            assert!(tokio::time::timeout(Duration::from_millis(30), never).await.is_err());
        });
    }
}
