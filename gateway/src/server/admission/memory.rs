//! Whether the process still has memory for more clients.

use std::fs;

use tikv_jemalloc_ctl::{epoch, stats};

use crate::transport;

/// Above this share of what the process may use nobody is let in, in percent. The rest is for those who are in: for
/// what waits for them, and for what they ask.
const CLOSED_ABOVE: u128 = 85;
/// Below this share somebody is let in again.
const OPEN_BELOW: u128 = 80;

/// What the process may use, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimits {
    /// Resident memory: what the machine has, or the control group.
    pub resident_bytes_max: usize,
    /// Address space (`RLIMIT_AS`); `None` for no limit.
    pub address_space_bytes_max: Option<usize>,
}

/// What the process uses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    address_space_bytes: usize,
    resident_bytes: usize,
}

impl Usage {
    /// What it is now; `None` if the system does not tell (`proc_pid_statm(5)`).
    ///
    /// The allocator keeps address space that it has emptied, and fills it before it takes more. So that is not used:
    /// otherwise a door that was closed once would stay so for ever.
    pub(super) fn now() -> Option<Self> {
        let mut usage = Self::parse(&fs::read_to_string("/proc/self/statm").ok()?)?;
        usage.address_space_bytes = usage.address_space_bytes.saturating_sub(retained_bytes());
        Some(usage)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut pages = text.split(' ').map_while(|field| field.trim().parse::<usize>().ok());
        let mut bytes = || Some(pages.next()?.saturating_mul(transport::page_bytes()));
        Some(Self { address_space_bytes: bytes()?, resident_bytes: bytes()? })
    }
}

/// Address space that the allocator keeps empty, in bytes; 0 if it is not the one of this process.
fn retained_bytes() -> usize {
    // The numbers are those of the last epoch.
    epoch::advance().and_then(|_| stats::retained::read()).unwrap_or(0)
}

/// Looks at usage from time to time, and remembers.
#[derive(Debug)]
pub(super) struct Memory {
    limits: MemoryLimits,
    is_short: bool,
}

impl Memory {
    pub(super) fn new(limits: MemoryLimits) -> Self {
        Self { limits, is_short: false }
    }

    /// Whether nobody more may come in, as long as nothing else is found.
    pub(super) fn is_short(&mut self, usage: Usage) -> bool {
        let percent = if self.is_short { OPEN_BELOW } else { CLOSED_ABOVE };
        let is_above = |used: usize, max: usize| used as u128 * 100 > max as u128 * percent;
        self.is_short = is_above(usage.resident_bytes, self.limits.resident_bytes_max)
            || self
                .limits
                .address_space_bytes_max
                .is_some_and(|max| is_above(usage.address_space_bytes, max));
        self.is_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(address_space_bytes: usize, resident_bytes: usize) -> Usage {
        Usage { address_space_bytes, resident_bytes }
    }

    #[test]
    fn it_is_short_above_one_share_and_until_it_is_below_another() {
        let limits = MemoryLimits { resident_bytes_max: 1_000, address_space_bytes_max: None };
        let mut memory = Memory::new(limits);
        let verdicts = [850, 851, 820, 801, 800, 850, 851].map(|bytes| memory.is_short(usage(9_999, bytes)));
        assert_eq!(verdicts, [false, true, true, true, false, false, true]);
    }

    #[test]
    fn each_limit_is_looked_at_by_itself() {
        let limits = MemoryLimits { resident_bytes_max: 500, address_space_bytes_max: Some(1_000) };
        let mut memory = Memory::new(limits);
        let uses = [(850, 100), (851, 100), (801, 100), (800, 426), (800, 401), (800, 400)];
        let verdicts = uses.map(|(address_space, resident)| memory.is_short(usage(address_space, resident)));
        assert_eq!(verdicts, [false, true, true, true, true, false]);
    }

    #[test]
    fn the_system_tells() {
        let usage = Usage::now().unwrap();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(usage.address_space_bytes > usage.resident_bytes, "{usage:?}");
        assert_eq!(Usage::parse("12 x"), None);
    }
}
