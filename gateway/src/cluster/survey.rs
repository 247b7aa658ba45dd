//! Questions to all nodes, with a deadline.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::codec::{self, Answer};
use super::command::{Command, Question};
use super::{Cluster, Glob, Local, Report, mailbox};
use crate::broker::PublishOptions;
use crate::model::{Channel, NodeId, Publication};

/// How long nodes may take to answer.
const DEADLINE: Duration = Duration::from_secs(1);
/// Most channels in one part of an answer: a part with the longest names is some megabytes.
const CHANNELS_PER_PART: usize = 4_096;
/// Most parts of answers that wait to be counted; further ones are lost, and their nodes have not answered.
const PARTS_WAITING_MAX: usize = 1_024;
/// Most questions of other nodes that are looked into at a time: each looks at every channel.
const ANSWERING_MAX: usize = 4;

/// A node that did not answer in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
}

/// What the nodes answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Subscribers by channel, on all nodes that answered.
    pub channels: BTreeMap<String, u64>,
    /// The nodes that did not, in the order of their names.
    pub unanswered: Vec<Silent>,
}

/// The questions of this node that wait for answers, and those of others that it looks into.
#[derive(Debug)]
pub(super) struct Surveys {
    asked: Mutex<HashMap<u64, mpsc::Sender<Answer>>>,
    answering: tokio::sync::Semaphore,
}

impl Default for Surveys {
    fn default() -> Self {
        Self { asked: Mutex::default(), answering: tokio::sync::Semaphore::new(ANSWERING_MAX) }
    }
}

/// A question that waits for answers; asked no more when it is dropped.
struct Asked<'a> {
    surveys: &'a Surveys,
    id: u64,
    answers: mpsc::Receiver<Answer>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.surveys.asked.lock().remove(&self.id);
    }
}

impl Surveys {
    fn ask(&self) -> Asked<'_> {
        let (sender, answers) = mpsc::channel(PARTS_WAITING_MAX);
        let id = rand::random();
        self.asked.lock().insert(id, sender);
        Asked { surveys: self, id, answers }
    }

    /// Whether no question waits for answers.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.asked.lock().is_empty()
    }

    fn hear(&self, answer: Answer) {
        let asked = self.asked.lock().get(&answer.question).cloned();
        // Without a place it is as good as too late.
        if let Some(asked) = asked
            && asked.try_send(answer).is_err()
        {
            tracing::debug!("an answer of a node came too late or was too long");
        }
    }
}

/// What has come of one node's answer.
#[derive(Debug, Default)]
struct Parts {
    seen: HashSet<u32>,
    channels: Vec<(String, u64)>,
}

impl Cluster {
    /// Asks every node for its channels that `glob` matches and sums up their subscribers.
    ///
    /// Takes a second at the most; nodes that have not answered by then are named.
    pub async fn survey(&self, glob: &Glob) -> Survey {
        let mut asked = self.surveys.ask();
        let deadline = Instant::now() + DEADLINE;
        // Of whoever is known to live; one that nobody has heard of yet has no channels to speak of.
        let mut awaited: HashMap<NodeId, Report> =
            self.others().into_iter().map(|report| (report.id, report)).collect();
        let question = Question { id: asked.id, pattern: glob.as_str().to_owned() };
        // An error needs no word of its own: nobody answers then.
        let sent = tokio::time::timeout_at(deadline, self.send(Command::Survey(question)));
        let (_, own) = tokio::join!(sent, self.own_channels(glob));
        let mut survey = Survey::default();
        survey.add(own);
        let mut parts: HashMap<NodeId, Parts> = HashMap::new();
        while !awaited.is_empty() {
            let Ok(Some(answer)) = tokio::time::timeout_at(deadline, asked.answers.recv()).await else {
                break;
            };
            let heard = parts.entry(answer.from).or_default();
            if heard.seen.insert(answer.part) {
                heard.channels.extend(answer.channels);
            }
            if heard.seen.len() == answer.parts as usize {
                survey.add(std::mem::take(&mut heard.channels));
                awaited.remove(&answer.from);
            }
        }
        let silent = awaited.into_values().map(|Report { id, name, .. }| Silent { id, name });
        survey.unanswered.extend(silent);
        self.metrics.survey_unanswered(survey.unanswered.len());
        survey.unanswered.sort_by(|one, other| one.name.cmp(&other.name));
        survey
    }

    async fn own_channels(&self, glob: &Glob) -> Vec<(String, u64)> {
        match self.local.upgrade() {
            Some(local) => look(local, glob.clone()).await,
            None => Vec::new(),
        }
    }

    /// Looks into the question of another node, and answers it. Never waits.
    pub(super) fn answer(&self, local: Arc<dyn Local>, to: NodeId, question: &Question) {
        let id = question.id;
        let Ok(glob) = Glob::parse(&question.pattern) else { return };
        let cluster = self.myself.clone();
        self.backbone.spawn(async move {
            let Some(cluster) = cluster.upgrade() else { return };
            // With so many under way, who asks hears nothing, and says so.
            let Ok(_turn) = cluster.surveys.answering.try_acquire() else { return };
            let channels = look(local, glob).await;
            if cluster.send_answer(to, id, &channels).await.is_err() {
                tracing::debug!("could not answer another node");
            }
        });
    }

    async fn send_answer(
        &self,
        to: NodeId,
        question: u64,
        channels: &[(String, u64)],
    ) -> Result<(), crate::broker::BrokerError> {
        let mut chunks: Vec<_> = channels.chunks(CHANNELS_PER_PART).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let parts = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        for (part, channels) in (0..).zip(chunks) {
            let answer = Answer { from: self.id, question, part, parts, channels: channels.to_vec() };
            self.publish(&mailbox(to), codec::answer(&answer), PublishOptions::default()).await?;
        }
        Ok(())
    }

    pub(super) fn hear_answer(&self, publication: &Publication) {
        match codec::read_answer(publication.data.as_bytes()) {
            Ok(answer) => self.surveys.hear(answer),
            Err(error) => tracing::debug!(%error, "an answer of a node is skipped"),
        }
    }
}

impl Survey {
    fn add(&mut self, channels: Vec<(String, u64)>) {
        for (channel, clients) in channels {
            let sum = self.channels.entry(channel).or_default();
            *sum = sum.saturating_add(clients);
        }
    }
}

/// The channels of this node. A look at every channel may take long; publications must not wait for it.
async fn look(local: Arc<dyn Local>, glob: Glob) -> Vec<(String, u64)> {
    let looking = tokio::task::spawn_blocking(move || {
        let found = local.subscribers(&glob).into_iter();
        found.map(|(channel, clients): (Channel, usize)| (channel.to_string(), clients as u64)).collect()
    });
    // An error means that the node ends.
    looking.await.unwrap_or_default()
}
