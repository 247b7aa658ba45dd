//! What this process takes of the machine (proc(5)).

use std::time::Instant;

/// Ticks of the clock in which the kernel tells CPU time: 100 a second wherever Linux runs (proc(5), `USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Share of one CPU lately, in percent.
    pub cpu: f64,
    /// Resident memory, in bytes.
    pub rss: u64,
}

/// Looks at this process now and then.
#[derive(Debug)]
pub(super) struct Gauge {
    looked_at: Instant,
    ticks: u64,
}

impl Gauge {
    pub(super) fn new() -> Self {
        Self { looked_at: Instant::now(), ticks: cpu_ticks().unwrap_or_default() }
    }

    /// What it takes now, the CPU on average since the last look; `None` where the system does not tell.
    pub(super) fn look(&mut self) -> Option<Process> {
        let (ticks, elapsed) = (cpu_ticks()?, self.looked_at.elapsed());
        let seconds = ticks.saturating_sub(self.ticks) as f64 / TICKS_PER_SECOND;
        let cpu = 100.0 * seconds / elapsed.as_secs_f64().max(1.0 / TICKS_PER_SECOND);
        *self = Self { looked_at: Instant::now(), ticks };
        Some(Process { cpu: (10.0 * cpu).round() / 10.0, rss: resident_bytes()? })
    }
}

/// CPU time of all threads so far, in user and in system mode.
fn cpu_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the name in parentheses, may hold anything; of those behind it, the 12th and 13th are meant.
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().ok());
    times.sum()
}

/// Resident memory, in bytes (`status`, kB).
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_takes_time() {
        let mut gauge = Gauge::new();
        let before = cpu_ticks().unwrap();
        while cpu_ticks().unwrap() < before + 3 {
            std::hint::black_box((0..100_000_u64).sum::<u64>());
        }
        let process = gauge.look().unwrap();
        assert!(process.rss > 1 << 20 && process.cpu > 1.0, "{process:?}");
    }
}
