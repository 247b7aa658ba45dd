//! What was seen on the stage since the fault began, and what is required of it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::journal::{End, Entry, Noted};
use crate::oracle::Verdict;
use crate::publisher::Answered;
use crate::scenario::Scene;
use crate::wait;
use crate::watch::Watch;

impl Scene {
    /// How long after the beginning each node said that it does not hear the broker; `None`: it did not.
    pub(crate) fn detections(&self) -> Vec<Option<Duration>> {
        let detection = |watch: &Watch| {
            let at = watch.sighting().broker_up.became(false, self.fault_at)?;
            Some(at.duration_since(self.fault_at))
        };
        self.watches.iter().map(detection).collect()
    }

    /// Waits until every node has said since the beginning that it does not hear the broker.
    pub(crate) async fn all_notice(&self, patience: Duration) -> Result<()> {
        let all = async || Ok(self.detections().iter().all(Option::is_some));
        wait::until("every node to notice", patience, all).await.map(drop)
    }

    /// Waits until every node says that it hears the broker, or that it does not; answers how long it took.
    pub(crate) async fn all_hear(&self, value: bool, patience: Duration) -> Result<Duration> {
        let what = format!("broker_up to be {} on all nodes", u8::from(value));
        let is_so = |watch: &Watch| watch.sighting().broker_up.now() == Some(value);
        wait::until(&what, patience, async || Ok(self.watches.iter().all(is_so))).await
    }

    /// Entries of all journals since the beginning that `is_meant`.
    pub(crate) fn count(&self, is_meant: impl Fn(&Entry) -> bool) -> usize {
        self.probes.iter().map(|probe| probe.journal().count_since(self.fault_at, &is_meant)).sum()
    }

    /// Connections that ended since the beginning, other than those that a client was told to end.
    pub(crate) fn closes(&self) -> usize {
        self.count(|entry| matches!(entry, Entry::Ended(end) if *end != End::Left))
    }

    /// No connection may end because of this fault.
    pub(crate) fn require_no_closes(&mut self) {
        self.require_no_closes_but(&[]);
    }

    /// The same, except for ends that the fault may well cause.
    pub(crate) fn require_no_closes_but(&mut self, expected: &[End]) {
        let ends = self.probes.iter().flat_map(|probe| probe.journal().ends_since(self.fault_at));
        let ends: Vec<End> = ends.filter(|end| *end != End::Left && !expected.contains(end)).collect();
        let kinds: HashSet<End> = ends.iter().copied().collect();
        self.report.require(ends.is_empty(), format!("{} connections ended: {kinds:?}", ends.len()));
    }

    /// A requirement of the fault.
    pub(crate) fn require(&mut self, holds: bool, what: impl Into<String>) {
        self.report.require(holds, what);
    }

    /// Every node must have noticed within `limit` that it does not hear the broker.
    pub(crate) fn require_detection(&mut self, limit: Duration) {
        let late = self.detections().iter().filter(|at| at.is_none_or(|at| at > limit)).count();
        self.report.require(late == 0, format!("{late} nodes did not notice within {limit:?}"));
    }

    /// From the heal to the first publication after it at every subscriber; known once the scene has settled.
    pub(crate) fn require_recovery(&mut self, limit: Duration) {
        let in_time = self.recovered_in.is_some_and(|time| time <= limit);
        self.report.require(in_time, format!("service did not resume within {limit:?}"));
    }

    /// No request to publish may have taken longer than `limit`, whatever the answer.
    pub(crate) fn require_answers_within(&mut self, limit: Duration) {
        let attempts = self.desk.attempts_since(self.fault_at);
        let slow = attempts.iter().filter(|attempt| attempt.took > limit).count();
        self.report.require(slow == 0, format!("{slow} publishes took longer than {limit:?}"));
    }

    /// Nobody may be told 503.
    pub(crate) fn require_no_unavailability(&mut self) {
        let unavailable = self.unavailable();
        self.report.require(unavailable == 0, format!("{unavailable} publishes were answered 503"));
    }

    /// Somebody must have been told 503: otherwise the fault had no effect.
    pub(crate) fn require_unavailability(&mut self) {
        let unavailable = self.unavailable();
        self.report.require(unavailable > 0, "no publish was answered 503");
    }

    /// What was missed was read by the nodes: no subscriber had to ask for it.
    pub(crate) fn require_healing_by_nodes(&mut self) {
        let told = self.count(|entry| matches!(entry, Entry::Unsubscribed(_)));
        self.report.require(told == 0, format!("{told} subscribers were told to catch up by themselves"));
    }

    /// How many subscriptions began with this verdict since the beginning.
    pub(crate) fn verdicts(&self, verdict: Verdict) -> usize {
        self.count(|entry| matches!(entry, Entry::Subscribed(its_verdict) if *its_verdict == verdict))
    }

    /// How many subscriptions there are.
    pub(crate) fn subscriptions(&self) -> usize {
        self.probes.iter().map(|probe| probe.journal().standings.len()).sum()
    }

    /// A metric, summed over the nodes that answer.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for (index, node) in self.nodes.iter().enumerate() {
            if !self.disturbed.contains(&index) {
                sum += node.metric(name).await.unwrap_or(0.0);
            }
        }
        sum
    }

    /// How late clients got what was published between two moments in channels with a history, at the 99th percentile.
    pub(crate) fn delay_p99(&self, from: Instant, until: Instant) -> Option<Duration> {
        let book = self.desk.book();
        let acks = book.acks.iter().filter(|ack| (from..until).contains(&ack.sent_at));
        let sent: HashMap<u64, Instant> = acks.map(|ack| (ack.number, ack.sent_at)).collect();
        let delays = |probe: &crate::probe::Probe| -> Vec<Duration> {
            let journal = probe.journal();
            let delay = |noted: &Noted| match noted.entry {
                Entry::Publication(number) => Some(noted.at.duration_since(*sent.get(&number)?)),
                _ => None,
            };
            journal.entries.iter().filter_map(delay).collect()
        };
        let mut delays: Vec<Duration> = self.probes.iter().flat_map(delays).collect();
        delays.sort_unstable();
        delays.get(delays.len() * 99 / 100).copied()
    }

    /// How many requests to publish were answered 503 since the beginning.
    pub(crate) fn unavailable(&self) -> usize {
        let attempts = self.desk.attempts_since(self.fault_at);
        attempts.iter().filter(|attempt| matches!(attempt.answered, Answered::Unavailable { .. })).count()
    }
}
