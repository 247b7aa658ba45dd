//! `channels` and `info`: what the node knows of itself.

use std::sync::Arc;

use globset::GlobBuilder;
use serde::Serialize;

use super::Api;
use super::reply::{Answer, Failure};
use crate::model::Channel;

/// Longest glob, in bytes: it is compiled for each request.
const PATTERN_BYTES_MAX: usize = 1024;

/// How many subscribers a channel has.
#[derive(Debug, Serialize)]
pub(super) struct Subscribers {
    num_clients: usize,
}

/// A node, as `info` describes it.
#[derive(Debug, Serialize)]
pub(super) struct NodeInfo {
    uid: String,
    name: String,
    version: &'static str,
    num_clients: usize,
    num_users: usize,
    num_channels: usize,
    num_subs: usize,
    /// In seconds.
    uptime: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
}

#[derive(Debug, Serialize)]
struct Process {
    /// Resident memory, in bytes.
    rss: u64,
}

impl Api {
    /// Channels with subscribers whose name the glob `pattern` matches; all of them if it is empty.
    pub(super) async fn channels(&self, pattern: &str) -> Result<Answer, Failure> {
        let wanted = matcher(pattern)?;
        let node = Arc::clone(&self.node);
        // A look at every channel may take long; publications must not wait for it.
        let found = tokio::task::spawn_blocking(move || node.channels(wanted)).await;
        let found = found.map_err(|_| Failure::Internal)?.into_iter();
        let entry = |(channel, num_clients): (Channel, usize)| {
            (channel.as_str().to_owned(), Subscribers { num_clients })
        };
        Ok(Answer::Channels { channels: found.map(entry).collect() })
    }

    /// This node; others come with the cluster.
    pub(super) async fn info(&self) -> Result<Answer, Failure> {
        let node = &self.node;
        let info = NodeInfo {
            uid: node.id().to_string(),
            name: node.name().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            num_clients: node.client_count(),
            num_users: node.users().await.len(),
            num_channels: node.channel_count(),
            num_subs: node.subscription_count(),
            uptime: node.uptime().as_secs(),
            process: resident_bytes().map(|rss| Process { rss }),
        };
        Ok(Answer::Info { nodes: vec![info] })
    }
}

/// # Errors
/// [`Failure::BadRequest`] if `pattern` is not a glob, or too long to be compiled for a request.
fn matcher(pattern: &str) -> Result<impl Fn(&Channel) -> bool + Send + 'static, Failure> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(Failure::BadRequest);
    }
    let pattern = if pattern.is_empty() { "*" } else { pattern };
    // A channel is not a path: `/` is a character like others.
    let glob = GlobBuilder::new(pattern).literal_separator(false).backslash_escape(true).build();
    let glob = glob.map_err(|_| Failure::BadRequest)?.compile_matcher();
    Ok(move |channel: &Channel| glob.is_match(channel.as_str()))
}

/// Resident memory, in bytes; `None` where the system does not tell (proc(5), `status`, kB).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_glob_and_a_name_is_data() {
        let matches =
            |pattern: &str, name: &str| matcher(pattern).unwrap()(&Channel::parse(name, 255).unwrap());
        assert!(matches("", "chat:a/b"));
        assert!(matches("chat:*", "chat:a/b"));
        assert!(!matches("chat:*", "news"));
        assert!(matches("chat:?", "chat:*"));
        assert!(!matches("chat:[*]", "chat:a"));
        assert!(matches("{news,chat:[a-c]}", "chat:b"));
        assert!(matches(r"chat:\*", "chat:*"));
        for bad in ["[", "{a", &"a".repeat(PATTERN_BYTES_MAX + 1)] {
            assert!(matcher(bad).is_err(), "{bad:.20}");
        }
    }

    #[test]
    fn a_process_has_memory() {
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
