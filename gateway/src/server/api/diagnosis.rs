//! `channels` and `info`: what the nodes know of themselves.

use serde::Serialize;

use super::Api;
use super::reply::{Answer, Failure};
use crate::cluster::{Glob, Report, Silent};

/// How many subscribers a channel has.
#[derive(Debug, Serialize)]
pub(super) struct Subscribers {
    num_clients: u64,
}

/// A node that did not answer in time.
#[derive(Debug, Serialize)]
pub(super) struct Unanswered {
    uid: String,
    name: String,
}

impl From<Silent> for Unanswered {
    fn from(silent: Silent) -> Self {
        Self { uid: silent.id.to_string(), name: silent.name }
    }
}

/// A node, as `info` describes it.
#[derive(Debug, Serialize)]
pub(super) struct NodeInfo {
    uid: String,
    name: String,
    version: String,
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
    /// Share of one CPU, in percent.
    cpu: f64,
    /// Resident memory, in bytes.
    rss: u64,
}

impl From<Report> for NodeInfo {
    fn from(report: Report) -> Self {
        Self {
            uid: report.id.to_string(),
            name: report.name,
            version: report.release,
            num_clients: report.load.clients,
            num_users: report.load.users,
            num_channels: report.load.channels,
            num_subs: report.load.subscriptions,
            uptime: report.uptime.as_secs(),
            process: report.process.map(|process| Process { cpu: process.cpu, rss: process.rss }),
        }
    }
}

impl Api {
    /// Channels with subscribers whose name the glob `pattern` matches; all of them if it is empty. Summed over the
    /// nodes that answer within a second.
    pub(super) async fn channels(&self, pattern: &str) -> Result<Answer, Failure> {
        let glob = Glob::parse(pattern).map_err(|_| Failure::BadRequest)?;
        let survey = self.node.cluster().survey(&glob).await;
        let channels = survey.channels.into_iter();
        Ok(Answer::Channels {
            channels: channels.map(|(channel, num_clients)| (channel, Subscribers { num_clients })).collect(),
            unanswered: survey.unanswered.into_iter().map(Unanswered::from).collect(),
        })
    }

    /// This node as it is now, then the others as they were at their last heartbeat.
    pub(super) async fn info(&self) -> Result<Answer, Failure> {
        let cluster = self.node.cluster();
        let nodes = std::iter::once(cluster.report().await).chain(cluster.others());
        Ok(Answer::Info { nodes: nodes.map(NodeInfo::from).collect() })
    }
}
