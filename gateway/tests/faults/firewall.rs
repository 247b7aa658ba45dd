//! Rules of the kernel's packet filter (iptables) on loopback. They need root, and are gone when they are dropped.
//!
//! Each rule names the port of a Redis that belongs to one test, so that tests can run side by side.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cleanup::Undo;

/// Rules that hold until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Rules(#[expect(dead_code, reason = "dropping it removes the rule")] Vec<Undo>);

impl Rules {
    /// Nothing passes to or from `port`.
    pub(crate) fn drop_port(port: u16) -> Result<Self> {
        let port = port.to_string();
        Self::install(&[&["--dport", &port], &["--sport", &port]])
    }

    /// Nothing passes between `port` and the `clients`, which are ports of established connections; new connections
    /// are not affected.
    pub(crate) fn black_hole(port: u16, clients: &[u16]) -> Result<Self> {
        let port = port.to_string();
        let clients: Vec<String> = clients.iter().map(u16::to_string).collect();
        let of = |client: &'_ String| {
            let there = ["--sport", client, "--dport", &port].map(str::to_owned);
            let back = ["--sport", &port, "--dport", client].map(str::to_owned);
            [there, back]
        };
        let rules: Vec<[String; 4]> = clients.iter().flat_map(of).collect();
        let rules: Vec<Vec<&str>> =
            rules.iter().map(|rule| rule.iter().map(String::as_str).collect()).collect();
        Self::install(&rules.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// Each packet to `port` is lost with this `probability`, and each packet from it.
    pub(crate) fn lose_some(port: u16, probability: f64) -> Result<Self> {
        let (port, probability) = (port.to_string(), probability.to_string());
        let chance = ["-m", "statistic", "--mode", "random", "--probability", &probability];
        let rule = |direction| [&[direction, port.as_str()], &chance[..]].concat();
        Self::install(&[&rule("--dport"), &rule("--sport")])
    }

    fn install(rules: &[&[&str]]) -> Result<Self> {
        rules.iter().map(|rule| install(rule)).collect::<Result<_>>().map(Self)
    }
}

fn install(matches: &[&str]) -> Result<Undo> {
    let rule = [&["INPUT", "-i", "lo", "-p", "tcp"], matches, &["-j", "DROP"]].concat();
    run(&[&["-I"], &rule[..]].concat())?;
    let rule: Vec<String> = rule.into_iter().map(str::to_owned).collect();
    Ok(Undo::by(move || {
        let removal: Vec<&str> = ["-D"].into_iter().chain(rule.iter().map(String::as_str)).collect();
        drop(run(&removal));
    }))
}

/// Waits for the lock of the tables, which others may hold.
fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new("iptables").arg("-w").args(arguments).output().context("running iptables")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "iptables {}: {}", arguments.join(" "), said.trim());
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    crate::own::tests!(rules_hold_until_they_are_dropped);

    fn rules_hold_until_they_are_dropped() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let try_connect = || TcpStream::connect_timeout(&address, Duration::from_millis(300));
        let established = try_connect().unwrap();
        let its_port = established.local_addr().unwrap().port();
        let rules = Rules::black_hole(address.port(), &[its_port]).unwrap();
        assert!(try_connect().is_ok(), "a new connection passes");
        drop(rules);
        let rules = Rules::drop_port(address.port()).unwrap();
        assert!(try_connect().is_err());
        drop(rules);
        drop(Rules::lose_some(address.port(), 0.05).unwrap());
        assert!(try_connect().is_ok());
    }
}
