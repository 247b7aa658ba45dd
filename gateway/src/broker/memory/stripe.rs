//! A share of the channels, behind one lock: who is subscribed, what is kept, which keys are known.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::answers::{self, Answers};
use super::expiry::{self, Tick, Wheel};
use super::stream::Stream;
use crate::broker::{Draft, History, PublishOptions, Published, Range};
use crate::model::{Channel, Epoch, Publication};

/// Most expired things that are given back at once, or what one stream keeps: the lock is held meanwhile. Each
/// publication counts.
const EXPIRED_MAX: usize = 64;

/// What the wheel holds.
enum Filed {
    Stream(Channel),
    Answer(answers::Key),
}

/// The state of some channels.
pub(super) struct Stripe {
    pub(super) subscribed: HashSet<Channel>,
    streams: HashMap<Channel, Stream>,
    answers: Answers,
    wheel: Wheel<Filed>,
}

/// What a call of publish comes to.
pub(super) struct Accepted {
    /// What became of each draft.
    pub(super) published: Vec<Published>,
    /// What is to be delivered.
    pub(super) publications: Vec<Arc<Publication>>,
    /// The epoch of its offsets.
    pub(super) epoch: Option<Epoch>,
}

impl Stripe {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            subscribed: HashSet::new(),
            streams: HashMap::new(),
            answers: Answers::default(),
            wheel: Wheel::new(now),
        }
    }

    /// Decides about each draft and keeps what is to be kept.
    pub(super) fn accept(
        &mut self,
        channel: &Channel,
        drafts: Vec<Draft>,
        options: PublishOptions,
        now: Instant,
    ) -> Accepted {
        self.expire(now);
        let Self { streams, answers, wheel, .. } = self;
        let mut kept =
            options.retention.map(|retention| (live(streams, channel, retention.meta_ttl, now), retention));
        let mut published = Vec::with_capacity(drafts.len());
        let mut publications = Vec::with_capacity(drafts.len());
        for mut draft in drafts {
            let key = draft.idempotency_key.take().map(|key| (channel.clone(), Arc::from(key)));
            if let Some(position) = key.as_ref().and_then(|key| answers.find(key, now)) {
                published.push(Published { position, is_suppressed: true });
                continue;
            }
            let (answer, publication) = match &mut kept {
                Some((stream, retention)) => stream.append(draft, retention, now),
                None => pass(draft),
            };
            if let Some(key) = key {
                let expires_at = expiry::after(now, options.idempotency_ttl);
                wheel.file(Filed::Answer(key.clone()), expires_at);
                answers.remember(key, answer.position.clone(), expires_at);
            }
            published.push(answer);
            publications.extend(publication);
        }
        let epoch = kept.map(|(stream, _)| {
            file(wheel, channel, stream);
            stream.epoch().clone()
        });
        Accepted { published, publications, epoch }
    }

    /// Reads a part of a history, which is made if there is none.
    pub(super) fn history(
        &mut self,
        channel: &Channel,
        range: &Range,
        meta_ttl: Duration,
        now: Instant,
    ) -> History {
        self.expire(now);
        let stream = live(&mut self.streams, channel, meta_ttl, now);
        file(&mut self.wheel, channel, stream);
        History { top: stream.top(), publications: stream.read(range) }
    }

    /// Drops what is kept of `channel`.
    pub(super) fn remove_history(&mut self, channel: &Channel) {
        if let Some(stream) = self.streams.get_mut(channel) {
            stream.clear();
        }
    }

    /// Gives back some of what has expired. Answers `true` if there may be more.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut expired = 0;
        while expired < EXPIRED_MAX {
            expired += 1;
            match self.wheel.take(now) {
                Some((tick, Filed::Stream(channel))) => expired += self.expire_stream(&channel, tick, now),
                Some((_, Filed::Answer(key))) => {
                    if let Some(deadline) = self.answers.expire(&key, now) {
                        self.wheel.file(Filed::Answer(key), deadline);
                    }
                }
                None => return false,
            }
        }
        true
    }

    /// Gives back what a stream need not keep any more. Answers how many publications that is.
    fn expire_stream(&mut self, channel: &Channel, tick: Tick, now: Instant) -> usize {
        let Some(stream) = self.streams.get_mut(channel) else { return 0 };
        if stream.filed != Some(tick) {
            // It was filed again for an earlier tick, or is another stream by now.
            return 0;
        }
        stream.filed = None;
        let kept = stream.kept();
        let is_needed = stream.expire(now);
        let expired = kept - stream.kept();
        if is_needed {
            file(&mut self.wheel, channel, stream);
        } else {
            self.streams.remove(channel);
        }
        expired
    }

    /// How much the wheel holds.
    #[cfg(test)]
    pub(super) fn filed(&self) -> usize {
        self.wheel.len()
    }

    /// Streams, kept publications and keys that take memory.
    #[cfg(test)]
    pub(super) fn weight(&self) -> (usize, usize, usize) {
        let kept = self.streams.values().map(Stream::kept).sum();
        (self.streams.len(), kept, self.answers.len())
    }
}

/// Publishes `draft` without keeping it.
fn pass(draft: Draft) -> (Published, Option<Arc<Publication>>) {
    let publication = Publication { offset: 0, ..draft.publication };
    (Published { position: None, is_suppressed: false }, Some(Arc::new(publication)))
}

/// The stream of `channel` as it is at `now`: a new one if there is none or its time is over.
fn live<'a>(
    streams: &'a mut HashMap<Channel, Stream>,
    channel: &Channel,
    meta_ttl: Duration,
    now: Instant,
) -> &'a mut Stream {
    if !streams.get_mut(channel).is_some_and(|stream| stream.expire(now)) {
        streams.insert(channel.clone(), Stream::new(now, meta_ttl));
    }
    let stream = streams.get_mut(channel).expect("it is there or was just put there");
    stream.touch(now, meta_ttl);
    stream
}

/// Makes sure that the wheel hands `stream` out at its deadline or before.
///
/// A deadline that moves on costs nothing: it is looked at again when the earlier one has come.
fn file(wheel: &mut Wheel<Filed>, channel: &Channel, stream: &mut Stream) {
    let deadline = stream.deadline();
    if stream.filed.is_none_or(|filed| wheel.tick(deadline) < filed) {
        stream.filed = Some(wheel.file(Filed::Stream(channel.clone()), deadline));
    }
}
