//! Publishing: to one channel, to many, and in runs.

use std::collections::HashMap;
use std::time::Instant;

use tokio::task::coop::consume_budget;

use super::call::Publish;
use super::reply::{Answer, Failure};
use super::{Api, payload};
use crate::broker::{Draft, PublishOptions, Published};
use crate::metrics::{Origin, Source};
use crate::model::{Channel, ClientId, Publication};

/// Publications that go to one channel in one piece.
struct Run {
    channel: Channel,
    skip_history: bool,
    drafts: Vec<Draft>,
    /// Where each came from, in the order of the calls.
    positions: Vec<usize>,
}

impl Api {
    pub(super) async fn publish(&self, request: &Publish<'_>) -> Result<Answer, Failure> {
        let channel = self.channel(&request.channel)?;
        let draft = self.draft(&channel, request)?;
        self.publish_to(&channel, draft, request.skip_history).await
    }

    /// Publishes the same to each of `channels`. Answers for each, in their order.
    pub(super) async fn broadcast(
        &self,
        channels: &[String],
        request: &Publish<'_>,
    ) -> Result<Answer, Failure> {
        if channels.is_empty() {
            return Err(Failure::BadRequest);
        }
        let draft = draft(request)?;
        let admits = |channel: &Channel| self.admits(channel, &draft);
        let mut responses = Vec::with_capacity(channels.len());
        for name in channels {
            // A broker that never waits would otherwise hold the thread for as long as the list is.
            consume_budget().await;
            let result = match self.channel(name).and_then(|channel| admits(&channel).map(|()| channel)) {
                Ok(channel) => self.publish_to(&channel, draft.clone(), request.skip_history).await,
                Err(failure) => Err(failure),
            };
            responses.push(result.into());
        }
        Ok(Answer::Broadcast { responses })
    }

    fn draft(&self, channel: &Channel, request: &Publish<'_>) -> Result<Draft, Failure> {
        let draft = draft(request)?;
        self.admits(channel, &draft).map(|()| draft)
    }

    /// # Errors
    /// [`Failure::BadRequest`] for data that the channel's namespace does not take.
    fn admits(&self, channel: &Channel, draft: &Draft) -> Result<(), Failure> {
        let format = self.context.authority.data_format(channel);
        if format.admits(&draft.publication.data) { Ok(()) } else { Err(Failure::BadRequest) }
    }

    async fn publish_to(
        &self,
        channel: &Channel,
        draft: Draft,
        skip_history: bool,
    ) -> Result<Answer, Failure> {
        let published = self.send(channel, vec![draft], skip_history).await?;
        Ok(published.into_iter().next().map_or(Answer::Done {}, Answer::from))
    }

    /// What is suppressed, because of its key or version, is not counted as received.
    async fn send(
        &self,
        channel: &Channel,
        drafts: Vec<Draft>,
        skip_history: bool,
    ) -> Result<Vec<Published>, Failure> {
        let (options, namespace) = self.context.authority.publish_options(channel);
        let origin = Origin { source: Source::Api, namespace };
        let retention = options.retention.filter(|_| !skip_history);
        let (metrics, count, started_at) = (self.node.metrics(), drafts.len(), Instant::now());
        let published = self.node.publish(channel, drafts, PublishOptions { retention, ..options }).await;
        metrics.publish_answered(origin, started_at.elapsed());
        let published =
            published.inspect_err(|error| metrics.publications_failed(origin, error.label(), count))?;
        let count = published.iter().filter(|published| !published.is_suppressed).count();
        metrics.publications_received(origin, count);
        metrics.publications_suppressed(published.len() - count);
        Ok(published)
    }

    /// Publishes a run of calls, those for one channel in one piece and in their order.
    ///
    /// So a burst enters each inbox in one push. Answers in the order of the calls.
    pub(super) async fn publish_all(&self, requests: &[&Publish<'_>]) -> Vec<Result<Answer, Failure>> {
        let mut results = Vec::with_capacity(requests.len());
        for run in self.group(requests, &mut results) {
            consume_budget().await;
            match self.send(&run.channel, run.drafts, run.skip_history).await {
                Ok(published) => {
                    for (position, published) in run.positions.into_iter().zip(published) {
                        results[position] = Ok(published.into());
                    }
                }
                Err(failure) => {
                    for position in run.positions {
                        results[position] = Err(failure);
                    }
                }
            }
        }
        results
    }

    /// The runs of `requests`, in the order of their first calls; `results` says what is not in any.
    ///
    /// A channel has more than one if some of its publications skip the history and others do not.
    fn group(&self, requests: &[&Publish<'_>], results: &mut Vec<Result<Answer, Failure>>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut latest: HashMap<Channel, usize> = HashMap::new();
        for (position, request) in requests.iter().enumerate() {
            let prepared = self.channel(&request.channel).and_then(|channel| {
                let draft = self.draft(&channel, request)?;
                Ok((channel, draft))
            });
            let (channel, draft) = match prepared {
                Ok(prepared) => prepared,
                Err(failure) => {
                    results.push(Err(failure));
                    continue;
                }
            };
            let skip_history = request.skip_history;
            let index = match latest.get(&channel) {
                Some(&index) if runs[index].skip_history == skip_history => index,
                _ => {
                    latest.insert(channel.clone(), runs.len());
                    runs.push(Run { channel, skip_history, drafts: Vec::new(), positions: Vec::new() });
                    runs.len() - 1
                }
            };
            runs[index].drafts.push(draft);
            runs[index].positions.push(position);
            results.push(Ok(Answer::Done {}));
        }
        runs
    }
}

/// # Errors
/// [`Failure::BadRequest`] for a payload that cannot be, or an excluded client that is no client's id.
fn draft(request: &Publish<'_>) -> Result<Draft, Failure> {
    let data = payload::published(request.data, &request.b64data)?;
    let exclude = match request.exclude_client.as_str() {
        "" => None,
        id => Some(Box::new(ClientId::parse(id).ok_or(Failure::BadRequest)?)),
    };
    Ok(Draft {
        publication: Publication { tags: request.tags.clone(), exclude, ..Publication::of(data) },
        idempotency_key: Some(&request.idempotency_key).filter(|key| !key.is_empty()).cloned(),
        version: request.version,
        version_epoch: request.version_epoch.clone(),
    })
}
