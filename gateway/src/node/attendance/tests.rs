mod lingering;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;

use super::*;
use crate::broker::{Broker, MemoryBroker, Receiver};
use crate::model::{ClientId, Epoch, NodeEpoch, Notice, Position, Publication, RawJson, Tenure, UserId};
use crate::presence::{Added, Departed, Grace, Holding, Lease, MemoryPresence, Presence, PresenceStats};

pub(super) const OPEN: Attendance = Attendance { is_listed: true, is_announced: true };
pub(super) const SETTINGS: PresenceSettings =
    PresenceSettings { ttl: Duration::from_secs(30), update_interval: Duration::from_secs(27) };

/// Sees what the workers do, in their order. As a presence it can be late, stuck or failing.
struct Witness {
    memory: MemoryPresence,
    log: Mutex<Vec<(&'static str, ClientId)>>,
    last_notice: Mutex<Option<Notice>>,
    refreshed: AtomicU64,
    expired: AtomicU64,
    /// How many calls there were to have somebody linger.
    lingered: AtomicU64,
    is_failing: AtomicBool,
    /// How long a call takes that fails, in milliseconds.
    hangs_for: AtomicU64,
    /// Calls wait while it is `true`.
    is_stuck: watch::Sender<bool>,
    /// The longest that a call takes.
    delay_max: Duration,
}

impl Witness {
    fn new(delay_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            memory: MemoryPresence::new(),
            log: Mutex::default(),
            last_notice: Mutex::default(),
            refreshed: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            lingered: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            hangs_for: AtomicU64::new(0),
            is_stuck: watch::Sender::new(false),
            delay_max,
        })
    }

    fn note(&self, what: &'static str, client: ClientId) {
        self.log.lock().push((what, client));
    }

    /// What happened to a client.
    fn life(&self, client: ClientId) -> Vec<&'static str> {
        self.log.lock().iter().filter(|(_, known)| *known == client).map(|(what, _)| *what).collect()
    }

    async fn take_time(&self) -> Result<(), PresenceError> {
        let mut is_stuck = self.is_stuck.subscribe();
        is_stuck.wait_for(|is_stuck| !is_stuck).await.unwrap();
        if !self.delay_max.is_zero() {
            tokio::time::sleep(self.delay_max.mul_f64(rand::random_range(0.0..1.0))).await;
        }
        match self.is_failing.load(Ordering::SeqCst) {
            true => {
                tokio::time::sleep(Duration::from_millis(self.hangs_for.load(Ordering::SeqCst))).await;
                Err(PresenceError::Unavailable)
            }
            false => Ok(()),
        }
    }
}

impl Receiver for Witness {
    fn deliver(&self, _: &Channel, _: Option<&Epoch>, _: &[Arc<Publication>]) {
        panic!("nothing is published");
    }

    fn announce(&self, _: &Channel, notice: &Notice) {
        let what = if matches!(notice, Notice::Join(_)) { "join" } else { "leave" };
        self.note(what, notice.info().client);
        *self.last_notice.lock() = Some(notice.clone());
    }

    fn lose(&self, _: &Channel, _: &Position) {
        panic!("nothing is lost");
    }
}

#[async_trait]
impl Presence for Witness {
    async fn add(&self, channel: &Channel, member: Member, lease: Lease) -> Result<bool, PresenceError> {
        self.take_time().await?;
        self.note("add", member.info.client);
        self.memory.add(channel, member, lease).await
    }

    async fn enter(&self, channel: &Channel, member: Member, lease: Lease) -> Result<Added, PresenceError> {
        self.take_time().await?;
        self.note("enter", member.info.client);
        self.memory.enter(channel, member, lease).await
    }

    async fn linger(
        &self,
        channel: &Channel,
        leaving: &[(Member, Grace)],
        owner: NodeEpoch,
    ) -> Result<Vec<bool>, PresenceError> {
        self.lingered.fetch_add(1, Ordering::SeqCst);
        for (member, _) in leaving {
            self.note("linger", member.info.client);
        }
        self.take_time().await?;
        self.memory.linger(channel, leaving, owner).await
    }

    async fn expire(&self, owner: NodeEpoch) -> Result<Option<Duration>, PresenceError> {
        self.take_time().await?;
        self.expired.fetch_add(1, Ordering::SeqCst);
        self.memory.expire(owner).await
    }

    async fn refresh(&self, holdings: &[Holding], lease: Lease) -> Result<(), PresenceError> {
        self.take_time().await?;
        let leases: usize = holdings.iter().map(|holding| holding.members.len()).sum();
        self.refreshed.fetch_add(leases as u64, Ordering::SeqCst);
        self.memory.refresh(holdings, lease).await
    }

    async fn remove(
        &self,
        channel: &Channel,
        client: ClientId,
        owner: NodeEpoch,
    ) -> Result<bool, PresenceError> {
        self.note("remove", client);
        self.take_time().await?;
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

struct Bench {
    witness: Arc<Witness>,
    roll: Roll,
    tenure: watch::Sender<Tenure>,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Witness::new(Duration::ZERO)).await
    }

    async fn with(witness: Arc<Witness>) -> Self {
        let broker = MemoryBroker::new(Arc::clone(&witness) as _);
        for name in ["a", "b", "c", "d"] {
            broker.subscribe(&channel(name)).await.unwrap();
        }
        let cluster = crate::cluster::Options::alone(Arc::default());
        let tenure = cluster.tenure.clone();
        let backends = Backends {
            broker: Arc::new(broker),
            presence: Arc::clone(&witness) as _,
            presence_settings: SETTINGS,
            cluster,
        };
        let roll = Roll::open(&backends, &Handle::current());
        Self { witness, roll, tenure }
    }

    async fn enter(&self, entrant: &Entrant) -> Result<Seat, PresenceError> {
        self.roll.enter(channel("a"), entrant.clone()).await
    }

    async fn count(&self, name: &str) -> usize {
        self.witness.memory.stats(&channel(name)).await.unwrap().clients
    }
}

impl Bench {
    /// As when the heartbeats of this node came too late: it lives on under another epoch.
    fn begin_anew(&self) -> NodeEpoch {
        self.tenure.send_replace(Tenure::endless()).epoch
    }

    /// As when its heartbeats fail.
    fn lapse(&self) {
        self.tenure.send_modify(|tenure| tenure.until = std::time::Instant::now());
    }

    /// As when they do not any more, and came in time after all.
    fn hold(&self) {
        self.tenure.send_modify(|tenure| tenure.until = Tenure::endless().until);
    }

    /// Somebody took this node for dead.
    async fn reap(&self, epoch: NodeEpoch) {
        self.witness.memory.reap(epoch).await.unwrap();
    }

    /// Waits until so much has happened to a client.
    async fn wait_for(&self, client: ClientId, life: &[&str]) {
        let happens = async {
            while self.witness.life(client) != life {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), happens).await;
        assert!(in_time.is_ok(), "{:?} is not {life:?}", self.witness.life(client));
    }
}

pub(super) fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).unwrap()
}

pub(super) fn entrant(attendance: Attendance) -> Entrant {
    let client = ClientId::random();
    let info = ClientInfo { user: UserId::ANONYMOUS, client, conn_info: None, chan_info: None };
    Entrant { info: Arc::new(info), attendance, leave_grace: Duration::ZERO }
}

#[tokio::test]
async fn who_is_seen_is_added_announced_removed_and_said_to_have_left() {
    let bench = Bench::new().await;
    for (is_listed, is_announced, life) in [
        (true, true, &["add", "join", "remove", "leave"][..]),
        (true, false, &["add", "remove"]),
        (false, true, &["add", "join", "remove", "leave"]),
        (false, false, &[]),
    ] {
        let entrant = entrant(Attendance { is_listed, is_announced });
        let mut seat = bench.enter(&entrant).await.unwrap();
        assert_eq!(bench.count("a").await, usize::from(is_listed), "present as soon as it has a seat");
        seat.announce();
        seat.announce();
        drop(seat);
        bench.roll.settled().await;
        assert_eq!(bench.witness.life(entrant.info.client), life);
        assert_eq!(bench.count("a").await, 0);
    }
}

#[tokio::test]
async fn who_is_renamed_is_seen_so_until_it_leaves_and_one_event_at_a_time_waits() {
    let bench = Bench::new().await;
    let entrant = entrant(OPEN);
    let mut seat = bench.enter(&entrant).await.unwrap();
    seat.announce();
    bench.roll.settled().await;
    bench.witness.is_stuck.send_replace(true);
    let named = |name: usize| {
        let conn_info = RawJson::parse(name.to_string().as_bytes()).ok();
        Arc::new(ClientInfo { conn_info, ..(*entrant.info).clone() })
    };
    for name in 0..1_000 {
        seat.rename(named(name));
        tokio::task::yield_now().await;
    }
    let waiting: usize = bench.roll.desks.iter().map(|desk| desk.queue.lock().events.len()).sum();
    assert!(waiting <= 1, "{waiting} events");
    bench.witness.is_stuck.send_replace(false);
    bench.roll.settled().await;
    assert_eq!(bench.witness.members(&channel("a")).await.unwrap(), [named(999)]);
    drop(seat);
    bench.roll.settled().await;
    assert_eq!(bench.witness.last_notice.lock().take(), Some(Notice::Leave(named(999))));
    assert_eq!(bench.count("a").await, 0);
}

#[tokio::test]
async fn who_was_not_announced_leaves_without_a_word() {
    let bench = Bench::new().await;
    let entrant = entrant(OPEN);
    drop(bench.enter(&entrant).await.unwrap());
    bench.roll.settled().await;
    assert_eq!(bench.witness.life(entrant.info.client), ["add", "remove"]);
}

#[tokio::test]
async fn giving_up_while_waiting_leaves_nothing_behind() {
    let bench = Bench::new().await;
    let (first, second) = (entrant(OPEN), entrant(OPEN));
    bench.witness.is_stuck.send_replace(true);
    // The worker is at the first; the second waits in the queue.
    for entrant in [&first, &second] {
        let mut entering = Box::pin(bench.enter(entrant));
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = &mut entering => panic!("the presence does not answer"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    bench.witness.is_stuck.send_replace(false);
    bench.roll.settled().await;
    assert_eq!(bench.count("a").await, 0);
    assert_eq!(bench.witness.life(first.info.client), ["add", "remove"]);
    assert_eq!(bench.witness.life(second.info.client), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_order_holds_however_late_the_presence_is() {
    let bench = Arc::new(Bench::with(Witness::new(Duration::from_millis(50))).await);
    let coming_and_going = |name: &'static str| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move {
            let entrant = entrant(OPEN);
            let mut announced = Vec::new();
            for _ in 0..30 {
                let mut seat = bench.roll.enter(channel(name), entrant.clone()).await.unwrap();
                let listed = bench.witness.memory.members(&channel(name)).await.unwrap();
                assert!(listed.contains(&entrant.info), "an earlier removal came late");
                let is_announced = rand::random_range(0..3) > 0;
                if is_announced {
                    seat.announce();
                }
                announced.push(is_announced);
            }
            (entrant.info.client, announced)
        })
    };
    let clients: Vec<_> =
        ["a", "a", "a", "b", "c", "d"].into_iter().cycle().take(24).map(coming_and_going).collect();
    for client in clients {
        let (client, announced) = client.await.unwrap();
        bench.roll.settled().await;
        let stay = |is_announced| match is_announced {
            true => &["add", "join", "remove", "leave"][..],
            false => &["add", "remove"],
        };
        assert_eq!(
            bench.witness.life(client),
            announced.into_iter().flat_map(stay).copied().collect::<Vec<_>>()
        );
    }
    for name in ["a", "b", "c", "d"] {
        assert_eq!(bench.count(name).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_enters_and_leaves_does_not_wait_for_one_another() {
    let delay_max = Duration::from_millis(50);
    let bench = Arc::new(Bench::with(Witness::new(delay_max)).await);
    let began_at = tokio::time::Instant::now();
    let enter = |_| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.enter(&entrant(OPEN)).await.unwrap() })
    };
    let mut seats = Vec::new();
    for entering in (0..100).map(enter).collect::<Vec<_>>() {
        seats.push(entering.await.unwrap());
    }
    assert_eq!(bench.count("a").await, 100);
    drop(seats);
    bench.roll.settled().await;
    assert_eq!(bench.count("a").await, 0);
    assert!(began_at.elapsed() < delay_max * 8, "{:?}", began_at.elapsed());
}

#[tokio::test]
async fn who_could_not_be_added_has_no_seat_and_is_removed_to_be_sure() {
    let bench = Bench::new().await;
    let entrant = entrant(OPEN);
    bench.witness.is_failing.store(true, Ordering::SeqCst);
    assert_eq!(bench.enter(&entrant).await.unwrap_err(), PresenceError::Unavailable);
    bench.roll.settled().await;
    assert!(!bench.witness.life(entrant.info.client).is_empty());
    assert!(bench.witness.life(entrant.info.client).iter().all(|what| *what == "remove"));
    bench.witness.is_failing.store(false, Ordering::SeqCst);
    assert!(bench.enter(&entrant).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_sits_stays_listed_and_who_left_does_not_come_back() {
    let bench = Bench::new().await;
    let mut seats = Vec::new();
    for name in ["a", "b", "c", "d"].iter().cycle().take(2_000) {
        seats.push(bench.roll.enter(channel(name), entrant(OPEN)).await.unwrap());
    }
    let unlisted = Attendance { is_listed: false, is_announced: true };
    let _unlisted = bench.enter(&entrant(unlisted)).await.unwrap();
    for round in 1..=20 {
        // A bit at a time, so that the workers have their turn.
        for _ in 0..27 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            bench.witness.memory.sweep();
        }
        for name in ["a", "b", "c", "d"] {
            assert_eq!(bench.count(name).await, seats.len() / 4, "in round {round}");
        }
        seats.truncate(seats.len() - 40);
        bench.roll.settled().await;
    }
    let refreshed = bench.witness.refreshed.load(Ordering::SeqCst);
    let expected: u64 = (0..20).map(|round| 2_000 - 40 * round).sum();
    assert!(refreshed.abs_diff(expected) <= 2_000, "{refreshed} is not once each interval, as {expected} is");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_failed_is_made_up_for() {
    let bench = Bench::new().await;
    let _seat = bench.enter(&entrant(OPEN)).await.unwrap();
    bench.witness.is_failing.store(true, Ordering::SeqCst);
    tokio::time::sleep(SETTINGS.ttl * 2).await;
    assert_eq!(bench.count("a").await, 0);
    bench.witness.is_failing.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.count("a").await, 1);
}

#[tokio::test]
async fn the_queue_takes_no_more_entrants_than_its_places() {
    let bench = Arc::new(Bench::new().await);
    bench.witness.is_stuck.send_replace(true);
    let enter = |_| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { drop(bench.enter(&entrant(OPEN)).await.unwrap()) })
    };
    let entering: Vec<_> = (0..ENTRANTS_MAX * 3).map(enter).collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let queued: usize = bench.roll.desks.iter().map(|desk| desk.queue.lock().events.len()).sum();
    assert!(queued <= ENTRANTS_MAX, "{queued}");
    bench.witness.is_stuck.send_replace(false);
    for entering in entering {
        entering.await.unwrap();
    }
    bench.roll.settled().await;
    assert_eq!(bench.count("a").await, 0);
    assert!(bench.roll.desks.iter().all(|desk| desk.queue.lock().events.capacity() == 0));
}

#[tokio::test]
async fn when_the_node_is_gone_what_was_asked_is_done_and_nobody_waits() {
    let Bench { witness, roll, .. } = Bench::new().await;
    let entrant = entrant(OPEN);
    let mut seat = roll.enter(channel("a"), entrant.clone()).await.unwrap();
    let desk = Arc::clone(&seat.desk);
    seat.announce();
    drop(roll);
    assert!(desk.enter(channel("a"), entrant.clone()).await.is_err());
    drop(seat);
    while !desk.queue.lock().is_deserted {
        tokio::task::yield_now().await;
    }
    assert_eq!(witness.life(entrant.info.client), ["add", "join", "remove", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_for_dead_and_is_not_joins_again() {
    let bench = Bench::new().await;
    let entrant = entrant(OPEN);
    let mut seat = bench.enter(&entrant).await.unwrap();
    seat.announce();
    bench.roll.settled().await;
    bench.lapse();
    bench.reap(bench.tenure.borrow().epoch).await;
    bench.wait_for(entrant.info.client, &["add", "join", "leave"]).await;
    bench.begin_anew();
    bench.wait_for(entrant.info.client, &["add", "join", "leave", "add", "join"]).await;
    assert_eq!(bench.count("a").await, 1);
    drop(seat);
    bench.roll.settled().await;
    let life = ["add", "join", "leave", "add", "join", "remove", "leave"];
    assert_eq!(bench.witness.life(entrant.info.client), life);
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_no_join_comes_before_the_leave_that_others_may_be_announcing() {
    let bench = Bench::new().await;
    let entrant = entrant(OPEN);
    let mut seat = bench.enter(&entrant).await.unwrap();
    seat.announce();
    bench.roll.settled().await;
    bench.lapse();
    bench.reap(bench.tenure.borrow().epoch).await;
    bench.wait_for(entrant.info.client, &["add", "join", "leave"]).await;
    bench.begin_anew();
    let began_at = tokio::time::Instant::now();
    // Redis is back; somebody's token is refreshed.
    seat.rename(Arc::new((*entrant.info).clone()));
    bench.roll.settled().await;
    bench.roll.refresh();
    bench.roll.settled().await;
    assert_eq!(bench.witness.life(entrant.info.client), ["add", "join", "leave"]);
    bench.wait_for(entrant.info.client, &["add", "join", "leave", "add", "join"]).await;
    assert!(began_at.elapsed() >= Duration::from_secs(1), "{:?}", began_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whose_place_was_left_alone_enters_under_the_next_epoch_without_a_join() {
    let bench = Bench::new().await;
    let entrant = entrant(OPEN);
    let mut seat = bench.enter(&entrant).await.unwrap();
    seat.announce();
    bench.roll.settled().await;
    let before = bench.begin_anew();
    bench.wait_for(entrant.info.client, &["add", "join", "add"]).await;
    bench.reap(before).await;
    assert_eq!(bench.count("a").await, 1, "it belongs to the next epoch");
    drop(seat);
    bench.roll.settled().await;
    assert_eq!(bench.witness.life(entrant.info.client), ["add", "join", "add", "remove", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn of_who_left_after_its_node_was_taken_for_dead_only_one_leave_is_heard() {
    let bench = Bench::new().await;
    let entrant = entrant(OPEN);
    let mut seat = bench.enter(&entrant).await.unwrap();
    seat.announce();
    bench.roll.settled().await;
    bench.lapse();
    bench.reap(bench.tenure.borrow().epoch).await;
    drop(seat);
    bench.roll.settled().await;
    bench.wait_for(entrant.info.client, &["add", "join", "leave"]).await;
    bench.begin_anew();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.witness.life(entrant.info.client), ["add", "join", "leave", "remove"]);
}

#[tokio::test(start_paused = true)]
async fn while_no_tenure_is_held_nobody_enters_and_nothing_is_said() {
    let bench = Bench::new().await;
    let (present, leaving, late) = (entrant(OPEN), entrant(OPEN), entrant(OPEN));
    let unseen = entrant(Attendance { is_listed: false, is_announced: false });
    let mut seat = bench.enter(&present).await.unwrap();
    let mut left = bench.enter(&leaving).await.unwrap();
    left.announce();
    bench.roll.settled().await;
    bench.lapse();
    assert_eq!(bench.enter(&late).await.unwrap_err(), PresenceError::Unavailable);
    seat.announce();
    drop(left);
    bench.roll.settled().await;
    tokio::time::sleep(SETTINGS.ttl / 2).await;
    assert_eq!(bench.witness.life(present.info.client), ["add"]);
    assert_eq!(bench.witness.life(leaving.info.client), ["add", "join"]);
    assert_eq!(bench.witness.life(late.info.client), [""; 0]);
    assert!(bench.enter(&unseen).await.is_ok(), "it needs no presence");
    bench.hold();
    bench.wait_for(leaving.info.client, &["add", "join", "remove", "leave"]).await;
    bench.wait_for(present.info.client, &["add", "add", "join"]).await;
    assert!(bench.enter(&late).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_leave_that_could_not_be_carried_out_is_made_up_for_once() {
    let bench = Bench::new().await;
    let (entrant, other) = (entrant(OPEN), entrant(OPEN));
    let mut seat = bench.enter(&entrant).await.unwrap();
    seat.announce();
    bench.roll.settled().await;
    bench.witness.is_failing.store(true, Ordering::SeqCst);
    drop(seat);
    assert!(bench.enter(&other).await.is_err());
    bench.roll.settled().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!bench.witness.life(entrant.info.client).contains(&"leave"));
    bench.witness.is_failing.store(false, Ordering::SeqCst);
    // Who comes again before it has left leaves first.
    let mut seat = bench.enter(&entrant).await.unwrap();
    seat.announce();
    bench.roll.settled().await;
    let life = bench.witness.life(entrant.info.client);
    assert_eq!(
        life.iter().filter(|what| **what != "remove").collect::<Vec<_>>(),
        [&"add", &"join", &"leave", &"add", &"join"]
    );
    assert_eq!(bench.count("a").await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_presence_forgot_comes_back_at_once_and_without_a_join() {
    let bench = Bench::new().await;
    let (present, hidden) = (entrant(OPEN), entrant(Attendance { is_listed: false, is_announced: true }));
    let mut seats = Vec::new();
    for entrant in [&present, &hidden] {
        let mut seat = bench.enter(entrant).await.unwrap();
        seat.announce();
        seats.push(seat);
    }
    bench.roll.settled().await;
    for client in [present.info.client, hidden.info.client] {
        let epoch = bench.tenure.borrow().epoch;
        assert!(bench.witness.memory.remove(&channel("a"), client, epoch).await.unwrap());
    }
    bench.roll.refresh();
    while bench.count("a").await == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(seats);
    bench.roll.settled().await;
    for client in [present.info.client, hidden.info.client] {
        assert_eq!(bench.witness.life(client), ["add", "join", "remove", "leave"]);
    }
}

#[tokio::test(start_paused = true)]
async fn of_who_left_before_the_presence_that_forgot_it_had_it_back_the_leave_is_heard() {
    let bench = Bench::new().await;
    let entrant = entrant(OPEN);
    let mut seat = bench.enter(&entrant).await.unwrap();
    seat.announce();
    bench.roll.settled().await;
    let epoch = bench.tenure.borrow().epoch;
    assert!(bench.witness.memory.remove(&channel("a"), entrant.info.client, epoch).await.unwrap());
    drop(seat);
    bench.roll.settled().await;
    assert_eq!(bench.witness.life(entrant.info.client), ["add", "join", "remove", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn while_the_presence_hangs_a_crowd_that_enters_is_turned_away_soon() {
    let bench = Arc::new(Bench::with(Witness::new(Duration::ZERO)).await);
    bench.witness.is_failing.store(true, Ordering::SeqCst);
    bench.witness.hangs_for.store(1_000, Ordering::SeqCst);
    let began_at = tokio::time::Instant::now();
    let enter = |_| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { assert!(bench.enter(&entrant(OPEN)).await.is_err()) })
    };
    for entering in (0..1_000).map(enter).collect::<Vec<_>>() {
        entering.await.unwrap();
    }
    assert!(began_at.elapsed() < Duration::from_secs(3), "{:?}", began_at.elapsed());
}
