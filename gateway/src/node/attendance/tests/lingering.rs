//! Who lost its connection, and comes back or does not.

use std::sync::atomic::Ordering;

use super::*;

const GRACE: Duration = Duration::from_secs(5);

/// A connection of the user who may come back within [`GRACE`].
fn returning(user: &str, attendance: Attendance) -> Entrant {
    let user = UserId::parse(user).unwrap();
    let info = ClientInfo { user, client: ClientId::random(), conn_info: None, chan_info: None };
    Entrant { info: Arc::new(info), attendance, leave_grace: GRACE }
}

impl Bench {
    /// Enters and is announced.
    async fn sit(&self, entrant: &Entrant) -> Seat {
        let mut seat = self.enter(entrant).await.unwrap();
        seat.announce();
        self.roll.settled().await;
        seat
    }

    /// Whether somebody was said to have joined or left.
    fn heard(&self) -> Vec<&'static str> {
        let is_notice = |what: &&str| matches!(*what, "join" | "leave");
        self.witness.log.lock().iter().map(|(what, _)| *what).filter(is_notice).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn of_who_comes_back_within_the_grace_nobody_hears_until_it_leaves() {
    let bench = Bench::new().await;
    let (before, back) = (returning("ann", OPEN), returning("ann", OPEN));
    let seat = bench.sit(&before).await;
    seat.lose().unwrap().await;
    assert_eq!(bench.witness.life(before.info.client), ["enter", "join", "linger"], "when it is told so");
    tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
    assert_eq!(bench.count("a").await, 1);
    let seat = bench.sit(&back).await;
    assert_eq!(bench.witness.members(&channel("a")).await.unwrap(), [Arc::clone(&back.info)]);
    tokio::time::sleep(GRACE * 2).await;
    assert_eq!(bench.heard(), ["join"]);
    drop(seat);
    bench.roll.settled().await;
    assert_eq!(bench.heard(), ["join", "leave"]);
    assert_eq!(bench.witness.last_notice.lock().take(), Some(Notice::Leave(Arc::clone(&back.info))));
    assert_eq!(bench.count("a").await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_leaves_once_when_its_grace_is_over() {
    let bench = Bench::new().await;
    let entrants: Vec<_> = (0..300).map(|number| returning(&number.to_string(), OPEN)).collect();
    let mut seats = Vec::new();
    for entrant in &entrants {
        seats.push(bench.sit(entrant).await);
    }
    for seat in seats {
        drop(seat.lose());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(GRACE - Duration::from_secs(2)).await;
    assert_eq!(bench.count("a").await, 300);
    assert!(!bench.heard().contains(&"leave"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.count("a").await, 0);
    for entrant in &entrants {
        assert_eq!(bench.witness.life(entrant.info.client), ["enter", "join", "linger", "leave"]);
    }
    let expired = bench.witness.expired.load(Ordering::SeqCst);
    assert!(expired < 20, "{expired} looks");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_is_lost_at_once_is_told_to_the_presence_in_few_calls() {
    let bench = Bench::new().await;
    let mut seats = Vec::new();
    for number in 0..1_000 {
        seats.push(bench.sit(&returning(&number.to_string(), OPEN)).await);
    }
    seats.into_iter().for_each(|seat| drop(seat.lose()));
    bench.roll.settled().await;
    assert_eq!(bench.count("a").await, 1_000);
    assert!(!bench.heard().contains(&"leave"));
    let calls = bench.witness.lingered.load(Ordering::SeqCst);
    assert!(calls <= 20, "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_short_grace_is_over_though_a_long_one_is_not() {
    let bench = Bench::new().await;
    let long = Entrant { leave_grace: GRACE * 100, ..returning("ann", OPEN) };
    let short = returning("bob", OPEN);
    for entrant in [&long, &short] {
        bench.sit(entrant).await.lose().unwrap().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(GRACE).await;
    assert_eq!(bench.witness.members(&channel("a")).await.unwrap(), [Arc::clone(&long.info)]);
    tokio::time::sleep(GRACE * 100).await;
    assert_eq!(bench.heard(), ["join", "join", "leave", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_on_purpose_has_no_user_or_no_grace_leaves_at_once() {
    let bench = Bench::new().await;
    let (ann, nobody) = (returning("ann", OPEN), returning("", OPEN));
    let hasty = Entrant { leave_grace: Duration::ZERO, ..returning("bob", OPEN) };
    drop(bench.sit(&ann).await);
    bench.roll.settled().await;
    assert_eq!(bench.witness.life(ann.info.client), ["enter", "join", "remove", "leave"]);
    for entrant in [nobody, hasty] {
        assert!(bench.sit(&entrant).await.lose().is_none());
        bench.roll.settled().await;
        assert_eq!(bench.witness.life(entrant.info.client), ["add", "join", "remove", "leave"]);
    }
    let unseen = returning("eve", Attendance { is_listed: false, is_announced: false });
    assert!(bench.enter(&unseen).await.unwrap().lose().is_none());
    assert_eq!(bench.witness.life(unseen.info.client), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_was_not_announced_does_not_linger_and_who_is_never_does() {
    let bench = Bench::new().await;
    let early = returning("ann", OPEN);
    bench.enter(&early).await.unwrap().lose().unwrap().await;
    assert_eq!(bench.witness.life(early.info.client), ["enter", "remove"]);
    let silent = || returning("bob", Attendance { is_listed: true, is_announced: false });
    let (before, back) = (silent(), silent());
    bench.enter(&before).await.unwrap().lose().unwrap().await;
    assert_eq!(bench.count("a").await, 1);
    let seat = bench.enter(&back).await.unwrap();
    assert_eq!(bench.count("a").await, 1);
    seat.lose().unwrap().await;
    tokio::time::sleep(GRACE * 2).await;
    assert_eq!(bench.count("a").await, 0);
    assert_eq!(bench.heard(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_and_gives_up_gives_the_place_back() {
    let bench = Bench::new().await;
    let (before, hasty, back) = (returning("ann", OPEN), returning("ann", OPEN), returning("ann", OPEN));
    bench.sit(&before).await.lose().unwrap().await;
    // It entered, and could not subscribe all the same.
    drop(bench.enter(&hasty).await.unwrap());
    bench.roll.settled().await;
    assert_eq!(bench.count("a").await, 1);
    drop(bench.sit(&back).await);
    bench.roll.settled().await;
    assert_eq!((bench.count("a").await, bench.heard()), (0, vec!["join", "leave"]));
    tokio::time::sleep(GRACE * 2).await;
    assert_eq!(bench.heard(), ["join", "leave"]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_during_the_grace_ends_in_one_leave() {
    let bench = Bench::new().await;
    let (lingering, lost, back) = (returning("ann", OPEN), returning("bob", OPEN), returning("bob", OPEN));
    let seats = [bench.sit(&lingering).await, bench.sit(&lost).await];
    let [first, second] = seats;
    first.lose().unwrap().await;
    bench.witness.is_failing.store(true, Ordering::SeqCst);
    second.lose().unwrap().await;
    assert!(bench.enter(&back).await.is_err());
    tokio::time::sleep(GRACE * 4).await;
    assert_eq!(bench.heard(), ["join", "join"]);
    bench.witness.is_failing.store(false, Ordering::SeqCst);
    tokio::time::sleep(GRACE).await;
    assert_eq!(bench.heard(), ["join", "join", "leave", "leave"]);
    assert_eq!(bench.count("a").await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_leaves_who_lingers_to_others() {
    let bench = Bench::new().await;
    let (before, back) = (returning("ann", OPEN), returning("ann", OPEN));
    bench.sit(&before).await.lose().unwrap().await;
    let epoch = bench.tenure.borrow().epoch;
    bench.lapse();
    tokio::time::sleep(GRACE * 2).await;
    bench.reap(epoch).await;
    assert_eq!((bench.count("a").await, bench.heard()), (1, vec!["join"]));
    let memory = &bench.witness.memory;
    let lease = Lease { owner: NodeEpoch::random(), ttl: SETTINGS.ttl };
    assert_eq!(memory.enter(&channel("a"), back.member(), lease).await, Ok(Added::Returned));
    assert_eq!(memory.expire(epoch).await, Ok(None));
    tokio::time::sleep(GRACE).await;
    assert_eq!((bench.count("a").await, bench.heard()), (1, vec!["join"]));
}

#[tokio::test(start_paused = true)]
async fn who_came_back_to_a_node_that_is_taken_for_dead_joins_again() {
    let bench = Bench::new().await;
    let (before, back) = (returning("ann", OPEN), returning("ann", OPEN));
    bench.sit(&before).await.lose().unwrap().await;
    let _seat = bench.sit(&back).await;
    bench.lapse();
    bench.reap(bench.tenure.borrow().epoch).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.heard(), ["join", "leave"]);
    bench.begin_anew();
    tokio::time::sleep(GRACE).await;
    assert_eq!(bench.heard(), ["join", "leave", "join"]);
}

#[tokio::test(start_paused = true)]
async fn who_took_a_place_that_was_cleared_away_before_it_was_live_joins_as_everybody_does() {
    let bench = Bench::new().await;
    let (before, back) = (returning("ann", OPEN), returning("ann", OPEN));
    bench.sit(&before).await.lose().unwrap().await;
    let mut seat = bench.enter(&back).await.unwrap();
    bench.lapse();
    bench.reap(bench.tenure.borrow().epoch).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.heard(), ["join", "leave"]);
    bench.begin_anew();
    tokio::time::sleep(GRACE).await;
    seat.announce();
    bench.roll.settled().await;
    assert_eq!(bench.heard(), ["join", "leave", "join"]);
    drop(seat);
    bench.roll.settled().await;
    assert_eq!(bench.heard(), ["join", "leave", "join", "leave"]);
}
