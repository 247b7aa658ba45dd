use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::{Maker, Metrics, level};

/// A command that came from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeCommand {
    /// Of this kind, from a closed set.
    Known(&'static str),
    /// Of a kind or a version that this node does not know.
    Unknown,
    /// Not to be read.
    Malformed,
}

impl NodeCommand {
    fn label(self) -> &'static str {
        match self {
            Self::Known(kind) => kind,
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
        }
    }
}

/// What concerns other nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    nodes: IntGauge,
    deaths: IntCounter,
    commands: IntCounterVec,
    unanswered: IntCounter,
    revocations: IntGauge,
    rebalance_excess: IntGauge,
    draining: IntGauge,
    drain_remaining: IntGauge,
}

impl Cluster {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let commands = make.counters(
            "node_commands_received_total",
            "Commands heard from nodes of the cluster, this one included.",
            &["command"],
        );
        for command in [NodeCommand::Unknown, NodeCommand::Malformed] {
            commands.with_label_values(&[command.label()]);
        }
        Self {
            nodes: make.gauge("cluster_nodes", "Live nodes that this one knows, itself included."),
            deaths: make.counter(
                "cluster_node_deaths_total",
                "Nodes that ended without a word, and that this one cleared up after.",
            ),
            commands,
            unanswered: make.counter(
                "surveys_unanswered_total",
                "Nodes that did not answer a question of this one in time.",
            ),
            revocations: make.gauge("revocations", "Revocations of tokens that this node remembers."),
            rebalance_excess: make.gauge(
                "rebalance_excess",
                "Connections above the mean of the nodes, while this one lets go of some.",
            ),
            draining: make.gauge("draining", "Whether the node is stopping."),
            drain_remaining: make
                .gauge("drain_remaining", "Connections that a node that stops has yet to close."),
        }
    }

    /// Sets what is counted elsewhere.
    pub(super) fn look(&self, connections: usize) {
        let remaining = if self.draining.get() == 0 { 0 } else { connections };
        self.drain_remaining.set(level(remaining));
    }
}

impl Metrics {
    /// How many nodes live, this one included.
    pub fn cluster_nodes(&self, count: usize) {
        self.cluster.nodes.set(level(count));
    }

    /// A node died, and this one has cleared up after it.
    pub fn node_death(&self) {
        self.cluster.deaths.inc();
    }

    /// Whether this node is stopping.
    pub fn draining(&self, draining: bool) {
        self.cluster.draining.set(draining.into());
    }

    /// Nodes may send `command`.
    pub fn expect_node_command(&self, command: &'static str) {
        self.cluster.commands.with_label_values(&[command]);
    }

    /// A command of a node was heard.
    pub fn node_command(&self, command: NodeCommand) {
        self.cluster.commands.with_label_values(&[command.label()]).inc();
    }

    /// Nodes did not answer in time.
    pub fn survey_unanswered(&self, nodes: usize) {
        self.cluster.unanswered.inc_by(nodes as u64);
    }

    /// How many connections the node has above the mean of all; 0 if it keeps them.
    pub fn rebalance_excess(&self, connections: usize) {
        self.cluster.rebalance_excess.set(level(connections));
    }

    /// How many revocations are remembered.
    pub fn revocations(&self, count: usize) {
        self.cluster.revocations.set(level(count));
    }
}
