//! What a process uses of its machine: processor time and memory, as Linux tells it under `/proc`; and which of its threads
//! come first.
//!
//! Does not know metrics or calls. Where the system does not tell, there is nothing to say.

use std::{io, path::Path, time::Duration};

use crate::disk::{Access, Disk};

/// `/proc` counts processor time in ticks of 10 ms on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;
/// More than any of the files read here holds.
const FILE_BYTES_MAX: usize = 16 * 1_024;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since it started, in user and kernel mode, of all its threads.
    pub cpu: Duration,
    /// Memory that is resident.
    pub resident_bytes: u64,
}

/// What a thread does that gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It shows what was appended: soon, but behind the append itself and behind whoever reads.
    Following,
    /// It goes through a long stretch of the log.
    CatchingUp,
}

impl Work {
    /// The thread's `nice`: 0 is the usual one, 19 the last.
    const fn nice(self) -> i32 {
        match self {
            Self::Following => 3,
            Self::CatchingUp => 15,
        }
    }
}

/// Lets other threads go before the one that calls, from now on: without privileges there is no way back. Where priorities
/// are not those of threads (on other systems than Linux) nothing changes.
pub fn give_way(work: Work) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, work.nice()) {
        tracing::debug!(%error, ?work, "the system does not let a thread give way");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = work.nice();
}

/// What a process uses now: `self`, or its number.
pub fn usage(disk: &dyn Disk, process: &str) -> io::Result<Usage> {
    let read = |name: &str| read(disk, &Path::new("/proc").join(process).join(name));
    let unknown = |name: &str| {
        let message = format!("/proc/{process}/{name} does not read as expected");
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    let cpu = cpu(&read("stat")?).ok_or_else(|| unknown("stat"))?;
    let resident_bytes = resident_bytes(&read("status")?).ok_or_else(|| unknown("status"))?;
    Ok(Usage { cpu, resident_bytes })
}

/// The memory that this process may take, and who says so: its control group, or what the machine has.
pub fn memory_limit(disk: &dyn Disk) -> Option<(u64, &'static str)> {
    const GROUPS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let of_machine = read(disk, Path::new("/proc/meminfo")).ok().and_then(|text| total_bytes(&text));
    let of_group =
        GROUPS.iter().find_map(|path| read(disk, Path::new(path)).ok()?.trim().parse::<u64>().ok());
    // Without a limit some systems say a number that is larger than any machine.
    match (of_group.filter(|limit| of_machine.is_none_or(|total| *limit < total)), of_machine) {
        (Some(limit), _) => Some((limit, "the limit of the control group")),
        (None, total) => Some((total?, "the memory of the machine")),
    }
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
}

/// A file that says 0 for its length.
fn read(disk: &dyn Disk, path: &Path) -> io::Result<String> {
    let file = disk.open(path, Access::Read)?;
    let (mut bytes, mut len) = (vec![0; FILE_BYTES_MAX], 0);
    while len < bytes.len() {
        match file.read_at(&mut bytes[len..], len as u64)? {
            0 => break,
            more => len += more,
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

/// Fields 14 and 15 of `stat`; the second is a name in brackets that may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let mut behind_name = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || behind_name.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;

    #[test]
    fn the_files_of_the_system_are_read() {
        let stat = "17 (a) b) S 1 17 17 0 -1 4194560 1107 0 0 0 250 33 0 0 20 0 3 0 181 1000 200";
        assert_eq!(cpu(stat), Some(Duration::from_millis(2_830)));
        assert_eq!(cpu("17 (a) S 1"), None);
        assert_eq!(resident_bytes("Name:\ta\nVmRSS:\t   13540 kB\nThreads:\t3\n"), Some(13_540 * 1_024));
        assert_eq!(resident_bytes("Name:\ta\n"), None);
        assert_eq!(total_bytes("MemTotal:       24689868 kB\nMemFree: 1 kB\n"), Some(24_689_868 * 1_024));
        assert!(memory_limit(&RealDisk).is_some_and(|(limit, _)| limit > 100_000_000));
    }

    #[test]
    fn this_process_has_memory_and_an_absent_one_is_an_error() {
        let own = usage(&RealDisk, "self").unwrap();
        assert!(own.resident_bytes > 100_000, "{own:?}");
        assert_eq!(usage(&RealDisk, "none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
