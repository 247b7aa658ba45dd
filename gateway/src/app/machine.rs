//! What this process may use of the machine.

use std::fs;

use crate::config::Config;
use crate::server::admission::MemoryLimits;
use crate::transport;

/// Handshakes that a CPU takes in a second beside delivering: each costs a fraction of a millisecond, and what a client
/// that comes back asks for costs as much again.
const HANDSHAKES_PER_CPU: usize = 500;

/// Of all memory, the share that is for outboxes.
const OUTBOXES_SHARE: usize = 8;

/// CPUs that this process may use; at least 1. Knows cgroup quotas and affinity.
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Most handshakes that the node takes in a second.
pub(super) fn handshakes_per_second(config: &Config) -> usize {
    config.admission.handshakes_per_second.or_else(|| cpus() * HANDSHAKES_PER_CPU)
}

/// What may be queued for clients on the node, in bytes.
pub(super) fn outboxes_bytes_max(config: &Config) -> usize {
    config.client.outbox_bytes_total_max.or_else(|| memory_bytes() / OUTBOXES_SHARE)
}

/// Memory that this process may use, in bytes: the cgroup's limit, that of its address space, or that of the machine.
pub(super) fn memory_bytes() -> usize {
    let MemoryLimits { resident_bytes_max, address_space_bytes_max } = memory_limits();
    address_space_bytes_max.map_or(resident_bytes_max, |max| max.min(resident_bytes_max))
}

/// The same, each limit by itself.
pub(super) fn memory_limits() -> MemoryLimits {
    MemoryLimits {
        resident_bytes_max: resident_bytes_max(),
        address_space_bytes_max: transport::address_space_bytes_max(),
    }
}

fn resident_bytes_max() -> usize {
    let cgroup = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<usize>().ok());
    cgroup.chain(total_memory_bytes()).min().unwrap_or(1 << 30)
}

fn total_memory_bytes() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_cpu_and_some_memory() {
        assert!(cpus() >= 1);
        let memory = memory_bytes();
        assert!(memory >= 16 << 20 && memory <= total_memory_bytes().unwrap(), "{memory}");
    }
}
