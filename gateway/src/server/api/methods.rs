//! What each method asks of the node.

use std::collections::{HashMap, HashSet};

use tokio::task::coop::consume_budget;

use super::call::{Advice, Broadcast, Call, Disconnect, OfChannel, Publish, Subscribe, Unsubscribe};
use super::reply::{Answer, Failure};
use super::{Api, payload};
use crate::auth::Refusal;
use crate::metrics::Source;
use crate::model::{Channel, ClientId, CloseReason, Publication, UserId};
use crate::node::{Order, Target};

/// What a client is told that is closed without a word of the caller.
const FORCE_DISCONNECT: (u32, &str) = (3503, "force disconnect");
/// What fits into a close frame beside the code (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadChannel => Self::BadRequest,
            Refusal::UnknownNamespace => Self::UnknownChannel,
            Refusal::Denied => Self::PermissionDenied,
        }
    }
}

/// Publications that go to one channel in one piece.
struct Run {
    channel: Channel,
    publications: Vec<Publication>,
    /// Where each came from, in the order of the calls.
    positions: Vec<usize>,
}

impl Api {
    /// Carries out one call.
    pub(super) async fn execute(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        match call {
            Call::Publish(request) => self.publish(request).await,
            Call::Broadcast(request) => self.broadcast(request).await,
            Call::Subscribe(request) => self.subscribe(request),
            Call::Unsubscribe(request) => self.unsubscribe(request),
            Call::Disconnect(request) => self.disconnect(request),
            Call::Channels(request) => self.channels(&request.pattern).await,
            Call::Info => self.info().await,
            Call::Rpc(request) if request.method.is_empty() => Err(Failure::BadRequest),
            Call::Rpc(_) => Err(Failure::NotFound),
            Call::OfChannel(_, request) => self.not_available(request),
            Call::Refresh => Err(Failure::NotAvailable),
        }
    }

    fn channel(&self, name: &str) -> Result<Channel, Failure> {
        Ok(self.context.authority.channel(name)?)
    }

    async fn publish(&self, request: &Publish<'_>) -> Result<Answer, Failure> {
        let (channel, publication) = self.prepare(request)?;
        self.send(&channel, vec![publication]).await?;
        Ok(Answer::Done {})
    }

    fn prepare(&self, request: &Publish<'_>) -> Result<(Channel, Publication), Failure> {
        let channel = self.channel(&request.channel)?;
        let data = payload::required(request.data, &request.b64data)?;
        Ok((channel, Publication { tags: request.tags.clone(), ..Publication::of(data) }))
    }

    async fn send(&self, channel: &Channel, publications: Vec<Publication>) -> Result<(), Failure> {
        let count = publications.len();
        self.node.publish(channel, publications).await?;
        self.node.metrics().publications_received(Source::Api, count);
        Ok(())
    }

    /// Publishes a run of calls, those for one channel in one piece and in their order.
    ///
    /// So a burst enters each inbox in one push. Answers in the order of the calls.
    pub(super) async fn publish_all(&self, requests: &[&Publish<'_>]) -> Vec<Result<Answer, Failure>> {
        let mut results = Vec::with_capacity(requests.len());
        for run in self.group(requests, &mut results) {
            consume_budget().await;
            if let Err(failure) = self.send(&run.channel, run.publications).await {
                for position in run.positions {
                    results[position] = Err(failure);
                }
            }
        }
        results
    }

    /// The runs of `requests`, in the order of their first calls; `results` says what is not in any.
    fn group(&self, requests: &[&Publish<'_>], results: &mut Vec<Result<Answer, Failure>>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut known = HashMap::new();
        for (position, request) in requests.iter().enumerate() {
            let (channel, publication) = match self.prepare(request) {
                Ok(prepared) => prepared,
                Err(failure) => {
                    results.push(Err(failure));
                    continue;
                }
            };
            let index = *known.entry(channel.clone()).or_insert_with(|| {
                runs.push(Run { channel, publications: Vec::new(), positions: Vec::new() });
                runs.len() - 1
            });
            runs[index].publications.push(publication);
            runs[index].positions.push(position);
            results.push(Ok(Answer::Done {}));
        }
        runs
    }

    async fn broadcast(&self, request: &Broadcast<'_>) -> Result<Answer, Failure> {
        if request.channels.is_empty() {
            return Err(Failure::BadRequest);
        }
        let data = payload::required(request.data, &request.b64data)?;
        let publication = Publication { tags: request.tags.clone(), ..Publication::of(data) };
        let mut responses = Vec::with_capacity(request.channels.len());
        for name in &request.channels {
            // A broker that never waits would otherwise hold the thread for as long as the list is.
            consume_budget().await;
            let result = match self.channel(name) {
                Ok(channel) => self.send(&channel, vec![publication.clone()]).await,
                Err(failure) => Err(failure),
            };
            responses.push(result.map(|()| Answer::Done {}).into());
        }
        Ok(Answer::Broadcast { responses })
    }

    fn subscribe(&self, request: &Subscribe<'_>) -> Result<Answer, Failure> {
        let channel = self.channel(&request.channel)?;
        let data = payload::optional(request.data, &request.b64data)?;
        if let Some(target) = target(&request.user, &request.client, &request.session) {
            self.node.order(&target, &Order::Subscribe { channel, data });
        }
        Ok(Answer::Done {})
    }

    fn unsubscribe(&self, request: &Unsubscribe) -> Result<Answer, Failure> {
        let channel = self.channel(&request.channel)?;
        if let Some(target) = target(&request.user, &request.client, &request.session) {
            self.node.order(&target, &Order::Unsubscribe { channel });
        }
        Ok(Answer::Done {})
    }

    fn disconnect(&self, request: &Disconnect) -> Result<Answer, Failure> {
        let reason = close_reason(&request.disconnect)?;
        let except: HashSet<_> = request.whitelist.iter().filter_map(|id| ClientId::parse(id)).collect();
        if let Some(target) = target(&request.user, &request.client, &request.session) {
            self.node.disconnect(&target, &reason, except);
        }
        Ok(Answer::Done {})
    }

    fn not_available(&self, request: &OfChannel) -> Result<Answer, Failure> {
        self.channel(&request.channel)?;
        Err(Failure::NotAvailable)
    }
}

/// Whom a request addresses; `None` if no connection can be meant, which is no error.
///
/// Connections here have no session ids, so whoever names one names nobody.
fn target(user: &str, client: &str, session: &str) -> Option<Target> {
    if !session.is_empty() {
        return None;
    }
    let client = if client.is_empty() { None } else { Some(ClientId::parse(client)?) };
    Some(Target { user: UserId::parse(user).ok()?, client })
}

/// What the caller wants clients to be told.
///
/// # Errors
/// [`Failure::BadRequest`] for a code outside of 3000–4999, or a reason that is empty, too long for a close
/// frame, or a JSON object, which SDKs would read as advice of an older protocol.
fn close_reason(advice: &Advice) -> Result<CloseReason, Failure> {
    let code = advice.code.unwrap_or(FORCE_DISCONNECT.0);
    let reason = advice.reason.as_deref().unwrap_or(FORCE_DISCONNECT.1);
    let is_object =
        reason.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(reason).is_ok();
    match u16::try_from(code) {
        Ok(code @ 3000..=4999) if (1..=REASON_BYTES_MAX).contains(&reason.len()) && !is_object => {
            Ok(CloseReason::Disconnected { code, reason: reason.to_owned() })
        }
        _ => Err(Failure::BadRequest),
    }
}
