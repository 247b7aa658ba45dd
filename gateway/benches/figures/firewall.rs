//! Drops packets on loopback, so that connections die without either side being told.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Connections that are cut; others, and new ones, are not. Whole again when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct BlackHole {
    rules: Vec<Vec<String>>,
}

impl BlackHole {
    /// Whether this process may do that at all.
    pub(crate) fn is_permitted() -> bool {
        run(&["-S".to_owned(), "INPUT".to_owned()]).is_ok()
    }

    /// Drops all packets between `server` and each of `clients`, which are ports.
    pub(crate) fn between(server: u16, clients: &[u16]) -> Result<Self> {
        let mut hole = Self::default();
        for client in clients {
            for (from, to) in [(*client, server), (server, *client)] {
                let rule = format!("INPUT -i lo -p tcp --sport {from} --dport {to} -j DROP");
                let rule: Vec<String> = rule.split(' ').map(str::to_owned).collect();
                run(&with("-I", &rule))?;
                hole.rules.push(rule);
            }
        }
        Ok(hole)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        for rule in &self.rules {
            // Nothing can be done about one that stays; its ports are not used again soon.
            let _ = run(&with("-D", rule));
        }
    }
}

fn with(verb: &str, rule: &[String]) -> Vec<String> {
    std::iter::once(verb.to_owned()).chain(rule.iter().cloned()).collect()
}

fn run(arguments: &[String]) -> Result<()> {
    let mut command = Command::new("iptables");
    command.arg("-w").args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().context("starting iptables")?;
    ensure!(status.success(), "iptables ended with {status}");
    Ok(())
}
