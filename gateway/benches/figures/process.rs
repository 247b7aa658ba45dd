//! What the kernel says a process has used.
//!
//! CPU comes from `/proc/PID/task/TID/schedstat`, whose first field is the time on the CPU in nanoseconds: user and
//! system, softirq work included, which the kernel charges to the thread it interrupts. `utime` and `stime` of
//! `/proc/PID/stat` come in ticks of 10 ms, a tenth of what a short turn uses in all. The counter of a thread that
//! runs is up to one scheduler tick old, hence [`CpuMeter::settled`]. What threads used that have ended since is
//! lost; the gateway's threads that do the work live as long as it does.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Longer than the scheduler's tick at 250 Hz.
const TICK: Duration = Duration::from_millis(5);
/// What a process may use per tick and still count as asleep: timers go on.
const ASLEEP: Duration = Duration::from_micros(50);
/// Ticks to wait for a process to fall asleep.
const TICKS_MAX: u32 = 40;

/// Reads the CPU time of one process.
#[derive(Clone, Debug)]
pub(crate) struct CpuMeter {
    tasks: PathBuf,
}

/// CPU time used until some moment, by thread.
#[derive(Debug)]
pub(crate) struct CpuSample(HashMap<String, u64>);

impl CpuMeter {
    pub(crate) fn new(pid: u32) -> Self {
        Self { tasks: PathBuf::from(format!("/proc/{pid}/task")) }
    }

    /// What has been used until now.
    ///
    /// # Errors
    /// The process has ended.
    pub(crate) fn sample(&self) -> Result<CpuSample> {
        let tasks = fs::read_dir(&self.tasks).context("the measured process has ended")?;
        let mut sample = HashMap::new();
        for task in tasks {
            let task = task?;
            // A thread that ended after the directory was read has no figures any more.
            let Ok(line) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let on_cpu = line.split_whitespace().next().context("schedstat is empty")?;
            sample.insert(task.file_name().to_string_lossy().into_owned(), on_cpu.parse()?);
        }
        Ok(CpuSample(sample))
    }

    /// As [`sample`](Self::sample), once the process has gone to sleep, so that the counters are exact. A process
    /// that does not within 200 ms is sampled as it is.
    pub(crate) fn settled(&self) -> Result<CpuSample> {
        let mut sample = self.sample()?;
        for _ in 0..TICKS_MAX {
            thread::sleep(TICK);
            let next = self.sample()?;
            let asleep = next.since(&sample) < ASLEEP;
            sample = next;
            if asleep {
                break;
            }
        }
        Ok(sample)
    }
}

impl CpuSample {
    /// CPU time used between `earlier` and this sample.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let used = self.0.iter().map(|(task, now)| now - earlier.0.get(task).unwrap_or(&0));
        Duration::from_nanos(used.sum())
    }
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// The process has ended.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most resident memory that a process has had since [`forget_peak`], in bytes.
///
/// # Errors
/// The process has ended.
pub(crate) fn peak_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Makes what is resident now the peak (proc(5), `clear_refs`).
///
/// # Errors
/// The process has ended, or belongs to somebody else.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak of its memory cannot be reset")
}

fn status_bytes(pid: u32, field: &str) -> Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("the measured process has ended")?;
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let value = value.with_context(|| format!("no {field} in its status"))?;
    let kib: u64 = value.trim().trim_end_matches(" kB").parse().context("memory is not in kB")?;
    Ok(kib * 1024)
}
