//! What the kernel lets one process have, asked for before a run that would need more.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many open files as the kernel gives, which must be at least those `needed` for `what` was asked.
///
/// # Errors
/// It gives less.
pub(super) fn raise_open_files(what: &str, needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("asking for more open files")?;
    let least = limit.maximum.unwrap_or(u64::MAX);
    ensure!(
        needed <= least,
        "{what}: that takes {needed} open files, and a process may have {least} here (ulimit -Hn)"
    );
    Ok(())
}

/// Checks that there is a port for each of `clients`, from each of `sources` to each of `targets` addresses. None of
/// them is in use, as far as this knows.
///
/// # Errors
/// There are too few.
pub(super) fn check_ports(clients: u64, sources: u64, targets: u64) -> Result<()> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<u64>().ok());
    // Elsewhere than on Linux nobody knows, and connecting will say it.
    let (Some(first), Some(last)) = (bounds.next(), bounds.next()) else { return Ok(()) };
    let ports = (last + 1).saturating_sub(first) * sources.max(1) * targets.max(1);
    ensure!(
        clients <= ports,
        "--clients {clients}: from here there are {ports} ports to connect from; give more addresses with --source, such \
         as --source 127.0.0.2-127.0.0.9"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_files_than_the_kernel_allows_are_refused() {
        let error = raise_open_files("--clients 7", 1 << 40).unwrap_err().to_string();
        assert!(
            error.contains("--clients 7") && error.contains("open files") && error.contains("ulimit"),
            "{error}"
        );
    }

    #[test]
    fn more_clients_than_ports_are_refused_until_there_are_more_sources() {
        let error = check_ports(100_000, 0, 1).unwrap_err().to_string();
        assert!(error.contains("--source"), "{error}");
        assert!(check_ports(100_000, 8, 1).is_ok());
    }
}
