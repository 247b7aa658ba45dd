//! Whether the process still has memory for more clients.

use std::fs;

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
    pub(super) fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/statm").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut pages = text.split(' ').map_while(|field| field.trim().parse::<usize>().ok());
        let mut bytes = || Some(pages.next()?.saturating_mul(transport::page_bytes()));
        Some(Self { address_space_bytes: bytes()?, resident_bytes: bytes()? })
    }
}

/// Looks at usage from time to time, and remembers.
#[derive(Debug)]
pub(super) struct Memory {
    limits: MemoryLimits,
    /// The most of each that was ever used.
    peak: Usage,
    is_short: bool,
}

impl Memory {
    pub(super) fn new(limits: MemoryLimits) -> Self {
        Self { limits, peak: Usage { address_space_bytes: 0, resident_bytes: 0 }, is_short: false }
    }

    /// Whether nobody more may come in, as long as nothing else is found.
    pub(super) fn is_short(&mut self, usage: Usage) -> bool {
        let percent = if self.is_short { OPEN_BELOW } else { CLOSED_ABOVE };
        let is_above = |used: usize, max: usize| used as u128 * 100 > max as u128 * percent;
        let address_space = self.address_space_bytes(usage);
        self.is_short = is_above(usage.resident_bytes, self.limits.resident_bytes_max)
            || self.limits.address_space_bytes_max.is_some_and(|max| is_above(address_space, max));
        self.is_short
    }

    /// The address space that is in use. An allocator keeps what it has emptied, and fills it before it takes more: so
    /// memory that was given back since the peak does not count, or a door that was closed once would stay so for ever.
    fn address_space_bytes(&mut self, usage: Usage) -> usize {
        let peak = &mut self.peak;
        peak.address_space_bytes = peak.address_space_bytes.max(usage.address_space_bytes);
        peak.resident_bytes = peak.resident_bytes.max(usage.resident_bytes);
        let given_back = peak.resident_bytes - usage.resident_bytes;
        usage.address_space_bytes.min(peak.address_space_bytes.saturating_sub(given_back))
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
    fn address_space_that_is_kept_empty_is_not_used() {
        let limits = MemoryLimits { resident_bytes_max: 10_000, address_space_bytes_max: Some(1_000) };
        let mut memory = Memory::new(limits);
        assert!(!memory.is_short(usage(300, 100)));
        assert!(memory.is_short(usage(900, 300)), "taken and not filled is taken");
        assert!(memory.is_short(usage(900, 210)), "90 were given back: not enough");
        assert!(!memory.is_short(usage(900, 200)));
        assert!(memory.is_short(usage(900, 260)), "they are filled again");
        assert!(!memory.is_short(usage(900, 100)));
        assert!(memory.is_short(usage(870, 255)), "what the system has back is not subtracted twice");
    }

    #[test]
    fn the_system_tells() {
        let usage = Usage::now().unwrap();
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(usage.address_space_bytes > usage.resident_bytes, "{usage:?}");
        assert_eq!(Usage::parse("12 x"), None);
    }
}
