//! A control group of Linux with a limit of memory, version 1 or 2, as a container has one.
//!
//! Invariant: it is gone when the value drops, and the processes in it were killed before. Does not know what runs inside.

use std::{fs, path::PathBuf, process::Command};

pub(super) struct Cgroup {
    dir: PathBuf,
    is_second: bool,
}

impl Cgroup {
    /// None: skip the test, this machine lets nobody make one.
    pub(super) fn create(limit_bytes: u64) -> Option<Self> {
        let name = format!("outrigger-test-{}", std::process::id());
        let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        let is_second = controllers.split_whitespace().any(|controller| controller == "memory");
        let root = if is_second { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
        let group = Self { dir: PathBuf::from(root).join(name), is_second };
        let is_made =
            fs::metadata(root).is_ok_and(|root| root.is_dir()) && fs::create_dir(&group.dir).is_ok();
        let limit = if is_second { "memory.max" } else { "memory.limit_in_bytes" };
        if !is_made || fs::write(group.dir.join(limit), limit_bytes.to_string()).is_err() {
            println!("SKIPPED: no control group with a limit of memory can be made in {root}");
            return None;
        }
        if is_second {
            // Where there is swap, it does not count.
            drop(fs::write(group.dir.join("memory.swap.max"), "0"));
        }
        Some(group)
    }

    /// A program that runs inside.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        let enter = format!("echo $$ > {} && exec \"$0\" \"$@\"", self.dir.join("cgroup.procs").display());
        command.args(["-c", &enter, program]);
        command
    }

    /// How many processes the kernel killed in it for want of memory.
    pub(super) fn kills(&self) -> u64 {
        let file = if self.is_second { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.dir.join(file)).unwrap();
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|kills| kills.parse().ok()).expect("the kernel counts kills")
    }

    /// Its sizes in words: what counts towards the limit (pages of files too), and what the process has resident.
    pub(super) fn figures(&self, pid: u32) -> String {
        let file = if self.is_second { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let peak = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let peak: u64 = peak.trim().parse().unwrap_or_default();
        let resident = resident_bytes(pid);
        format!("resident {} MiB, the group's peak with pages of files {} MiB", resident >> 20, peak >> 20)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Its last process may take a moment to go.
        for _ in 0..100 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// What a process has resident.
pub(super) fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024
}
