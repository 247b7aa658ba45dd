//! The broker that nodes share: Redis relays, and keeps histories.
//!
//! Publishing and keeping are one script. What is heard goes from the connection through the queue of its worker and
//! the [`flow`] of its channel to the receiver: in order, once, and with what was missed read from the history. It
//! knows no connection: `crate::redis` sees to those.

mod envelope;
mod feed;
mod flow;
mod flows;
mod history;
mod reads;
mod window;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;

use self::feed::Feed;
use super::{Broker, BrokerError, Draft, History, PublishOptions, Published, Range, Receiver};
use crate::metrics::Metrics;
use crate::model::{Channel, Epoch, Notice, Position};
use crate::redis::{Call, Failure, Redis, Script, script};
use crate::telemetry::traces::Traces;

static PUBLISH: Script = script!("publish.lua");

/// See the module's doc.
pub struct RedisBroker {
    redis: Arc<Redis>,
    feed: Arc<Feed>,
    traces: Traces,
}

impl From<Failure> for BrokerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable => Self::Unavailable,
            Failure::Refused(_) => Self::Refused,
            Failure::Full => Self::Full,
        }
    }
}

impl RedisBroker {
    /// A broker that delivers to `receiver`. Works on `runtime` until it is dropped. Traces nothing.
    pub fn new(
        redis: Arc<Redis>,
        receiver: Arc<dyn Receiver>,
        metrics: Arc<Metrics>,
        runtime: &Handle,
    ) -> Arc<Self> {
        Self::traced(redis, receiver, metrics, runtime, Traces::default())
    }

    /// The same, with a span for each command that publishes what is traced.
    pub fn traced(
        redis: Arc<Redis>,
        receiver: Arc<dyn Receiver>,
        metrics: Arc<Metrics>,
        runtime: &Handle,
        traces: Traces,
    ) -> Arc<Self> {
        let feed = Feed::start(Arc::clone(&redis), receiver, metrics, runtime);
        Arc::new(Self { redis, feed, traces })
    }

    /// Sends an envelope that is kept nowhere.
    async fn send(&self, channel: &Channel, envelope: Vec<u8>) -> Result<(), BrokerError> {
        let call = Call::command("PUBLISH").arg(self.redis.names().relay(channel)).arg(envelope);
        // How many heard it says nothing: those of this server alone, and no proof that one will deliver it.
        self.redis.instance_of(channel).call::<u64>(call).await?;
        Ok(())
    }

    /// Sends what is kept nowhere, and of which no repetition is known.
    async fn relay(&self, channel: &Channel, drafts: &[Draft]) -> Result<Vec<Published>, BrokerError> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let mut envelope = envelope::head();
        drafts.iter().for_each(|draft| envelope.extend(envelope::publication(&draft.publication)));
        self.send(channel, envelope).await?;
        Ok(vec![Published { position: None, is_suppressed: false }; drafts.len()])
    }

    async fn run_script(
        &self,
        channel: &Channel,
        drafts: &[Draft],
        options: PublishOptions,
    ) -> Result<Vec<Published>, BrokerError> {
        let names = self.redis.names();
        let mut keys = vec![names.of_channel("meta", channel), names.of_channel("stream", channel)];
        let answered = drafts.iter().filter_map(|draft| draft.idempotency_key.as_deref());
        // The length keeps apart a channel and a key that together look like another pair.
        let kind = format!("idem.{}", channel.as_str().len());
        keys.extend(answered.map(|key| format!("{}:{key}", names.of_channel(&kind, channel))));
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let instance = self.redis.instance_of(channel);
        let (size, ttl, meta_ttl) =
            options.retention.map_or((0, Duration::ZERO, Duration::ZERO), |retention| {
                (retention.size, retention.ttl, retention.meta_ttl)
            });
        let known = options.retention.and_then(|_| self.feed.position(channel));
        let mut call = Call::script(&PUBLISH, &keys)
            .arg(names.relay(channel))
            .arg(envelope::head())
            .arg(Epoch::random().as_str())
            .arg(&*instance.lineage())
            .arg(size)
            .arg(milliseconds(ttl))
            .arg(milliseconds(meta_ttl))
            .arg(milliseconds(options.idempotency_ttl))
            .arg(known.as_ref().map_or("", |known| known.epoch.as_str()))
            .arg(known.as_ref().map(|known| known.offset.to_string()).unwrap_or_default());
        for draft in drafts {
            // As texts of one length they compare as numbers do; a number of Lua would lose the last digits.
            let version = if draft.version > 0 { format!("{:020}", draft.version) } else { String::new() };
            call = call
                .arg(if draft.idempotency_key.is_some() { "k" } else { "" })
                .arg(version)
                .arg(&draft.version_epoch)
                .arg(envelope::publication(&draft.publication));
        }
        let answers = instance.call::<Vec<(String, u64, u8)>>(call).await?;
        Ok(answers.into_iter().map(published).collect())
    }
}

/// What the script answered of a draft.
fn published((epoch, offset, suppressed): (String, u64, u8)) -> Published {
    let position = (!epoch.is_empty()).then(|| Position { epoch: Epoch::new(&epoch), offset });
    Published { position, is_suppressed: suppressed == 1 }
}

/// As Redis wants it: at least 1, and nothing that overflows when it is added to a time of day.
fn milliseconds(duration: Duration) -> u64 {
    const MAX: u64 = 1 << 52;
    u64::try_from(duration.as_millis()).unwrap_or(MAX).clamp(1, MAX)
}

#[async_trait]
impl Broker for RedisBroker {
    async fn subscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        // First, so that nothing comes that nobody knows.
        self.feed.open(channel);
        let name = self.redis.names().relay(channel);
        self.redis.instance_of(channel).subscribe(&name).await?;
        self.feed.confirm(channel);
        Ok(())
    }

    async fn unsubscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.feed.close(channel);
        let name = self.redis.names().relay(channel);
        Ok(self.redis.instance_of(channel).unsubscribe(&name).await?)
    }

    async fn publish(
        &self,
        channel: &Channel,
        drafts: Vec<Draft>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, BrokerError> {
        let is_plain =
            options.retention.is_none() && drafts.iter().all(|draft| draft.idempotency_key.is_none());
        let name = if is_plain { "PUBLISH" } else { "EVALSHA" };
        let command = self.traces.command(name, drafts.iter().map(|draft| &draft.publication));
        let published = if is_plain {
            self.relay(channel, &drafts).await
        } else {
            self.run_script(channel, &drafts, options).await
        };
        command.end(published.as_ref().err().map(|error| error.label()));
        published
    }

    async fn announce(&self, channel: &Channel, notice: Notice) -> Result<(), BrokerError> {
        self.send(channel, envelope::notice(&notice)).await
    }

    async fn history(
        &self,
        channel: &Channel,
        range: Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        self.feed.history(channel, &range, meta_ttl).await
    }

    async fn catch_up(
        &self,
        channel: &Channel,
        epoch: &str,
        range: Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        self.feed.catch_up(channel, epoch, &range, meta_ttl).await
    }

    async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError> {
        // First, as it may be removed even if nobody hears so.
        self.feed.removing(channel);
        let call = Call::command("DEL").arg(self.redis.names().of_channel("stream", channel));
        self.redis.instance_of(channel).call::<u64>(call).await?;
        self.feed.removed(channel).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
