//! What a conversation asked for that may take time. A connection has one at a time.
//!
//! It goes on whatever the client takes, because it may hold what others wait for: a lock, a place in a queue. How
//! it ended is kept until the client has room for the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{MaybeDone, maybe_done};

use super::subscription::{self, Claim};
use crate::broker::{BrokerError, Draft, History, PublishOptions, Range};
use crate::model::{Channel, ClientInfo, Publication};
use crate::node::{Node, PublishError, ShardId};
use crate::presence::{PresenceError, PresenceStats};
use crate::protocol::Wanted;

/// A slow effect: under way, or ended and not told yet.
pub(super) struct Operation(MaybeDone<Pin<Box<dyn Future<Output = Finished>>>>);

/// How a slow effect ended.
pub(super) enum Finished {
    Claimed(Vec<Claim>),
    Prepared(Vec<Claim>),
    Published(Result<(), PublishError>),
    History(Result<History, BrokerError>),
    Presence(Result<Vec<Arc<ClientInfo>>, PresenceError>),
    PresenceStats(Result<PresenceStats, PresenceError>),
}

impl Operation {
    fn new(effect: impl Future<Output = Finished> + 'static) -> Self {
        Self(maybe_done(Box::pin(effect)))
    }

    pub(super) fn claim(node: Arc<Node>, shard: ShardId, wanted: Vec<Wanted>) -> Self {
        Self::new(subscription::claim(node, shard, wanted).map(Finished::Claimed))
    }

    pub(super) fn prepare(node: Arc<Node>, claims: Vec<Claim>) -> Self {
        Self::new(subscription::prepare(node, claims).map(Finished::Prepared))
    }

    pub(super) fn publish(
        node: Arc<Node>,
        channel: Channel,
        publication: Publication,
        options: PublishOptions,
    ) -> Self {
        Self::new(async move {
            let published = node.publish(&channel, vec![Draft::of(publication)], options).await;
            Finished::Published(published.map(drop))
        })
    }

    pub(super) fn history(node: Arc<Node>, channel: Channel, range: Range, meta_ttl: Duration) -> Self {
        Self::new(async move { Finished::History(node.history(&channel, range, meta_ttl).await) })
    }

    pub(super) fn presence(node: Arc<Node>, channel: Channel) -> Self {
        Self::new(async move { Finished::Presence(node.presence(&channel).await) })
    }

    pub(super) fn presence_stats(node: Arc<Node>, channel: Channel) -> Self {
        Self::new(async move { Finished::PresenceStats(node.presence_stats(&channel).await) })
    }

    /// Goes on as far as it can; `true` if it has ended.
    pub(super) fn poll(&mut self, ctx: &mut Context<'_>) -> bool {
        self.0.poll_unpin(ctx).is_ready()
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.0, MaybeDone::Done(_))
    }

    /// How it ended; `None` if it has not.
    pub(super) fn into_finished(self) -> Option<Finished> {
        match self.0 {
            MaybeDone::Done(finished) => Some(finished),
            MaybeDone::Future(_) | MaybeDone::Gone => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures_util::{SinkExt, StreamExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

    use super::super::Arrival;
    use super::super::fanout::bench::Bench;
    use super::*;
    use crate::model::{ClientId, CloseReason, Identity, NodeEpoch};
    use crate::node::Order;
    use crate::presence::{Added, Departed, Grace, Holding, Lease, Member, MemoryPresence, Presence};
    use crate::protocol::{Conversation, Effect, Encoding, Framing, Heartbeat, Message, Outcome};

    const OUTBOX_BYTES: usize = 32 << 20;

    /// A presence that takes several turns to list members, and notes when it has.
    #[derive(Default)]
    struct Late {
        memory: MemoryPresence,
        has_listed: AtomicBool,
    }

    #[async_trait]
    impl Presence for Late {
        async fn add(&self, channel: &Channel, member: Member, lease: Lease) -> Result<bool, PresenceError> {
            self.memory.add(channel, member, lease).await
        }

        async fn enter(
            &self,
            channel: &Channel,
            member: Member,
            lease: Lease,
        ) -> Result<Added, PresenceError> {
            self.memory.enter(channel, member, lease).await
        }

        async fn linger(
            &self,
            channel: &Channel,
            leaving: &[(Member, Grace)],
            owner: NodeEpoch,
        ) -> Result<Vec<bool>, PresenceError> {
            self.memory.linger(channel, leaving, owner).await
        }

        async fn expire(&self, owner: NodeEpoch) -> Result<Option<Duration>, PresenceError> {
            self.memory.expire(owner).await
        }

        async fn refresh(&self, holdings: &[Holding], lease: Lease) -> Result<(), PresenceError> {
            self.memory.refresh(holdings, lease).await
        }

        async fn remove(
            &self,
            channel: &Channel,
            client: ClientId,
            owner: NodeEpoch,
        ) -> Result<bool, PresenceError> {
            self.memory.remove(channel, client, owner).await
        }

        async fn members(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, PresenceError> {
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            self.has_listed.store(true, Ordering::SeqCst);
            self.memory.members(channel).await
        }

        async fn stats(&self, channel: &Channel) -> Result<PresenceStats, PresenceError> {
            self.memory.stats(channel).await
        }

        async fn reap(&self, owner: NodeEpoch) -> Result<(), PresenceError> {
            self.memory.reap(owner).await
        }

        async fn departed(&self) -> Vec<Departed> {
            self.memory.departed().await
        }
    }

    /// Asks for a presence and says more than its client takes meanwhile; then says how many are there.
    struct Asker;

    impl Conversation for Asker {
        fn name(&self) -> &'static str {
            "asker"
        }

        fn framing(&self) -> Framing {
            Framing::Single
        }

        fn encoding(&self) -> Encoding {
            Encoding::BareData
        }

        fn on_start(&mut self, effects: &mut Vec<Effect>) {
            effects.push(Effect::Open(Identity::default(), Heartbeat::Transport));
        }

        fn on_message(&mut self, _: Message<'_>, effects: &mut Vec<Effect>) {
            effects.push(Effect::Presence(Channel::parse("a", 255).unwrap()));
            effects.push(Effect::Send(vec![b'x'; OUTBOX_BYTES * 3 / 4]));
        }

        fn on_outcome(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
            let Outcome::Presence(Ok(members)) = outcome else { panic!("it asks for nothing else") };
            effects.push(Effect::Send(members.len().to_string().into()));
        }

        fn on_order(&mut self, _: Order, _: &mut Vec<Effect>) {}

        fn on_lost(&mut self, _: Channel, _: &mut Vec<Effect>) {}

        fn on_reminder(&mut self, _: &mut Vec<Effect>) {}

        fn backlog_bytes(&self) -> usize {
            0
        }

        fn close_code(&self, _: &CloseReason) -> (u16, Cow<'static, str>) {
            (1000, "".into())
        }
    }

    #[tokio::test]
    async fn it_goes_on_while_the_client_takes_nothing_and_its_answer_waits() {
        let test = async {
            let presence = Arc::new(Late::default());
            let shard = Bench::with(Arc::clone(&presence) as _, OUTBOX_BYTES).shard;
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(address));
            shard.take_in(Arrival {
                socket: ours.unwrap().0.into(),
                unread: Bytes::new(),
                conversation: Box::new(Asker),
                client: ClientId::random(),
                permit: None,
            });
            let large = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
            let theirs = theirs.unwrap();
            let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, Some(large)).await;
            client.send("?".into()).await.unwrap();
            let has_listed = async {
                while !presence.has_listed.load(Ordering::SeqCst) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), has_listed).await.expect("it is polled");
            let outbox_bytes = shard.budget.used_bytes();
            assert!(outbox_bytes > OUTBOX_BYTES / 4, "{outbox_bytes}: the client is congested");
            assert_eq!(client.next().await.unwrap().unwrap().len(), OUTBOX_BYTES * 3 / 4);
            assert_eq!(client.next().await.unwrap().unwrap().to_text().unwrap(), "0");
        };
        LocalSet::new().run_until(test).await;
    }
}
