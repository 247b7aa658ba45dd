//! What each method asks of the node.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::call::{Advice, Call, Disconnect, OfChannel, Refresh, Subscribe, Unsubscribe};
use super::history::Member;
use super::reply::{Answer, Failure};
use super::{Api, payload};
use crate::auth::Refusal;
use crate::cluster::{Command, Dismissal, Order, Target};
use crate::model::{Channel, ClientId, Since, SubscriptionGrant, UserId};

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

impl Api {
    /// Carries out one call.
    pub(super) async fn execute(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        match call {
            Call::Publish(request) => self.publish(request).await,
            Call::Broadcast(channels, request) => self.broadcast(channels, request).await,
            Call::Subscribe(request) => self.subscribe(request).await,
            Call::Unsubscribe(request) => self.unsubscribe(request).await,
            Call::Disconnect(request) => self.disconnect(request).await,
            Call::Channels(request) => self.channels(&request.pattern).await,
            Call::Info => self.info().await,
            Call::Rpc(request) if request.method.is_empty() => Err(Failure::BadRequest),
            Call::Rpc(_) => Err(Failure::NotFound),
            Call::History(request) => self.history(request).await,
            Call::HistoryRemove(request) => self.remove_history(request).await,
            Call::Presence(request) => self.presence(request).await,
            Call::PresenceStats(request) => self.presence_stats(request).await,
            Call::Refresh(request) => self.refresh(request).await,
        }
    }

    pub(super) fn channel(&self, name: &str) -> Result<Channel, Failure> {
        Ok(self.context.authority.channel(name)?)
    }

    async fn subscribe(&self, request: &Subscribe<'_>) -> Result<Answer, Failure> {
        let channel = self.channel(&request.channel)?;
        let grant = SubscriptionGrant {
            info: payload::info(request.info, &request.b64info)?,
            data: payload::optional(request.data, &request.b64data)?,
            overrides: request.overrides.overrides(),
            expires_at: future(request.expire_at)?,
        };
        let since = request.recover_since.as_ref();
        let since = since.map(|since| Since { epoch: since.epoch.clone(), offset: since.offset });
        let target = target(&request.user, &request.client, &request.session);
        self.order(target, Order::Subscribe { channel, grant, since }).await
    }

    /// What has expired closes; without a time the connections never expire any more.
    async fn refresh(&self, request: &Refresh<'_>) -> Result<Answer, Failure> {
        let info = payload::info(request.info, "")?;
        let target = target(&request.user, &request.client, &request.session);
        match future(request.expire_at) {
            Ok(expires_at) if !request.expired => {
                self.order(target, Order::Refresh { expires_at, info }).await
            }
            _ => self.dismiss(target, Dismissal::Expired, HashSet::new()).await,
        }
    }

    async fn presence(&self, request: &OfChannel) -> Result<Answer, Failure> {
        let members = self.node.presence(&self.watched_channel(&request.channel)?).await?;
        let presence = members.into_iter().map(|info| (info.client.to_string(), Member(info)));
        Ok(Answer::Presence { presence: presence.collect() })
    }

    async fn presence_stats(&self, request: &OfChannel) -> Result<Answer, Failure> {
        let stats = self.node.presence_stats(&self.watched_channel(&request.channel)?).await?;
        Ok(Answer::PresenceStats { num_clients: stats.clients, num_users: stats.users })
    }

    /// The channel called `name`, if it has presence.
    fn watched_channel(&self, name: &str) -> Result<Channel, Failure> {
        let channel = self.channel(name)?;
        let has_presence = self.context.authority.has_presence(&channel);
        has_presence.then_some(channel).ok_or(Failure::NotAvailable)
    }

    async fn unsubscribe(&self, request: &Unsubscribe) -> Result<Answer, Failure> {
        let channel = self.channel(&request.channel)?;
        let target = target(&request.user, &request.client, &request.session);
        self.order(target, Order::Unsubscribe { channel }).await
    }

    async fn disconnect(&self, request: &Disconnect) -> Result<Answer, Failure> {
        let reason = dismissal(&request.disconnect)?;
        let except = request.whitelist.iter().filter_map(|id| ClientId::parse(id)).collect();
        self.dismiss(target(&request.user, &request.client, &request.session), reason, except).await
    }

    /// Gives `order` to the targeted connections of all nodes, if any can be meant.
    async fn order(&self, target: Option<Target>, order: Order) -> Result<Answer, Failure> {
        if let Some(target) = target {
            self.node.cluster().send(Command::Order { target, order }).await?;
        }
        Ok(Answer::Done {})
    }

    /// Closes the targeted connections of all nodes, if any can be meant.
    async fn dismiss(
        &self,
        target: Option<Target>,
        reason: Dismissal,
        except: HashSet<ClientId>,
    ) -> Result<Answer, Failure> {
        if let Some(target) = target {
            self.node.cluster().send(Command::Disconnect { target, reason, except }).await?;
        }
        Ok(Answer::Done {})
    }
}

/// The time that many seconds after 1970; `None` for 0.
///
/// # Errors
/// [`Failure::BadRequest`] for a time that has passed.
fn future(seconds: i64) -> Result<Option<SystemTime>, Failure> {
    if seconds == 0 {
        return Ok(None);
    }
    let since_epoch = Duration::from_secs(u64::try_from(seconds).map_err(|_| Failure::BadRequest)?);
    let time = SystemTime::UNIX_EPOCH.checked_add(since_epoch).ok_or(Failure::BadRequest)?;
    if time > SystemTime::now() { Ok(Some(time)) } else { Err(Failure::BadRequest) }
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
fn dismissal(advice: &Advice) -> Result<Dismissal, Failure> {
    let code = advice.code.unwrap_or(FORCE_DISCONNECT.0);
    let reason = advice.reason.as_deref().unwrap_or(FORCE_DISCONNECT.1);
    let is_object =
        reason.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(reason).is_ok();
    match u16::try_from(code) {
        Ok(code @ 3000..=4999) if (1..=REASON_BYTES_MAX).contains(&reason.len()) && !is_object => {
            Ok(Dismissal::Advised { code, reason: reason.to_owned() })
        }
        _ => Err(Failure::BadRequest),
    }
}
