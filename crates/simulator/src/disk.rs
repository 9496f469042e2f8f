//! The disk of each host, as far as the record of the vote is concerned: slow, failing, and cut off in the middle by a crash. A record is
//! there as a whole or not at all, as the program writes it.

use std::time::Duration;

use hastmon_core::lease::record::{NotFound, Record};
use hastmon_core::pause::PauseRecord;

use super::host::{HostId, OnDisk};
use super::kernel::{Happening, Kernel, Pid, What};

/// How long an access takes.
const TAKES: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(5));
/// Between the moment at which a record is on the disk and that at which its daemon knows.
const TELLS: (Duration, Duration) = (Duration::from_micros(10), Duration::from_millis(1));

impl Kernel {
    /// Begins to write a record.
    pub(crate) fn write_record(&mut self, host: HostId, pid: Pid, id: u64, record: Record) {
        self.write(host, pid, id, OnDisk::Vote(record));
    }

    /// Begins to write the record of a pause.
    pub(crate) fn write_pause(&mut self, host: HostId, pid: Pid, id: u64, record: PauseRecord) {
        self.write(host, pid, id, OnDisk::Pause(record));
    }

    /// What a daemon that starts finds of pauses: at once, since it waits for that.
    pub(crate) fn pauses_found(&self, host: HostId) -> Vec<PauseRecord> {
        self.host(host).disk.pause.iter().cloned().collect()
    }

    fn write(&mut self, host: HostId, pid: Pid, id: u64, what: OnDisk) {
        let slow = self.host(host).disk.slow;
        let takes = self.rng.between(TAKES) + self.rng.between((Duration::ZERO, slow));
        let now = self.now;
        let disk = &mut self.host_mut(host).disk;
        disk.busy_until = now.max(disk.busy_until) + takes;
        disk.writes.push_back((pid, id, what));
        let at = disk.busy_until;
        self.agenda.add(at, What::Disk { host, pid, id });
    }

    /// Begins to look for a record.
    pub(crate) fn find_record(&mut self, host: HostId, pid: Pid, resource: String) {
        let slow = self.host(host).disk.slow;
        let takes = self.rng.between(TAKES) + self.rng.between((Duration::ZERO, slow));
        let at = self.now + takes;
        self.agenda.add(at, What::Process(pid, Happening::FindRecord(resource)));
    }

    /// What is found.
    pub(crate) fn record_found(&self, host: HostId) -> Result<Option<Record>, NotFound> {
        let disk = &self.host(host).disk;
        match (disk.fails, disk.is_damaged) {
            (true, _) => Err(NotFound::Unreadable("input/output error".to_string())),
            (false, true) => Err(NotFound::Damaged("it is damaged".to_string())),
            (false, false) => Ok(disk.record.clone()),
        }
    }

    /// A record is there, unless the disk fails.
    pub(crate) fn disk_writes(&mut self, host: HostId, pid: Pid, id: u64) {
        let disk = &mut self.host_mut(host).disk;
        let Some(at) = disk.writes.iter().position(|write| (write.0, write.1) == (pid, id)) else { return };
        let Some((_, _, what)) = disk.writes.remove(at) else { return };
        let is_pause = matches!(what, OnDisk::Pause(_));
        let result = if disk.fails {
            Err("input/output error".to_string())
        } else {
            disk.take(what);
            Ok(())
        };
        let at = self.now + self.rng.between(TELLS);
        let happening = if is_pause { Happening::PauseRecorded(id, result) } else { Happening::Recorded(id, result) };
        self.agenda.add(at, What::Process(pid, happening));
    }

    /// A daemon is gone: of what it was writing some is there and the rest is not.
    pub(crate) fn cut_off_writes(&mut self, host: HostId, pid: Option<Pid>) {
        let count = self.host(host).disk.writes.iter().filter(|write| pid.is_none_or(|pid| write.0 == pid)).count();
        if count == 0 {
            return;
        }
        let done = self.rng.index(count + 1);
        let disk = &mut self.host_mut(host).disk;
        let (gone, stay): (Vec<_>, Vec<_>) =
            disk.writes.drain(..).partition(|write| pid.is_none_or(|pid| write.0 == pid));
        disk.writes.extend(stay);
        if !disk.fails {
            gone.into_iter().take(done).for_each(|(_, _, what)| disk.take(what));
        }
    }
}
