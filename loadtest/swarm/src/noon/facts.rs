//! What came of a run: plain data, of which judgement and report are made.

use std::time::Duration;

use serde::Serialize;

use crate::findings::{CrowdFindings, PublishFindings};
use crate::mark::Mark;

/// Everything that is known of a run. Times are since its start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// The time in which nothing happened.
    pub calm: Span,
    /// The time from the first thing that happened to the last.
    pub trouble: Span,
    /// What the clients went through.
    pub crowd: CrowdFindings,
    /// What clients went through that were connected to a node directly and not dropped (in a storm).
    pub witnesses: Option<CrowdFindings>,
    /// What the back end went through.
    pub publish: PublishFindings,
    /// The nodes that were told to end.
    pub ends: Vec<NodeEnd>,
    /// How many connections each node that was left had at the end.
    pub connections_at_end: Vec<(String, u64)>,
    /// Who was present after a node was killed.
    pub presence: Option<PresenceCheck>,
    /// When what had broken was there again.
    pub healed_at: Option<Duration>,
    /// What happened, in its order.
    pub marks: Vec<Mark>,
    /// What nodes said of themselves, in its order.
    pub samples: Vec<Sample>,
}

/// A time with its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Its start.
    pub from: Duration,
    /// Its end.
    pub until: Duration,
}

impl Span {
    /// Whether `at` lies in it.
    pub fn contains(self, at: Duration) -> bool {
        (self.from..=self.until).contains(&at)
    }
}

/// The end of a node that was told to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeEnd {
    /// Which.
    pub node: String,
    /// When it was sent SIGTERM.
    pub told_at: Duration,
    /// When it had ended, or when nobody waited for it any longer.
    pub ended_at: Duration,
    /// Its exit code; `None` if a signal ended it, or nothing did.
    pub code: Option<i32>,
}

/// Who the gateway says is present, against who is connected; summed over channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PresenceCheck {
    /// Present and not connected.
    pub ghosts: u64,
    /// Connected and not present.
    pub missing: u64,
}

/// What a node said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// When.
    pub at: Duration,
    /// Which.
    pub node: String,
    /// How many clients are connected to it.
    pub connections: u64,
    /// Whether it is about to end.
    pub draining: bool,
}
