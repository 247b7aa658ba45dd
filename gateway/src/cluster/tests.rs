//! Several nodes that meet at one broker and in one registry, all in memory.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::broker::{History, MemoryBroker, Published, Range};
use crate::model::{RawJson, SubscriptionGrant, TokenMark};

mod gaps;

/// What a node was asked to do.
#[derive(Clone, Debug, PartialEq)]
enum Did {
    Order(Target, Order),
    Close(Target, CloseReason),
    Revoke(Option<Whose>),
    Renew,
    ClearUp(NodeEpoch),
}

/// A node without connections that notes what it is asked.
#[derive(Default)]
struct Witness {
    did: Mutex<Vec<Did>>,
    channels: Vec<(&'static str, usize)>,
    connections: Mutex<HashMap<UserId, usize>>,
}

#[async_trait]
impl Local for Witness {
    fn order(&self, target: &Target, order: &Order) {
        self.did.lock().push(Did::Order(target.clone(), order.clone()));
    }

    fn disconnect(&self, target: &Target, reason: &CloseReason, _: HashSet<ClientId>) {
        self.did.lock().push(Did::Close(target.clone(), reason.clone()));
    }

    fn revoke(&self, whose: Option<&Whose>) {
        self.did.lock().push(Did::Revoke(whose.cloned()));
    }

    /// It has no connections.
    fn shed(&self, _: usize) {}

    fn subscribers(&self, glob: &Glob) -> Vec<(Channel, usize)> {
        let channels = self.channels.iter().map(|(name, count)| (Channel::parse(name, 255).unwrap(), *count));
        channels.filter(|(channel, _)| glob.matches(channel)).collect()
    }

    fn load(&self) -> Load {
        Load::default()
    }

    async fn count_users(&self) -> usize {
        0
    }

    fn connections_of(&self, user: &UserId) -> usize {
        self.connections.lock().get(user).copied().unwrap_or_default()
    }

    fn counted_users(&self) -> Vec<UserId> {
        self.connections.lock().keys().cloned().collect()
    }

    async fn renew(&self) {
        self.did.lock().push(Did::Renew);
    }

    async fn clear_up(&self, epoch: NodeEpoch) -> bool {
        self.did.lock().push(Did::ClearUp(epoch));
        true
    }
}

/// Gives what comes to every node.
#[derive(Default)]
struct Everybody(Mutex<Vec<Weak<Cluster>>>);

impl Receiver for Everybody {
    fn deliver(&self, channel: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]) {
        for node in self.0.lock().iter().filter_map(Weak::upgrade) {
            if node.is_listening.load(Ordering::SeqCst) {
                node.deliver(channel, epoch, publications);
            }
        }
    }

    fn announce(&self, _: &Channel, _: &Notice) {}

    fn lose(&self, _: &Channel, _: &Position) {}
}

/// A broker that can be away.
struct Fragile {
    inner: MemoryBroker,
    is_away: AtomicBool,
    /// Whether there is no room for histories.
    is_full: AtomicBool,
}

#[async_trait]
impl Broker for Fragile {
    async fn subscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(BrokerError::Unavailable);
        }
        self.inner.subscribe(channel).await
    }

    async fn unsubscribe(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.inner.unsubscribe(channel).await
    }

    async fn publish(
        &self,
        channel: &Channel,
        drafts: Vec<Draft>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, BrokerError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(BrokerError::Unavailable);
        }
        if self.is_full.load(Ordering::SeqCst) && options.retention.is_some() {
            return Err(BrokerError::Full);
        }
        self.inner.publish(channel, drafts, options).await
    }

    async fn announce(&self, channel: &Channel, notice: Notice) -> Result<(), BrokerError> {
        self.inner.announce(channel, notice).await
    }

    async fn history(&self, channel: &Channel, range: Range, ttl: Duration) -> Result<History, BrokerError> {
        self.inner.history(channel, range, ttl).await
    }

    async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.inner.remove_history(channel).await
    }
}

/// A registry for several nodes, which a test can change.
#[derive(Default)]
struct Shared {
    alone: Alone,
    nodes: Mutex<HashMap<NodeEpoch, Report>>,
    dead: Mutex<Vec<NodeEpoch>>,
    declared: Mutex<Vec<NodeEpoch>>,
    counts: Mutex<HashMap<(UserId, NodeEpoch), usize>>,
    beats: AtomicUsize,
    is_away: AtomicBool,
    /// Whether it does not answer to those who tell it again what it lost.
    is_weary: AtomicBool,
}

impl Shared {
    fn answer(&self) -> Result<(), RegistryError> {
        if self.is_away.load(Ordering::SeqCst) { Err(RegistryError::Unavailable) } else { Ok(()) }
    }
}

#[async_trait]
impl Registry for Shared {
    fn is_shared(&self) -> bool {
        true
    }

    async fn beat(&self, report: &Report, _: Duration) -> Result<Result<Heard, Lapsed>, RegistryError> {
        self.answer()?;
        self.beats.fetch_add(1, Ordering::SeqCst);
        let mut nodes = self.nodes.lock();
        if self.declared.lock().contains(&report.epoch) {
            return Ok(Err(Lapsed));
        }
        let is_new = nodes.insert(report.epoch, report.clone()).is_none();
        let others = nodes.values().filter(|known| known.epoch != report.epoch).cloned().collect();
        Ok(Ok(Heard { others, dead: std::mem::take(&mut self.dead.lock()), is_new }))
    }

    async fn leave(&self, epoch: NodeEpoch) -> Result<(), RegistryError> {
        self.answer()?;
        self.nodes.lock().remove(&epoch);
        Ok(())
    }

    async fn bury(&self, epoch: NodeEpoch) -> Result<(), RegistryError> {
        self.alone.bury(epoch).await
    }

    async fn remember(&self, revocation: &Revocation) -> Result<(), RegistryError> {
        tokio::task::yield_now().await;
        self.answer()?;
        self.alone.remember(revocation).await
    }

    async fn remember_all(&self, revocations: &[Revocation]) -> Result<(), RegistryError> {
        if self.is_weary.load(Ordering::SeqCst) {
            return Err(RegistryError::Unavailable);
        }
        self.alone.remember_all(revocations).await
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, RegistryError> {
        self.answer()?;
        self.alone.revocations().await
    }

    async fn count(
        &self,
        epoch: NodeEpoch,
        _: &[NodeEpoch],
        connections: &[(UserId, usize)],
    ) -> Result<Vec<usize>, RegistryError> {
        self.answer()?;
        let mut counts = self.counts.lock();
        let total = |(user, count): &(UserId, usize)| {
            match count {
                0 => counts.remove(&(user.clone(), epoch)),
                count => counts.insert((user.clone(), epoch), *count),
            };
            counts.iter().filter(|((known, _), _)| known == user).map(|(_, count)| count).sum()
        };
        Ok(connections.iter().map(total).collect())
    }
}

/// The place where nodes meet.
struct World {
    everybody: Arc<Everybody>,
    broker: Arc<Fragile>,
    registry: Arc<Shared>,
}

struct Member {
    cluster: Arc<Cluster>,
    witness: Arc<Witness>,
    tenure: watch::Receiver<Tenure>,
}

impl World {
    fn new() -> Self {
        let everybody = Arc::new(Everybody::default());
        let inner = MemoryBroker::new(Arc::clone(&everybody) as _);
        let broker =
            Arc::new(Fragile { inner, is_away: AtomicBool::new(false), is_full: AtomicBool::new(false) });
        Self { everybody, broker, registry: Arc::default() }
    }

    /// A node called `name` with subscribers in these channels, which has not joined.
    fn stranger(&self, name: &str, channels: &[(&'static str, usize)]) -> Member {
        let witness = Arc::new(Witness { channels: channels.to_vec(), ..Witness::default() });
        let local: Weak<dyn Local> = Arc::downgrade(&witness) as _;
        let options = Options {
            registry: Arc::clone(&self.registry) as _,
            user_connections_max: 2,
            tenure: watch::Sender::new(Tenure::unheard()),
            ..Options::alone(Arc::default())
        };
        let tenure = options.tenure.subscribe();
        let broker = Arc::clone(&self.broker) as _;
        let metrics = Arc::new(Metrics::new());
        let cluster = Cluster::new(name.into(), options, broker, local, metrics, Handle::current());
        self.everybody.0.lock().push(Arc::downgrade(&cluster));
        Member { cluster, witness, tenure }
    }

    /// Waits until the registry remembers so many revocations.
    async fn remembers(&self, count: usize) {
        for _ in 0..1_000 {
            if self.registry.alone.revocations().await.unwrap().len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the registry does not remember {count} revocations");
    }

    async fn member(&self, name: &str, channels: &[(&'static str, usize)]) -> Member {
        let member = self.stranger(name, channels);
        member.cluster.join(format!("{name}:9000")).await;
        member
    }
}

impl Member {
    fn did(&self) -> Vec<Did> {
        std::mem::take(&mut self.witness.did.lock())
    }

    /// Waits until it was asked to do something.
    async fn does(&self) -> Vec<Did> {
        for _ in 0..10_000 {
            let did = self.did();
            if !did.is_empty() {
                return did;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does nothing");
    }

    /// How many other nodes it knows, once it knows this many.
    async fn knows(&self, others: usize) {
        while self.cluster.others().len() != others {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn ann() -> Target {
    Target { user: UserId::parse("ann").unwrap(), client: None }
}

fn unsubscribe() -> Command {
    let order = Order::Unsubscribe { channel: Channel::parse("news", 255).unwrap() };
    Command::Order { target: ann(), order }
}

fn revocation() -> Revocation {
    let forget_at = std::time::SystemTime::now() + Duration::from_secs(3_600);
    Revocation { whose: Whose::User { user: ann().user, issued_before: None }, forget_at }
}

#[tokio::test(start_paused = true)]
async fn a_command_is_carried_out_once_by_every_node_the_sender_included() {
    let world = World::new();
    let (one, two) = (world.member("one", &[]).await, world.member("two", &[]).await);
    let grant = SubscriptionGrant { data: Some(RawJson::string("x")), ..SubscriptionGrant::default() };
    let channel = Channel::parse("news", 255).unwrap();
    let order = Order::Subscribe { channel, grant, since: None };
    one.cluster.send(Command::Order { target: ann(), order: order.clone() }).await.unwrap();
    let reason = Dismissal::Advised { code: 4500, reason: "banned".into() };
    let command = Command::Disconnect { target: ann(), reason: reason.clone(), except: HashSet::new() };
    two.cluster.send(command).await.unwrap();
    let expected = [Did::Order(ann(), order), Did::Close(ann(), reason.into())];
    assert_eq!((one.did(), two.did()), (expected.to_vec(), expected.to_vec()));
}

#[tokio::test(start_paused = true)]
async fn without_a_broker_a_command_is_carried_out_here_and_the_caller_knows() {
    let world = World::new();
    let (one, two) = (world.member("one", &[]).await, world.member("two", &[]).await);
    world.broker.is_away.store(true, Ordering::SeqCst);
    assert!(one.cluster.send(unsubscribe()).await.is_err());
    assert_eq!((one.did().len(), two.did().len()), (1, 0));
    let revoked = one.cluster.revoke(revocation()).await;
    assert!(matches!(revoked, Err(RevokeError::Unheard(_))), "{revoked:?}");
    assert!(one.cluster.revocations().include(&ann().user, TokenMark::default()));
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_room_takes_commands_all_the_same() {
    let world = World::new();
    let (one, two) = (world.member("one", &[]).await, world.member("two", &[]).await);
    world.broker.is_full.store(true, Ordering::SeqCst);
    one.cluster.revoke(revocation()).await.unwrap();
    one.cluster.send(unsubscribe()).await.unwrap();
    assert_eq!((one.did().len(), two.did().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn questions_leave_no_trace_among_the_commands() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    one.cluster.send(unsubscribe()).await.unwrap();
    one.cluster.survey(&Glob::parse("").unwrap()).await;
    let kept = world.broker.history(&Channel::system("control"), Range::default(), RETENTION.ttl).await;
    assert_eq!(kept.unwrap().publications.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_listen_yet_carries_out_its_own_commands() {
    let world = World::new();
    world.broker.is_away.store(true, Ordering::SeqCst);
    let one = world.member("one", &[]).await;
    world.broker.is_away.store(false, Ordering::SeqCst);
    one.cluster.send(unsubscribe()).await.unwrap();
    assert_eq!(one.did().len(), 1);
    // It begins to by itself.
    while !one.cluster.is_listening.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    one.cluster.send(unsubscribe()).await.unwrap();
    assert_eq!(one.did().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_revoked_is_known_to_nodes_that_start_later_and_to_those_that_missed_it() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    one.cluster.revoke(revocation()).await.unwrap();
    let is_known = |member: &Member| member.cluster.revocations().include(&ann().user, TokenMark::default());
    let late = world.member("late", &[]).await;
    assert!(is_known(&one) && is_known(&late));
    // As if the broker had lost the command.
    for whose in ["t", "u", "v"] {
        let whose = Whose::Token(whose.into());
        world.registry.remember(&Revocation { whose, ..revocation() }).await.unwrap();
    }
    assert_eq!(late.cluster.revocations().len(), 1);
    late.did();
    let lose =
        || late.cluster.lose(&Channel::system("control"), &Position { epoch: Epoch::new("e"), offset: 9 });
    lose();
    assert_eq!(late.does().await, [Did::Revoke(None)], "connections are looked at once");
    assert_eq!(late.cluster.revocations().len(), 4);
    lose();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(late.did(), [], "nothing is new");
}

#[tokio::test(start_paused = true)]
async fn a_survey_adds_up_and_names_who_did_not_answer() {
    let world = World::new();
    let one = world.member("one", &[("chat:a", 2), ("news", 1)]).await;
    let two = world.member("two", &[("chat:a", 3), ("chat:b", 1)]).await;
    let three = world.member("three", &[]).await;
    for member in [&one, &two, &three] {
        member.knows(2).await;
    }
    let glob = Glob::parse("chat:*").unwrap();
    let survey = one.cluster.survey(&glob).await;
    let expected = [("chat:a".to_owned(), 5), ("chat:b".to_owned(), 1)];
    assert_eq!(survey, Survey { channels: expected.clone().into(), unanswered: Vec::new() });
    three.cluster.is_listening.store(false, Ordering::SeqCst);
    let survey = one.cluster.survey(&glob).await;
    let silent = Silent { id: three.cluster.id(), name: "three".into() };
    assert_eq!(survey, Survey { channels: expected.into(), unanswered: vec![silent] });
    world.broker.is_away.store(true, Ordering::SeqCst);
    let survey = one.cluster.survey(&glob).await;
    assert_eq!((survey.channels.len(), survey.unanswered.len()), (1, 2));
    assert!(one.cluster.surveys.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_comes_in_parts() {
    let world = World::new();
    let names: Vec<&'static str> = (0..10_000).map(|index| &*format!("c{index}").leak()).collect();
    let channels: Vec<_> = names.iter().map(|name| (*name, 1)).collect();
    let (one, two) = (world.member("one", &[]).await, world.member("two", &channels).await);
    one.knows(1).await;
    let survey = one.cluster.survey(&Glob::parse("").unwrap()).await;
    assert_eq!((survey.channels.len(), survey.unanswered.len()), (10_000, 0));
    drop(two);
}

#[tokio::test(start_paused = true)]
async fn nodes_know_one_another_until_they_leave() {
    let world = World::new();
    let (one, two) = (world.member("one", &[]).await, world.member("two", &[]).await);
    one.knows(1).await;
    let other = &one.cluster.others()[0];
    assert_eq!((other.id, &*other.name, &*other.address), (two.cluster.id(), "two", "two:9000"));
    two.cluster.leave().await;
    one.knows(0).await;
    let beats = world.registry.beats.load(Ordering::SeqCst);
    drop(one);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.registry.beats.load(Ordering::SeqCst), beats, "who has left beats no more");
}

#[tokio::test(start_paused = true)]
async fn a_node_asks_neither_itself_nor_who_cannot_be_reached() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    let _others = [world.member("one", &[]).await, world.member("two", &[]).await];
    let hidden = world.stranger("hidden", &[]);
    hidden.cluster.join(String::new()).await;
    one.knows(3).await;
    assert_eq!(one.cluster.addresses_of_others(), ["two:9000"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_taken_for_dead_begins_anew_under_another_name() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    let first = one.tenure.borrow().epoch;
    assert!(one.tenure.borrow().until > std::time::Instant::now());
    one.cluster.revoke(revocation()).await.unwrap();
    one.did();
    world.registry.alone.forget();
    world.registry.declared.lock().push(first);
    assert_eq!(one.does().await, [Did::Renew]);
    let second = one.tenure.borrow().epoch;
    assert_ne!(first, second);
    assert!(
        world.registry.nodes.lock().contains_key(&second),
        "it is known before anything is kept under it"
    );
    world.remembers(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_lost_everything_is_told_again() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    for index in 0..1_200 {
        one.cluster.revocations().add(&Revocation { whose: Whose::Token(index.to_string()), ..revocation() });
    }
    let epoch = one.tenure.borrow().epoch;
    world.registry.is_weary.store(true, Ordering::SeqCst);
    world.registry.nodes.lock().clear();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((one.tenure.borrow().epoch, one.did()), (epoch, vec![Did::Renew]), "nobody took it for dead");
    assert_eq!(world.registry.alone.revocations().await.unwrap(), []);
    world.registry.is_weary.store(false, Ordering::SeqCst);
    world.remembers(1_200).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_registry_has_lost_unnoticed_is_told_again() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    one.cluster.revoke(revocation()).await.unwrap();
    world.registry.alone.forget();
    world.registry.is_away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.registry.is_away.store(false, Ordering::SeqCst);
    world.remembers(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_revocation_whose_caller_has_gone_is_carried_through() {
    let world = World::new();
    let (one, two) = (world.member("one", &[]).await, world.member("two", &[]).await);
    assert!(tokio::time::timeout(Duration::ZERO, one.cluster.revoke(revocation())).await.is_err());
    let revoked = Did::Revoke(Some(revocation().whose));
    assert_eq!(one.did(), std::slice::from_ref(&revoked), "here at once");
    assert_eq!(two.does().await, [revoked]);
    world.remembers(1).await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_keeps_nothing_for_others_to_see_though_the_registry_is_away() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    assert!(one.tenure.borrow().held().is_some());
    world.registry.is_away.store(true, Ordering::SeqCst);
    one.cluster.leave().await;
    assert!(one.tenure.borrow().held().is_none());
    world.registry.is_away.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(one.tenure.borrow().held().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_silent_registry_ends_no_tenure() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    let (epoch, until) = {
        let tenure = one.tenure.borrow();
        (tenure.epoch, tenure.until)
    };
    world.registry.is_away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (one.tenure.borrow().epoch, one.tenure.borrow().until),
        (epoch, until),
        "nor does it prolong it"
    );
    world.registry.is_away.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(one.tenure.borrow().until > until);
    assert_eq!(one.did(), []);
}

#[tokio::test(start_paused = true)]
async fn a_survivor_clears_up_after_the_dead() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    let dead = NodeEpoch::random();
    world.registry.dead.lock().push(dead);
    assert_eq!(one.does().await, [Did::ClearUp(dead)]);
    // The clock goes on once nobody has anything to do.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let metrics = String::from_utf8(one.cluster.metrics.render(0)).unwrap();
    assert!(metrics.contains("\nclarion_cluster_node_deaths_total 1\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn the_newest_connection_above_the_limit_is_closed_wherever_it_is() {
    let world = World::new();
    let (one, two) = (world.member("one", &[]).await, world.member("two", &[]).await);
    let clients: Vec<_> = (0..3).map(|_| ClientId::random()).collect();
    let user = ann().user;
    let connect = async |member: &Member, client: ClientId| {
        *member.witness.connections.lock().entry(user.clone()).or_default() += 1;
        member.cluster.connection_opened(&user, client);
        tokio::time::sleep(Duration::from_millis(100)).await;
        member.did()
    };
    assert_eq!(connect(&one, clients[0]).await, []);
    assert_eq!(connect(&two, clients[1]).await, []);
    let surplus = Target { user: user.clone(), client: Some(clients[2]) };
    assert_eq!(connect(&one, clients[2]).await, [Did::Close(surplus, CloseReason::ConnectionLimit)]);
    // It goes, then another: there is room again.
    for client in [clients[2], clients[0]] {
        *one.witness.connections.lock().get_mut(&user).unwrap() -= 1;
        one.cluster.connection_closed(&user, client);
    }
    assert_eq!(connect(&two, ClientId::random()).await, []);
}

#[tokio::test(start_paused = true)]
async fn who_came_while_the_registry_was_away_is_counted_when_it_is_back() {
    let world = World::new();
    let (one, two) = (world.member("one", &[]).await, world.member("two", &[]).await);
    let user = ann().user;
    one.witness.connections.lock().insert(user.clone(), 2);
    for _ in 0..2 {
        one.cluster.connection_opened(&user, ClientId::random());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.registry.is_away.store(true, Ordering::SeqCst);
    let late = ClientId::random();
    two.witness.connections.lock().insert(user.clone(), 1);
    two.cluster.connection_opened(&user, late);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(two.did(), []);
    world.registry.is_away.store(false, Ordering::SeqCst);
    let surplus = Target { user, client: Some(late) };
    assert_eq!(two.does().await, [Did::Close(surplus, CloseReason::ConnectionLimit)]);
}

#[tokio::test(start_paused = true)]
async fn everybody_is_counted_anew_after_a_silence_and_when_changes_were_too_many_to_note() {
    let world = World::new();
    let one = world.member("one", &[]).await;
    let user = ann().user;
    let counted = || world.registry.counts.lock().values().copied().collect::<Vec<_>>();
    world.registry.is_away.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    // As if it had been counted before, and the count given up meanwhile.
    one.witness.connections.lock().insert(user.clone(), 1);
    world.registry.is_away.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(counted(), [1]);
    world.registry.counts.lock().clear();
    one.cluster.quota.fill_up();
    one.cluster.connection_opened(&user, ClientId::random());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(counted(), [1]);
}
