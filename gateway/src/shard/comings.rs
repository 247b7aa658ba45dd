//! Comings and goings, through the tasks of real connections: what subscribers hear of one another, and that nobody
//! stays present who has left.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;

use super::fanout::bench::{Bench, Random};
use super::{Arrival, Shard};
use crate::broker::PublishOptions;
use crate::config::{NamespaceId, SlowConsumer};
use crate::model::chance::turns;
use crate::model::{
    Channel, ClientId, ClientInfo, CloseReason, Identity, NodeEpoch, Publication, RawJson, UserId,
};
use crate::node::recovery::{Follow, Mode, Since};
use crate::node::{Attendance, Entrant, Order};
use crate::presence::{
    Added, Departed, Grace, Holding, Lease, Member, MemoryPresence, Presence, PresenceError, PresenceStats,
};
use crate::protocol::{
    Conversation, Effect, Encoding, Framing, Heartbeat, Message, Outcome, SubscribeError, Wanted,
};

/// A presence that is late by a random number of turns, and stuck or failing for some channels.
#[derive(Default)]
struct Erratic {
    memory: MemoryPresence,
    is_healed: watch::Sender<bool>,
}

impl Erratic {
    async fn take_time(&self, channel: &Channel) -> Result<(), PresenceError> {
        match channel.as_str() {
            "failing" => return Err(PresenceError::Unavailable),
            "stuck" => drop(self.is_healed.subscribe().wait_for(|is_healed| *is_healed).await),
            "late" => turns(300).await,
            _ => {}
        }
        for _ in 0..rand::random_range(0..20) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

#[async_trait]
impl Presence for Erratic {
    async fn add(&self, channel: &Channel, member: Member, lease: Lease) -> Result<bool, PresenceError> {
        self.take_time(channel).await?;
        self.memory.add(channel, member, lease).await
    }

    async fn enter(&self, channel: &Channel, member: Member, lease: Lease) -> Result<Added, PresenceError> {
        self.take_time(channel).await?;
        self.memory.enter(channel, member, lease).await
    }

    async fn linger(
        &self,
        channel: &Channel,
        leaving: &[(Member, Grace)],
        owner: NodeEpoch,
    ) -> Result<Vec<bool>, PresenceError> {
        self.take_time(channel).await?;
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
        self.take_time(channel).await?;
        self.memory.remove(channel, client, owner).await
    }

    async fn members(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, PresenceError> {
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

/// Does what it is told: `+a` subscribes to `a`, `=a` follows its history too, `!a` does so only from a place that is
/// gone, `-a` unsubscribes, `?` answers. Who is called `observer` is not seen itself.
struct Puppet {
    client: ClientId,
    user: &'static str,
    leave_grace: Duration,
    subscribing: Option<Channel>,
    waiting: VecDeque<String>,
}

impl Puppet {
    fn wanted(&self, channel: Channel, follows: bool) -> Wanted {
        let user = UserId::parse(self.user).unwrap();
        let info = ClientInfo { user, client: self.client, conn_info: None, chan_info: None };
        let attendance = Attendance { is_listed: true, is_announced: true };
        let entrant = Entrant { info: Arc::new(info), attendance, leave_grace: self.leave_grace };
        let follow = Follow {
            since: None,
            mode: Mode::Stream,
            publications_max: 10,
            bytes_max: 1 << 16,
            meta_ttl: Duration::from_secs(60),
        };
        Wanted {
            follow: follows.then_some(follow),
            must_recover: false,
            hears_notices: true,
            entrant: (self.user != "observer").then_some(entrant),
            slow_consumer: SlowConsumer::default(),
            namespace: NamespaceId::NONE,
            channel,
        }
    }

    fn go_on(&mut self, effects: &mut Vec<Effect>) {
        while self.subscribing.is_none()
            && let Some(command) = self.waiting.pop_front()
        {
            let (verb, name) = command.split_at(1);
            let channel = || Channel::parse(name, 255).unwrap();
            match verb {
                "+" | "=" => {
                    self.subscribing = Some(channel());
                    effects.push(Effect::Subscribe(vec![self.wanted(channel(), verb == "=")]));
                }
                "!" => {
                    self.subscribing = Some(channel());
                    let mut wanted = Wanted { must_recover: true, ..self.wanted(channel(), true) };
                    let since = Since { epoch: "gone".into(), offset: 7 };
                    wanted.follow.iter_mut().for_each(|follow| follow.since = Some(since.clone()));
                    effects.push(Effect::Subscribe(vec![wanted]));
                }
                "-" => {
                    effects.push(Effect::Unsubscribe(channel()));
                    effects.push(reply("left"));
                }
                _ => effects.push(reply("here")),
            }
        }
    }
}

fn reply(text: &str) -> Effect {
    Effect::Send(format!("\"{text}\"").into_bytes())
}

impl Conversation for Puppet {
    fn name(&self) -> &'static str {
        "puppet"
    }

    fn framing(&self) -> Framing {
        Framing::Single
    }

    fn encoding(&self) -> Encoding {
        Encoding::CentrifugeJson
    }

    fn on_start(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Open(Identity::default(), Heartbeat::Transport));
    }

    fn on_message(&mut self, message: Message<'_>, effects: &mut Vec<Effect>) {
        let Message::Text(text) = message else { panic!("a puppet is told in text") };
        self.waiting.push_back(text.to_owned());
        self.go_on(effects);
    }

    fn on_outcome(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Outcome::Subscribed(mut results) = outcome else { panic!("it only subscribes") };
        self.subscribing = None;
        effects.push(match results.pop().unwrap() {
            Ok(_) => reply("subscribed"),
            Err(SubscribeError::Presence(PresenceError::Unavailable)) => reply("failed"),
            Err(SubscribeError::Unrecoverable) => reply("refused"),
            Err(error) => panic!("{error}"),
        });
        self.go_on(effects);
    }

    fn on_order(&mut self, _: Order, _: &mut Vec<Effect>) {}

    fn on_reminder(&mut self, _: &mut Vec<Effect>) {}

    fn on_lost(&mut self, _: Channel, _: &mut Vec<Effect>) {
        panic!("nothing is lost here");
    }

    fn backlog_bytes(&self) -> usize {
        0
    }

    fn close_code(&self, _: &CloseReason) -> (u16, Cow<'static, str>) {
        (1000, "".into())
    }
}

/// A shard with real connections.
struct World {
    shard: Rc<Shard>,
    presence: Arc<Erratic>,
    listener: TcpListener,
    leave_grace: Duration,
}

impl World {
    async fn new() -> Self {
        let presence = Arc::new(Erratic::default());
        let shard = Bench::with(Arc::clone(&presence) as _, 4 << 20).shard;
        shard.start();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { shard, presence, listener, leave_grace: Duration::ZERO }
    }

    async fn connect(&self, user: &'static str) -> Client {
        let address = self.listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(self.listener.accept(), TcpStream::connect(address));
        let client = ClientId::random();
        let leave_grace = self.leave_grace;
        let puppet = Puppet { client, user, leave_grace, subscribing: None, waiting: VecDeque::new() };
        let (stream, _) = ours.unwrap();
        self.shard.take_in(Arrival {
            socket: stream.into(),
            unread: Bytes::new(),
            conversation: Box::new(puppet),
            client,
            permit: None,
        });
        let role = tungstenite::protocol::Role::Client;
        Client { id: client, socket: WebSocketStream::from_raw_socket(theirs.unwrap(), role, None).await }
    }

    fn close(&self, client: ClientId, reason: CloseReason) {
        let table = self.shard.table.borrow();
        let link = table.entries().map(|entry| &entry.link).find(|link| link.client == client);
        link.unwrap().close(reason);
    }

    async fn publish(&self, name: &str) {
        let draft = crate::broker::Draft::of(Publication::of(RawJson::string("x")));
        let channel = Channel::parse(name, 255).unwrap();
        self.shard.node.publish(&channel, vec![draft], PublishOptions::default()).await.unwrap();
    }

    async fn present(&self, name: &str) -> usize {
        self.shard.node.presence_stats(&Channel::parse(name, 255).unwrap()).await.unwrap().clients
    }

    /// Waits until nobody but the observers is connected, and everything that follows from it is done.
    async fn emptied(&self, observers: usize) {
        while self.shard.connections.get() > observers {
            tokio::task::yield_now().await;
        }
        self.shard.node.seats_settled().await;
        while self.shard.inbox().has_undelivered() {
            tokio::task::yield_now().await;
        }
    }
}

struct Client {
    id: ClientId,
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    async fn tell(&mut self, command: &str) {
        self.socket.send(command.into()).await.unwrap();
    }

    /// The next thing that it is told: a reply, or what is in a push as `join a`.
    async fn next(&mut self) -> String {
        let message = self.socket.next().await.unwrap().unwrap();
        described(&message).0
    }

    async fn ask(&mut self, command: &str) -> String {
        self.tell(command).await;
        self.next().await
    }
}

/// What a message says, and about whom.
fn described(message: &tungstenite::Message) -> (String, Option<ClientId>) {
    let value: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
    if let Value::String(reply) = value {
        return (reply, None);
    }
    let push = &value["push"];
    let channel = push["channel"].as_str().unwrap();
    let kind = ["join", "leave", "pub"].into_iter().find(|kind| !push[kind].is_null()).unwrap();
    let client = push[kind]["info"]["client"].as_str().and_then(ClientId::parse);
    (format!("{kind} {channel}"), client)
}

async fn in_world<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    LocalSet::new().run_until(async { test(World::new().await).await }).await;
}

#[tokio::test]
async fn a_connection_whose_task_panics_leaves_nothing_behind_and_is_counted_out() {
    in_world(async |world| {
        let mut broken = world.connect("broken").await;
        broken.ask("+a").await;
        broken.socket.send(tungstenite::Message::binary("panic")).await.unwrap();
        world.emptied(0).await;
        assert_eq!(world.present("a").await, 0);
        let text = String::from_utf8(world.shard.metrics.render(0)).unwrap();
        let ended = r#"clarion_connections_closed_total{code="none",reason="internal"} 1"#;
        assert!(text.lines().any(|line| line == ended), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("clarion_connections{") && !line.ends_with(" 0")));
    })
    .await;
}

/// This is what proves F41 of the fault tests: a process that runs has no way to make a task panic.
#[tokio::test]
async fn f41_a_task_that_panics_ends_its_own_connection_and_others_miss_nothing() {
    const PUBLICATIONS: usize = 60;
    in_world(async |world| {
        let mut others = Vec::new();
        for _ in 0..3 {
            let mut other = world.connect("observer").await;
            assert_eq!(other.ask("+a").await, "subscribed");
            others.push(other);
        }
        for turn in 0..PUBLICATIONS {
            world.publish("a").await;
            if turn % 20 == 10 {
                let mut broken = world.connect("broken").await;
                assert_eq!(broken.ask("+a").await, "subscribed");
                broken.socket.send(tungstenite::Message::binary("panic")).await.unwrap();
                while let Some(Ok(message)) = broken.socket.next().await {
                    assert!(message.is_text(), "it goes without a word: {message}");
                }
            }
        }
        world.emptied(others.len()).await;
        for other in &mut others {
            other.tell("?").await;
            let mut told = Vec::new();
            while told.last().is_none_or(|last| last != "here") {
                told.push(other.next().await);
            }
            let count = |what: &str| told.iter().filter(|one| *one == what).count();
            assert_eq!((count("pub a"), count("join a"), count("leave a")), (PUBLICATIONS, 3, 3));
            // What the broken ones held is not locked, and not broken.
            assert_eq!(other.ask("-a").await, "left");
            assert_eq!(other.ask("=a").await, "subscribed");
        }
        let text = String::from_utf8(world.shard.metrics.render(0)).unwrap();
        let ended = r#"clarion_connections_closed_total{code="none",reason="internal"} 3"#;
        assert!(text.lines().any(|line| line == ended), "{text}");
    })
    .await;
}

#[tokio::test]
async fn its_own_join_follows_the_reply() {
    in_world(async |world| {
        for command in ["+a", "=b"].iter().cycle().take(50) {
            let mut client = world.connect("ann").await;
            assert_eq!(client.ask(command).await, "subscribed");
            assert_eq!(world.present(&command[1..]).await, 1);
            assert_eq!(client.next().await, format!("join {}", &command[1..]));
            drop(client);
            world.emptied(0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn others_hear_of_every_way_to_leave_once() {
    in_world(async |world| {
        let mut observer = world.connect("observer").await;
        assert_eq!(observer.ask("+a").await, "subscribed");
        let mut ann = world.connect("ann").await;
        for _ in 0..3 {
            assert_eq!(ann.ask("+a").await, "subscribed");
            assert_eq!(observer.next().await, "join a");
            assert_eq!(ann.next().await, "join a");
            assert_eq!(ann.ask("-a").await, "left");
            assert_eq!(observer.next().await, "leave a");
            assert_eq!(world.present("a").await, 0);
        }
        assert_eq!(ann.ask("=a").await, "subscribed");
        assert_eq!(observer.next().await, "join a");
        drop(ann);
        assert_eq!(observer.next().await, "leave a");
        assert_eq!(world.present("a").await, 0);
        world.emptied(1).await;
        assert_eq!(world.shard.node.subscription_count(), 1);
        assert_eq!(observer.ask("?").await, "here", "and nothing else before");
    })
    .await;
}

#[tokio::test]
async fn of_who_cannot_catch_up_and_wants_nothing_less_nobody_hears() {
    in_world(async |world| {
        let mut observer = world.connect("observer").await;
        assert_eq!(observer.ask("+a").await, "subscribed");
        let mut ann = world.connect("ann").await;
        assert_eq!(ann.ask("!a").await, "refused");
        world.shard.node.seats_settled().await;
        assert_eq!((world.present("a").await, world.shard.node.subscription_count()), (0, 1));
        assert_eq!(ann.ask("+a").await, "subscribed");
        assert_eq!(observer.next().await, "join a", "and nothing before");
        assert_eq!(ann.next().await, "join a", "and nothing before");
    })
    .await;
}

#[tokio::test]
async fn a_presence_that_does_not_answer_holds_up_nobody_else() {
    in_world(async |world| {
        let mut waiting = world.connect("ann").await;
        waiting.tell("=stuck").await;
        let mut other = world.connect("observer").await;
        assert_eq!(other.ask("=stuck").await, "subscribed", "who is not seen need not be listed");
        assert_eq!(other.ask("+a").await, "subscribed");
        world.publish("a").await;
        world.publish("stuck").await;
        assert_eq!(other.next().await, "pub a");
        assert_eq!(other.next().await, "pub stuck");
        assert!(waiting.socket.next().now_or_never().is_none());
        world.presence.is_healed.send_replace(true);
        assert_eq!(waiting.next().await, "subscribed");
        assert_eq!(waiting.next().await, "join stuck");
        assert_eq!(other.next().await, "join stuck");
    })
    .await;
}

#[tokio::test]
async fn who_closes_before_the_presence_answers_was_never_there() {
    in_world(async |world| {
        let mut observer = world.connect("observer").await;
        assert_eq!(observer.ask("+stuck").await, "subscribed");
        for command in ["+stuck", "=stuck"] {
            let mut client = world.connect("ann").await;
            client.tell(command).await;
            while world.shard.node.subscription_count() < 2 {
                tokio::task::yield_now().await;
            }
            drop(client);
            while world.shard.node.subscription_count() > 1 {
                tokio::task::yield_now().await;
            }
        }
        world.presence.is_healed.send_replace(true);
        world.emptied(1).await;
        assert_eq!(world.present("stuck").await, 0);
        assert_eq!(observer.ask("?").await, "here", "nobody joined");
    })
    .await;
}

#[tokio::test]
async fn a_presence_that_fails_fails_the_subscription_alone() {
    in_world(async |world| {
        let mut client = world.connect("ann").await;
        for command in ["+failing", "=failing"] {
            assert_eq!(client.ask(command).await, "failed");
            assert_eq!(world.shard.node.subscription_count(), 0);
            assert_eq!(world.shard.hub.borrow().len(), 0);
        }
        assert_eq!(client.ask("+a").await, "subscribed");
        assert_eq!(client.next().await, "join a");
    })
    .await;
}

#[tokio::test]
async fn who_loses_its_connection_and_comes_back_neither_left_nor_joins() {
    in_world(async |mut world| {
        world.leave_grace = Duration::from_secs(600);
        let mut observer = world.connect("observer").await;
        assert_eq!(observer.ask("+a").await, "subscribed");
        let mut ann = world.connect("ann").await;
        assert_eq!(ann.ask("+a").await, "subscribed");
        assert_eq!(observer.next().await, "join a");
        for command in ["=a", "+a"] {
            drop(ann);
            world.emptied(1).await;
            assert_eq!((world.present("a").await, world.shard.node.subscription_count()), (1, 1));
            ann = world.connect("ann").await;
            assert_eq!(ann.ask(command).await, "subscribed");
            assert_eq!(world.present("a").await, 1);
            assert_eq!(ann.ask("?").await, "here", "it does not hear that it joined");
        }
        assert_eq!(observer.ask("?").await, "here", "nobody left or joined");
        ann.socket.close(None).await.unwrap();
        assert_eq!(observer.next().await, "leave a", "on purpose");
        assert_eq!(world.present("a").await, 0);
    })
    .await;
}

#[tokio::test]
async fn who_is_asked_to_come_back_finds_its_place_however_soon_it_does() {
    in_world(async |mut world| {
        world.leave_grace = Duration::from_secs(600);
        let mut observer = world.connect("observer").await;
        assert_eq!(observer.ask("+late").await, "subscribed");
        let mut ann = world.connect("ann").await;
        assert_eq!(ann.ask("+late").await, "subscribed");
        assert_eq!(ann.next().await, "join late");
        assert_eq!(observer.next().await, "join late");
        for reason in [CloseReason::Shutdown, CloseReason::Rebalance, CloseReason::Lifetime] {
            world.close(ann.id, reason);
            while !ann.socket.next().await.unwrap().unwrap().is_close() {}
            // On another node it is there at once, and gone again.
            let memory = &world.presence.memory;
            let channel = Channel::parse("late", 255).unwrap();
            let user = UserId::parse("ann").unwrap();
            let info = ClientInfo { user, client: ClientId::random(), conn_info: None, chan_info: None };
            let member = Member { info: Arc::new(info), is_listed: true, is_announced: true };
            let lease = Lease { owner: NodeEpoch::random(), ttl: world.leave_grace };
            let entered = memory.enter(&channel, member.clone(), lease).await;
            assert_eq!(entered, Ok(Added::Returned));
            let grace = Grace { lasts: world.leave_grace, is_known: true };
            assert_eq!(memory.linger(&channel, &[(member, grace)], lease.owner).await, Ok(vec![true]));
            ann = world.connect("ann").await;
            assert_eq!(ann.ask("+late").await, "subscribed");
            assert_eq!(world.present("late").await, 1);
        }
        world.close(ann.id, CloseReason::Revoked);
        assert_eq!(observer.next().await, "leave late", "and nothing before");
    })
    .await;
}

/// Commands of clients that come, go and close in the middle of anything.
async fn wander(world: &World, random: &mut Random) {
    const CHANNELS: [&str; 5] = ["a", "b", "c", "d", "e"];
    let mut clients: Vec<(Client, [bool; 5])> = Vec::new();
    for _ in 0..1_500 {
        let index = random.below(12);
        if index >= clients.len() {
            clients.push((world.connect("ann").await, [false; 5]));
            continue;
        }
        if random.below(8) == 0 {
            clients.swap_remove(index);
            continue;
        }
        let (client, subscribed) = &mut clients[index];
        let channel = random.below(CHANNELS.len());
        subscribed[channel] = !subscribed[channel];
        let verb = if subscribed[channel] { ["+", "="][random.below(2)] } else { "-" };
        client.tell(&format!("{verb}{}", CHANNELS[channel])).await;
        // What it is told is read, now and then and never waited for.
        while random.below(3) > 0 && client.socket.next().now_or_never().is_some() {}
        if random.below(2) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_join_is_followed_by_one_leave_whatever_clients_do() {
    in_world(async |world| {
        let mut observer = world.connect("observer").await;
        for channel in ["a", "b", "c", "d", "e"] {
            assert_eq!(observer.ask(&format!("={channel}")).await, "subscribed");
        }
        wander(&world, &mut Random::new(7)).await;
        world.emptied(1).await;
        observer.tell("?").await;
        // Whether each client is there, as the observer was told.
        let mut there: HashMap<(String, ClientId), bool> = HashMap::new();
        let mut joins = 0;
        loop {
            let message = observer.socket.next().await.unwrap().unwrap();
            let (what, Some(client)) = described(&message) else { break };
            let (kind, channel) = what.split_once(' ').unwrap();
            let is_there = there.entry((channel.to_owned(), client)).or_default();
            assert_eq!(*is_there, kind == "leave", "{client}: {what}");
            *is_there = kind == "join";
            joins += usize::from(kind == "join");
        }
        assert!(joins > 10, "{joins}");
        assert!(there.values().all(|is_there| !is_there));
        for channel in ["a", "b", "c", "d", "e"] {
            assert_eq!(world.present(channel).await, 0);
        }
        assert_eq!(world.shard.node.subscription_count(), 5);
    })
    .await;
}

/// The close code that the client is told next.
async fn told_to_close(client: &mut Client) -> u16 {
    loop {
        match client.socket.next().await.unwrap().unwrap() {
            tungstenite::Message::Close(Some(frame)) => return frame.code.into(),
            tungstenite::Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_a_client_asked_for_is_done_before_it_is_asked_to_come_again() {
    in_world(async |world| {
        let mut waiting = world.connect("ann").await;
        waiting.tell("=stuck").await;
        while world.shard.node.subscription_count() == 0 {
            tokio::task::yield_now().await;
        }
        let mut idle = world.connect("ann").await;
        assert_eq!(idle.ask("?").await, "here");
        world.shard.drain(Duration::ZERO).await;
        assert_eq!(told_to_close(&mut idle).await, 1000);
        assert!(waiting.socket.next().now_or_never().is_none(), "its command is under way");
        world.presence.is_healed.send_replace(true);
        assert_eq!(waiting.next().await, "subscribed");
        let mut last = waiting.socket.next().await.unwrap().unwrap();
        while last.is_text() {
            last = waiting.socket.next().await.unwrap().unwrap();
        }
        assert!(last.is_close(), "{last:?}");
    })
    .await;
}

#[tokio::test]
async fn what_never_ends_is_not_waited_for() {
    in_world(async |world| {
        let mut waiting = world.connect("ann").await;
        waiting.tell("=stuck").await;
        while world.shard.node.subscription_count() == 0 {
            tokio::task::yield_now().await;
        }
        world.shard.drain(Duration::ZERO).await;
        assert_eq!(told_to_close(&mut waiting).await, 1000);
        drop(waiting);
        world.shard.drained().await;
        assert_eq!((world.shard.connection_count(), world.shard.cut()), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn who_comes_while_a_shard_drains_is_asked_to_go_on() {
    in_world(async |world| {
        world.shard.drain(Duration::ZERO).await;
        let mut late = world.connect("ann").await;
        assert_eq!(told_to_close(&mut late).await, 1000);
    })
    .await;
}
