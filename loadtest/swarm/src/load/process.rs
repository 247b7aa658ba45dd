//! What the kernel says a process uses: CPU, memory, open files.
//!
//! CPU comes from `/proc/PID/task/TID/schedstat`, whose first field is the time on the CPU in nanoseconds, and the
//! second that of waiting for one while there was work to do; `utime` and
//! `stime` of `/proc/PID/stat` come in ticks of 10 ms. The counter of a thread that runs is up to one tick of the
//! scheduler old, hence [`Meter::settled`]. What threads used that have ended since is lost.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::sleep;

/// Longer than the scheduler's tick at 250 Hz.
const TICK: Duration = Duration::from_millis(5);
/// What a process may use per tick and still count as asleep: timers go on.
const ASLEEP: Duration = Duration::from_micros(50);
/// Ticks to wait for a process to fall asleep.
const TICKS_MAX: u32 = 40;

/// Reads what a process uses, or several together.
#[derive(Clone, Debug)]
pub struct Meter {
    pids: Vec<u32>,
}

/// CPU time used until some moment, by process and thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu(HashMap<(u32, u32), Spent>);

/// Time of a thread, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spent {
    on_cpu: u64,
    /// For a CPU, with work to do.
    waiting: u64,
}

impl Meter {
    /// Of these processes, each of which is there.
    ///
    /// # Errors
    /// One is not, or may not be looked at.
    pub fn new(pids: &[u32]) -> Result<Self> {
        let meter = Self { pids: pids.to_vec() };
        for pid in pids {
            ensure!(fs::exists(format!("/proc/{pid}/stat"))?, "there is no process {pid}");
        }
        meter.cpu()?;
        Ok(meter)
    }

    /// Of this process.
    pub fn own() -> Self {
        Self { pids: vec![std::process::id()] }
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty()
    }

    /// The CPU time used until now.
    ///
    /// # Errors
    /// A process has ended, or the kernel does not count.
    pub fn cpu(&self) -> Result<Cpu> {
        let mut used = HashMap::new();
        for pid in &self.pids {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| ended(*pid))?;
            for task in tasks {
                let task = task?;
                // A thread that ended after the directory was read has no figures any more.
                let Ok(line) = fs::read_to_string(task.path().join("schedstat")) else { continue };
                let thread = task.file_name().to_string_lossy().parse().unwrap_or(0);
                used.insert((*pid, thread), Spent::read(&line)?);
            }
            // Whoever is there has run. A kernel that does not count says 0.
            let is_counted = used.iter().any(|((of, _), spent)| of == pid && spent.on_cpu > 0);
            ensure!(is_counted, "the kernel does not say how much CPU the process {pid} uses (schedstat)");
        }
        Ok(Cpu(used))
    }

    /// As [`cpu`](Self::cpu), once the processes have gone to sleep, so that the counters are exact. What does not
    /// sleep within 200 ms is sampled as it is.
    ///
    /// # Errors
    /// A process has ended.
    pub async fn settled(&self) -> Result<Cpu> {
        let mut sample = self.cpu()?;
        for _ in 0..TICKS_MAX {
            sleep(TICK).await;
            let next = self.cpu()?;
            let is_asleep = next.since(&sample) < ASLEEP;
            sample = next;
            if is_asleep {
                break;
            }
        }
        Ok(sample)
    }

    /// Resident memory, in bytes.
    ///
    /// # Errors
    /// A process has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The most resident memory that there ever was, in bytes.
    ///
    /// # Errors
    /// A process has ended.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.status_bytes("VmHWM:")
    }

    /// How many files are open, sockets included.
    ///
    /// # Errors
    /// A process has ended, or belongs to somebody else.
    pub fn open_files(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            sum += fs::read_dir(format!("/proc/{pid}/fd")).with_context(|| ended(*pid))?.count() as u64;
        }
        Ok(sum)
    }

    fn status_bytes(&self, field: &str) -> Result<u64> {
        let mut sum = 0;
        for pid in &self.pids {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| ended(*pid))?;
            let value = status.lines().find_map(|line| line.strip_prefix(field));
            // A process that has ended and was not waited for has no memory.
            let value = value.with_context(|| ended(*pid))?;
            let kib: u64 = value.trim().trim_end_matches(" kB").parse().context("memory is not in kB")?;
            sum += kib * 1024;
        }
        Ok(sum)
    }
}

fn ended(pid: u32) -> String {
    format!("the process {pid} has ended, or is somebody else's")
}

impl Spent {
    fn read(line: &str) -> Result<Self> {
        let mut fields = line.split_whitespace().map(str::parse);
        match (fields.next(), fields.next()) {
            (Some(Ok(on_cpu)), Some(Ok(waiting))) => Ok(Self { on_cpu, waiting }),
            _ => bail!("schedstat does not begin with two numbers"),
        }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            on_cpu: self.on_cpu.saturating_sub(earlier.on_cpu),
            waiting: self.waiting.saturating_sub(earlier.waiting),
        }
    }
}

impl Cpu {
    /// Of one process, by thread.
    #[cfg(test)]
    pub(super) fn of(threads: &[(u32, u64)]) -> Self {
        let spent = |on_cpu| Spent { on_cpu, waiting: 2 * on_cpu };
        Self(threads.iter().map(|(thread, used)| ((1, *thread), spent(*used))).collect())
    }

    /// CPU time used between `earlier` and this.
    pub fn since(&self, earlier: &Self) -> Duration {
        Duration::from_nanos(self.by_thread(earlier).map(|spent| spent.on_cpu).sum())
    }

    /// What the thread used that used most between `earlier` and this.
    pub fn busiest(&self, earlier: &Self) -> Duration {
        Duration::from_nanos(self.by_thread(earlier).map(|spent| spent.on_cpu).max().unwrap_or(0))
    }

    /// How long the thread had work to do that had it longest between `earlier` and this, whether it was on a CPU or had to
    /// wait for one.
    pub fn busy(&self, earlier: &Self) -> Duration {
        let busy = self.by_thread(earlier).map(|spent| spent.on_cpu + spent.waiting).max();
        Duration::from_nanos(busy.unwrap_or(0))
    }

    fn by_thread(&self, earlier: &Self) -> impl Iterator<Item = Spent> {
        self.0.iter().map(|(thread, now)| now.since(earlier.0.get(thread).copied().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_that_of_all_threads_old_and_new() {
        let (before, after) = (Cpu::of(&[(1, 100), (2, 50)]), Cpu::of(&[(1, 130), (3, 40)]));
        assert_eq!(after.since(&before), Duration::from_nanos(70));
        assert_eq!(after.busiest(&before), Duration::from_nanos(40));
        // It waited twice as long as it was on a CPU.
        assert_eq!(after.busy(&before), Duration::from_nanos(120));
    }

    #[test]
    fn this_process_can_be_read() {
        let meter = Meter::own();
        let before = meter.cpu().unwrap();
        assert!((0..10_000_000_u64).fold(0, |sum, number| sum ^ std::hint::black_box(number)) < u64::MAX);
        // Other tests grow meanwhile.
        let resident = meter.resident_bytes().unwrap();
        assert!(meter.peak_bytes().unwrap() >= resident);
        assert!(meter.open_files().unwrap() > 2);
        assert!(meter.cpu().unwrap().since(&before) > Duration::ZERO);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Meter::new(&[std::process::id(), 4_194_305]).unwrap_err().to_string();
        assert!(error.contains("4194305"), "{error}");
    }
}
