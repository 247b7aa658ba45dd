//! The end of a scene: everybody gets to the top of each history, or was told; then the oracle judges.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::journal::{End, Entry};
use crate::oracle::{self, Position};
use crate::probe::Probe;
use crate::publisher::Answered;
use crate::scenario::Scene;
use crate::wait;

/// After this everybody must have seen the top.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it is looked whether service stays resumed: three position checks. Who is told twice of one loss may lose
/// the subscription that it made after the first time.
const AFTERMATH: Duration = Duration::from_secs(3);

impl Scene {
    /// Waits until service has resumed and everybody has caught up, and judges what was seen. Once.
    ///
    /// # Errors
    /// The scene cannot be judged: no node tells where histories end.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        if self.is_judged {
            return Ok(());
        }
        self.is_judged = true;
        if self.healed.is_none() {
            self.heals();
        }
        self.recovered_in = self.recovery().await;
        self.stop_publishing().await?;
        let tops = self.tops().await?;
        let behind =
            wait::until("everybody to reach the top", PATIENCE, async || Ok(self.are_at(&tops))).await;
        let heard = self.all_hear(true, PATIENCE).await;
        let book = self.desk.book();
        let records: Vec<_> = self.probes.iter().flat_map(|probe| probe.journal().records()).collect();
        let findings = oracle::judge(&book.acks, &records, &tops);
        drop(book);
        self.report.found(findings);
        self.report.require(behind.is_ok(), "not everybody reached the top");
        self.report.require(heard.is_ok(), "not every node hears its broker");
        self.record_times();
        self.record_answers();
        self.record_clients();
        self.check_nodes();
        Ok(())
    }

    /// How long it took from the heal until every subscription got something that was published later; nothing if
    /// nobody publishes.
    async fn recovery(&mut self) -> Option<Duration> {
        let (healed_at, number) = self.healed?;
        if self.publishers.is_empty() {
            return None;
        }
        let first = self.everybody_got(number, PATIENCE).await;
        tokio::time::sleep(AFTERMATH).await;
        let last = self.everybody_got(self.desk.next_number(), PATIENCE).await;
        for error in [first.as_ref().err(), last.as_ref().err()].into_iter().flatten() {
            self.report.failed(error);
        }
        Some(first.ok()?.duration_since(healed_at))
    }

    /// Where the history of each channel that has one ends.
    async fn tops(&self) -> Result<HashMap<Arc<str>, Position>> {
        let mut tops = HashMap::new();
        let has_history = |channel: &&Arc<str>| channel.starts_with("kept:") || channel.starts_with("both:");
        for channel in self.channels.iter().filter(has_history) {
            let mut top = None;
            wait::until("the top of a history", PATIENCE, async || {
                top = self.top(channel).await.ok();
                Ok(top.is_some())
            })
            .await?;
            tops.insert(Arc::clone(channel), top.context("it was waited for")?);
        }
        Ok(tops)
    }

    /// Where the history of a channel ends now, as some node says.
    pub(crate) async fn top(&self, channel: &str) -> Result<Position> {
        let (node, _) = self.fleet.api_from(rand::random_range(0..self.fleet.len()));
        let history = self.nodes[node].api("history", &json!({"channel": channel})).await?;
        let epoch = history["epoch"].as_str().context("a history has an epoch")?;
        Ok(Position::new(epoch, history["offset"].as_u64().unwrap_or(0)))
    }

    fn are_at(&self, tops: &HashMap<Arc<str>, Position>) -> bool {
        self.probes.iter().all(|probe| {
            let journal = probe.journal();
            tops.iter().all(|(channel, top)| journal.is_at(channel, top))
        })
    }

    fn record_times(&mut self) {
        let detections = self.detections().into_iter().enumerate();
        let detections = detections.filter(|(node, _)| !self.disturbed.contains(node));
        let detection = detections.filter_map(|(_, time)| time).max();
        self.report.seconds("t_detect", detection);
        self.report.seconds("t_recover", self.recovered_in);
        let resident = self.watches.iter().map(|watch| watch.sighting().resident_bytes_max).max();
        self.report.figure("rss_peak", format!("{}MB", resident.unwrap_or(0) >> 20));
    }

    fn record_answers(&mut self) {
        let attempts = self.desk.attempts_since(self.fault_at);
        let count = |is_meant: fn(&Answered) -> bool| {
            attempts.iter().filter(|attempt| is_meant(&attempt.answered)).count()
        };
        let unadvised = count(|answered| matches!(answered, Answered::Unavailable { has_advice: false }));
        let odd = attempts.iter().find_map(|attempt| match &attempt.answered {
            Answered::Otherwise(text) => Some(text.clone()),
            _ => None,
        });
        let unavailable = count(|answered| matches!(answered, Answered::Unavailable { .. }));
        let slowest = attempts.iter().map(|attempt| attempt.took).max();
        let given_up = self.desk.book().given_up;
        self.report.figure("publishes", attempts.len());
        self.report.figure("unavailable", unavailable);
        self.report.seconds("slowest_publish", slowest);
        self.report.require(unadvised == 0, format!("{unadvised} answers 503 have no Retry-After"));
        self.report.require(odd.is_none(), format!("a publish is answered {odd:?}"));
        self.report.require(given_up == 0, format!("{given_up} publications were never accepted"));
    }

    fn record_clients(&mut self) {
        let told = self.count(|entry| matches!(entry, Entry::Unsubscribed(_)));
        let final_ends = self.final_ends();
        let closes = self.closes();
        self.report.figure("closes", closes);
        self.report.figure("told", told);
        let first = final_ends.first();
        self.report
            .require(first.is_none(), format!("{} clients may not come back: {first:?}", final_ends.len()));
    }

    /// Where a gateway told a client not to come back.
    fn final_ends(&self) -> Vec<Entry> {
        let is_final = |entry: &Entry| match entry {
            Entry::Unsubscribed(code) => *code < 2500,
            Entry::Refused { is_temporary, .. } => !is_temporary,
            Entry::Ended(End::Closed(code)) => (3500..4000).contains(code),
            _ => false,
        };
        let ends = |probe: &Probe| -> Vec<Entry> {
            let journal = probe.journal();
            let since = journal.entries.iter().filter(|noted| noted.at >= self.fault_at);
            since.map(|noted| &noted.entry).filter(|entry| is_final(entry)).cloned().collect()
        };
        self.probes.iter().flat_map(ends).collect()
    }

    /// What no fault excuses.
    fn check_nodes(&mut self) {
        for (index, (node, watch)) in self.nodes.iter().zip(&self.watches).enumerate() {
            let name = node.name();
            let panicked = node.process().output().contains("panicked");
            self.report.require(!panicked, format!("{name} panicked"));
            let (fault_at, sighting) = (self.fault_at, watch.sighting());
            let dead = sighting.not_alive.iter().filter(|at| **at >= fault_at).count();
            let counts = !self.disturbed.contains(&index);
            self.report
                .require(dead == 0 || !counts, format!("{name} did not say {dead} times that it lives"));
        }
    }
}
