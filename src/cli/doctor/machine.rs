//! What the machine gives: disk, its speed, clock, memory.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::Finding;
use crate::{
    clock::{Clock as _, SystemClock},
    config::{Config, value::bytes_text},
    disk::{self, Access, Disk as _, real::RealDisk},
    process::memory_limit,
};

/// Syncs that are measured.
const SYNCS: usize = 50;
/// Bytes that are written before each.
const SYNC_BYTES: usize = 4_096;
/// A sync in the middle that takes longer makes every append slow.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// How far the wall clock may go from the machine's own while that is measured.
const CLOCK_DRIFT_MAX: Duration = Duration::from_millis(200);
/// Years that a clock can be in, as seconds since 1970: 2025 to 2100.
const YEARS: std::ops::Range<i64> = 1_735_689_600..4_102_444_800;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let dir = &config.data_dir;
    let began = (Instant::now(), SystemClock.now_unix_nanos());
    match RealDisk.create_dir_all(dir) {
        Ok(()) => {
            findings.push(space(config));
            findings.push(file_system(dir));
            findings.push(syncs(dir));
        }
        Err(error) => findings.push(Finding::failed(
            "disk",
            format!("{}: {error}", dir.display()),
            "name a directory with data_dir that this user can write, or give it to this user",
        )),
    }
    findings.push(clock(began));
    findings.push(memory(config));
    findings
}

fn space(config: &Config) -> Finding {
    let dir = config.data_dir.display();
    let low_water = config.log.low_water_bytes;
    match RealDisk.free_bytes(&config.data_dir) {
        Ok(free) if free <= low_water => Finding::failed(
            "disk",
            format!("{dir} has {} free, and log.low_water is {}", gib(free), bytes_text(low_water)),
            "appends are refused: make the disk larger, or remove what does not belong there",
        ),
        Ok(free) if free < 4 * low_water => Finding::warning(
            "disk",
            format!("{dir} has {} free, and log.low_water is {}", gib(free), bytes_text(low_water)),
            "make the disk larger before appends are refused",
        ),
        Ok(free) => Finding::ok("disk", format!("{dir} has {} free", gib(free))),
        Err(error) => Finding::failed("disk", format!("{dir}: {error}"), "see that the disk is mounted"),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn file_system(dir: &Path) -> Finding {
    let check = "file system";
    match RealDisk.file_system(dir) {
        Ok("tmpfs") => Finding::warning(
            check,
            "tmpfs: what is stored there is lost with the machine's memory",
            "name a directory on a disk with data_dir, except for trials",
        ),
        Ok(name @ ("nfs" | "smb" | "fuse")) => Finding::warning(
            check,
            format!("{name}: locks and syncs may not hold what they promise there"),
            "use a local disk or a block volume",
        ),
        Ok("overlayfs") => Finding::warning(
            check,
            "overlayfs: the layer of a container, lost with it",
            "mount a volume and name it with data_dir",
        ),
        Ok(name) => Finding::ok(check, name),
        Err(error) => Finding::warning(check, error.to_string(), "see that the disk is mounted"),
    }
}

fn syncs(dir: &Path) -> Finding {
    let check = "sync";
    let path = dir.join(format!("doctor-{}.tmp", std::process::id()));
    let measured = measure(&path);
    let removed = RealDisk.remove_file(&path);
    match (measured, removed) {
        (Ok(mut times), Ok(())) => {
            times.sort_unstable();
            let (middle, worst) = (times[times.len() / 2], times[times.len() - 1]);
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let found = format!(
                "{SYNCS} writes of 4 KiB, each made durable: {:.2} ms in the middle, {:.2} ms at worst",
                ms(middle),
                ms(worst)
            );
            if middle > SYNC_SLOW {
                let remedy = "every append waits for a sync: use a faster disk or class of volume";
                Finding::warning(check, found, remedy)
            } else {
                Finding::ok(check, found)
            }
        }
        (Err(error), _) | (_, Err(error)) => Finding::failed(
            check,
            format!("{}: {error}", path.display()),
            "see that this user may write there, and that the disk is not full or read-only",
        ),
    }
}

fn measure(path: &Path) -> io::Result<Vec<Duration>> {
    let file = RealDisk.create_new(path)?;
    file.write_all_at(&vec![0; SYNC_BYTES * SYNCS], 0)?;
    file.sync_data()?;
    let one = |at: usize| {
        file.write_all_at(&[1; SYNC_BYTES], (at * SYNC_BYTES) as u64)?;
        let began = Instant::now();
        file.sync_data()?;
        Ok(began.elapsed())
    };
    (0..SYNCS).map(one).collect()
}

/// Whether wall clock and machine agreed while the disk was measured.
fn clock((began, wall): (Instant, i64)) -> Finding {
    let (passed, now) = (began.elapsed(), SystemClock.now_unix_nanos());
    let seconds = now.div_euclid(1_000_000_000);
    let time =
        Timestamp::from_second(seconds).map_or(format!("{seconds} s since 1970"), |time| time.to_string());
    let remedy = "set the clock, and keep it with chrony or the like; order never depends on it, but times of events do";
    if !YEARS.contains(&seconds) {
        return Finding::failed("clock", format!("the wall clock is at {time}"), remedy);
    }
    let drift = now.saturating_sub(wall).saturating_sub(passed.as_nanos() as i64);
    if drift.unsigned_abs() > CLOCK_DRIFT_MAX.as_nanos() as u64 {
        let found =
            format!("the wall clock jumped by {} ms within {} ms", drift / 1_000_000, passed.as_millis());
        return Finding::warning("clock", found, remedy);
    }
    Finding::ok("clock", format!("{time}, steady"))
}

fn memory(config: &Config) -> Finding {
    let check = "memory";
    let budget = config.limits.memory_bytes;
    // Connections, messages under way and the allocator come on top of the budget.
    let wanted = budget + budget / 4 + (64 << 20);
    match memory_limit(&RealDisk) {
        Some((limit, what)) if limit < budget => Finding::failed(
            check,
            format!("limits.memory is {}, and {what} is {}", bytes_text(budget), gib(limit)),
            "lower limits.memory or raise the limit: the process would be killed",
        ),
        Some((limit, what)) if limit < wanted => Finding::warning(
            check,
            format!("limits.memory is {}, and {what} is {}", bytes_text(budget), gib(limit)),
            format!("leave {} at least for what comes on top of limits.memory", gib(wanted - budget)),
        ),
        Some((limit, what)) => {
            Finding::ok(check, format!("limits.memory is {}, {what} is {}", bytes_text(budget), gib(limit)))
        }
        None => {
            Finding::ok(check, format!("limits.memory is {}; the system tells no limit", bytes_text(budget)))
        }
    }
}

/// Whether a file is there and can be read.
pub(super) fn is_readable(path: &Path) -> io::Result<()> {
    RealDisk.open(path, Access::Read).map(drop)
}

/// The content of a small file.
pub(super) fn text(path: &Path, max: usize) -> io::Result<String> {
    let bytes = disk::read_file(&RealDisk, path, max)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
