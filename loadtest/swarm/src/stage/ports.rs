//! Ports for what is started.

use std::fs;
use std::net::TcpListener;

use anyhow::{Context as _, Result};

use super::loopback;

/// Hands out ports that nobody listens on.
///
/// Not from the range that the kernel gives to outgoing connections: while a node starts, one of thousands of clients
/// that connect could be given its port.
#[derive(Debug)]
pub struct Ports {
    next: u16,
    end: u16,
}

/// Below it are services of the machine.
const FIRST: u16 = 10_000;
/// Where outgoing connections begin unless the kernel says otherwise.
const OUTGOING: u16 = 32_768;

impl Ports {
    /// Those of this machine. Two runs at one time begin at different ones.
    pub fn of_this_machine() -> Self {
        let end = first_outgoing().filter(|&first| first > FIRST).unwrap_or(OUTGOING);
        let span = u32::from(end - FIRST);
        // Runs that are started one after another are some ports apart, not one.
        let offset = std::process::id().wrapping_mul(61) % span;
        let next = FIRST + u16::try_from(offset).expect("less than the range of ports");
        Self { next, end }
    }

    /// A port that was free a moment ago.
    ///
    /// # Errors
    /// There is none.
    pub fn take(&mut self) -> Result<u16> {
        (FIRST..self.end)
            .map(|_| self.step())
            .find(|&port| TcpListener::bind(loopback(port)).is_ok())
            .context("every port of this machine is taken")
    }

    fn step(&mut self) -> u16 {
        let port = self.next;
        self.next = if port + 1 < self.end { port + 1 } else { FIRST };
        port
    }
}

fn first_outgoing() -> Option<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_are_free_and_not_for_outgoing_connections() {
        let mut ports = Ports::of_this_machine();
        let first = ports.take().unwrap();
        let _listener = TcpListener::bind(loopback(first)).unwrap();
        let second = ports.take().unwrap();
        assert_ne!(first, second);
        assert!(second < first_outgoing().unwrap_or(OUTGOING));
    }

    #[test]
    fn a_port_that_is_taken_is_passed_over_and_the_last_is_followed_by_the_first() {
        let taken = Ports::of_this_machine().take().unwrap();
        let _listener = TcpListener::bind(loopback(taken)).unwrap();
        let mut ports = Ports { next: taken, end: taken + 1 };
        let port = ports.take().unwrap();
        assert!((FIRST..taken).contains(&port), "{port}");
    }
}
