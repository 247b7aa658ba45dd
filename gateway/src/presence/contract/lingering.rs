//! Who lost its connection, and comes back or does not.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::{add_of, channel, check, departed, departure, holding, lease_of, listed, member, owner, remove};
use crate::model::ClientInfo;
use crate::presence::{Added, Grace, Member, Presence, PresenceStats};

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(3600);

fn grace(lasts: Duration) -> Grace {
    Grace { lasts, is_known: true }
}

/// Has a client of the owner 0 linger in the channel `a`, or tries so.
async fn linger(presence: &impl Presence, member: Member, grace: Grace) -> bool {
    presence.linger(&channel("a"), &[(member, grace)], owner(0)).await.unwrap() == [true]
}

/// The connection of a client of the owner 0 is lost.
async fn lose(presence: &impl Presence, name: &str, info: &Arc<ClientInfo>, lasts: Duration) {
    lose_all(presence, name, &[info], lasts).await;
}

async fn lose_all(presence: &impl Presence, name: &str, infos: &[&Arc<ClientInfo>], lasts: Duration) {
    let leaving: Vec<_> = infos.iter().map(|info| (listed(info), grace(lasts))).collect();
    assert_eq!(presence.linger(&channel(name), &leaving, owner(0)).await, Ok(vec![true; infos.len()]));
}

async fn enter(presence: &impl Presence, name: &str, info: &Arc<ClientInfo>, number: u8) -> Added {
    presence.enter(&channel(name), listed(info), lease_of(number)).await.unwrap()
}

/// Ends the graces that are over; answers whether there are others.
async fn expire(presence: &impl Presence, number: u8) -> bool {
    presence.expire(owner(number)).await.unwrap().is_some()
}

pub(in crate::presence) async fn who_returns_takes_its_place_and_nobody_departs(presence: impl Presence) {
    let (before, after, bob) = (member("ann"), member("ann"), member("bob"));
    assert_eq!(enter(&presence, "a", &before, 0).await, Added::New);
    assert_eq!(enter(&presence, "a", &bob, 0).await, Added::New);
    assert_eq!(enter(&presence, "a", &bob, 0).await, Added::Again);
    lose(&presence, "a", &before, LONG).await;
    check(&presence, "a", &[&before, &bob], 2).await;
    assert_eq!(enter(&presence, "b", &after, 1).await, Added::New, "nobody lingers there");
    assert_eq!(enter(&presence, "a", &after, 1).await, Added::Returned);
    check(&presence, "a", &[&after, &bob], 2).await;
    assert!(!remove(&presence, "a", &before).await);
    assert!(expire(&presence, 0).await, "its time has not come");
    departed(&presence, 0).await;
    presence.reap(owner(1)).await.unwrap();
    let mut left = vec![departure("a", &after), departure("b", &after)];
    left.sort_by_key(|departed| departed.channel.to_string());
    let mut heard = departed(&presence, 2).await;
    heard.sort_by_key(|departed| departed.channel.to_string());
    assert_eq!(heard, left);
    check(&presence, "a", &[&bob], 1).await;
}

pub(in crate::presence) async fn who_does_not_return_departs_once_whoever_looks(presence: impl Presence) {
    let presence = Arc::new(presence);
    let (gone, staying) = (member("ann"), member("bob"));
    for info in [&gone, &staying] {
        add_of(&*presence, "a", info, 0).await;
    }
    lose(&*presence, "a", &staying, LONG).await;
    lose(&*presence, "a", &gone, Duration::ZERO).await;
    assert!(!expire(&*presence, 1).await, "nobody was of that one");
    let look = |_| {
        let presence = Arc::clone(&presence);
        tokio::spawn(async move { expire(&*presence, 0).await })
    };
    for looked in (0..4).map(look).collect::<Vec<_>>() {
        assert!(looked.await.unwrap(), "another lingers");
    }
    assert_eq!(departed(&*presence, 1).await, [departure("a", &gone)]);
    check(&*presence, "a", &[&staying], 1).await;
    assert_eq!(enter(&*presence, "a", &member("ann"), 0).await, Added::New);
}

pub(in crate::presence) async fn of_two_places_of_a_user_the_first_is_taken_first(presence: impl Presence) {
    let left = [member("ann"), member("ann")];
    for (number, info) in (0..).zip(&left) {
        add_of(&presence, "a", info, number).await;
    }
    for info in &left {
        lose(&presence, "a", info, LONG).await;
    }
    check(&presence, "a", &left.each_ref(), 1).await;
    let back = [member("ann"), member("ann"), member("ann")];
    assert_eq!(enter(&presence, "a", &back[0], 1).await, Added::Returned);
    check(&presence, "a", &[&left[1], &back[0]], 1).await;
    assert_eq!(enter(&presence, "a", &back[1], 1).await, Added::Returned);
    assert_eq!(enter(&presence, "a", &back[2], 1).await, Added::New);
    check(&presence, "a", &back.each_ref(), 1).await;
    departed(&presence, 0).await;
}

pub(in crate::presence) async fn of_several_who_return_at_once_one_takes_the_place(presence: impl Presence) {
    const AT_ONCE: usize = 8;
    let presence = Arc::new(presence);
    for number in 0..10 {
        let name = number.to_string();
        let left = member("ann");
        add_of(&*presence, &name, &left, 0).await;
        lose(&*presence, &name, &left, LONG).await;
        let enter = |_| {
            let (presence, name) = (Arc::clone(&presence), name.clone());
            tokio::spawn(async move { enter(&*presence, &name, &member("ann"), 1).await })
        };
        let mut entered = Vec::new();
        for entering in (0..AT_ONCE).map(enter).collect::<Vec<_>>() {
            entered.push(entering.await.unwrap());
        }
        let count = |kind| entered.iter().filter(|added| **added == kind).count();
        assert_eq!((count(Added::Returned), count(Added::New)), (1, AT_ONCE - 1));
        let stats = presence.stats(&channel(&name)).await.unwrap();
        assert_eq!(stats, PresenceStats { clients: AT_ONCE, users: 1 });
    }
}

pub(in crate::presence) async fn who_lingers_does_not_die_with_its_node(presence: impl Presence) {
    let (lost, gone, killed, back) = (member("ann"), member("eve"), member("bob"), member("ann"));
    for info in [&lost, &gone, &killed] {
        add_of(&presence, "a", info, 0).await;
    }
    lose(&presence, "a", &lost, LONG).await;
    lose(&presence, "a", &gone, Duration::ZERO).await;
    presence.reap(owner(0)).await.unwrap();
    check(&presence, "a", &[&lost, &gone], 2).await;
    assert_eq!(departed(&presence, 1).await, [departure("a", &killed)]);
    assert!(expire(&presence, 0).await);
    assert_eq!(departed(&presence, 1).await, [departure("a", &gone)]);
    assert_eq!(enter(&presence, "a", &back, 1).await, Added::Returned);
    check(&presence, "a", &[&back], 1).await;
}

pub(in crate::presence) async fn a_refresh_neither_ends_nor_revives_who_lingers(presence: impl Presence) {
    let (lost, other, gone) = (member("ann"), member("bob"), member("eve"));
    for info in [&lost, &other, &gone] {
        add_of(&presence, "a", info, 0).await;
    }
    lose(&presence, "a", &lost, LONG).await;
    lose(&presence, "a", &gone, Duration::ZERO).await;
    for _ in 0..2 {
        presence.refresh(&[holding("a", &[&other])], lease_of(0)).await.unwrap();
        check(&presence, "a", &[&lost, &other, &gone], 3).await;
    }
    expire(&presence, 0).await;
    departed(&presence, 1).await;
    presence.refresh(&[holding("a", &[&other])], lease_of(0)).await.unwrap();
    check(&presence, "a", &[&lost, &other], 2).await;
    // One of whom the presence knows too much, or too little.
    presence.refresh(&[holding("a", &[])], lease_of(0)).await.unwrap();
    check(&presence, "a", &[&lost], 1).await;
    departed(&presence, 1).await;
    let back = member("ann");
    assert_eq!(enter(&presence, "a", &back, 0).await, Added::Returned);
    presence.refresh(&[holding("a", &[&back])], lease_of(0)).await.unwrap();
    presence.refresh(&[holding("a", &[&back, &other])], lease_of(0)).await.unwrap();
    check(&presence, "a", &[&back, &other], 2).await;
    assert_eq!(enter(&presence, "a", &back, 0).await, Added::Returned, "as before");
    departed(&presence, 0).await;
}

pub(in crate::presence) async fn only_who_is_seen_in_the_same_way_takes_a_place(presence: impl Presence) {
    let ways = [(true, true), (true, false), (false, true), (false, false)];
    let seen = |(is_listed, is_announced)| Member { info: member("ann"), is_listed, is_announced };
    for left in ways {
        for back in ways {
            let lost = seen(left);
            presence.add(&channel("a"), lost.clone(), lease_of(0)).await.unwrap();
            assert!(linger(&presence, lost, grace(Duration::ZERO)).await);
            let entered = presence.enter(&channel("a"), seen(back), lease_of(0)).await.unwrap();
            assert_eq!(entered == Added::Returned, left == back, "{left:?} {back:?}");
            expire(&presence, 0).await;
            departed(&presence, usize::from(left != back && left.1)).await;
            presence.refresh(&[holding("a", &[])], lease_of(0)).await.unwrap();
            departed(&presence, usize::from(back.1)).await;
            check(&presence, "a", &[], 0).await;
        }
    }
}

pub(in crate::presence) async fn of_whom_nobody_knows_lingers_who_took_a_place(presence: impl Presence) {
    let (before, back, new) = (member("ann"), member("ann"), member("bob"));
    add_of(&presence, "a", &before, 0).await;
    lose(&presence, "a", &before, LONG).await;
    for info in [&back, &new] {
        enter(&presence, "a", info, 0).await;
    }
    let unknown = Grace { is_known: false, ..grace(Duration::ZERO) };
    let leaving = [(listed(&new), unknown), (listed(&back), unknown)];
    assert_eq!(presence.linger(&channel("a"), &leaving, owner(0)).await, Ok(vec![false, true]));
    check(&presence, "a", &[&back], 1).await;
    expire(&presence, 0).await;
    assert_eq!(departed(&presence, 1).await, [departure("a", &back)]);
    check(&presence, "a", &[], 0).await;
}

pub(in crate::presence) async fn asked_again_it_is_known_who_lingers_and_who_did(presence: impl Presence) {
    let (lost, back, stranger) = (member("ann"), member("ann"), member("ann"));
    let again = async |info| linger(&presence, listed(info), grace(Duration::ZERO)).await;
    assert!(!again(&stranger).await);
    add_of(&presence, "a", &lost, 0).await;
    lose(&presence, "a", &lost, LONG).await;
    assert!(again(&lost).await);
    expire(&presence, 0).await;
    check(&presence, "a", &[&lost], 1).await;
    assert_eq!(enter(&presence, "a", &back, 1).await, Added::Returned);
    assert!(again(&lost).await, "its place was taken");
    check(&presence, "a", &[&back], 1).await;
    departed(&presence, 0).await;
}

pub(in crate::presence) async fn who_enters_again_while_it_lingers_has_returned(presence: impl Presence) {
    let (ann, other) = (member("ann"), member("ann"));
    add_of(&presence, "a", &ann, 0).await;
    lose(&presence, "a", &ann, Duration::ZERO).await;
    assert_eq!(enter(&presence, "a", &ann, 0).await, Added::Returned);
    assert!(!expire(&presence, 0).await);
    check(&presence, "a", &[&ann], 1).await;
    assert_eq!(enter(&presence, "a", &other, 0).await, Added::New, "nobody lingers any more");
    lose(&presence, "a", &ann, LONG).await;
    assert!(expire(&presence, 0).await);
    check(&presence, "a", &[&ann, &other], 1).await;
    departed(&presence, 0).await;
}

pub(in crate::presence) async fn a_crowd_that_lingers_comes_back_or_departs(presence: impl Presence) {
    const CROWD: usize = 10_000;
    let crowd: Vec<_> = (0..CROWD).map(|number| member(&number.to_string())).collect();
    let bystander = member("eve");
    add_of(&presence, "a", &bystander, 1).await;
    let members: Vec<_> = crowd.iter().collect();
    presence.refresh(&[holding("a", &members)], lease_of(0)).await.unwrap();
    for some in members.chunks(500) {
        join_all(some.chunks(100).map(|some| lose_all(&presence, "a", some, Duration::ZERO))).await;
    }
    let back: Vec<_> = (0..CROWD / 2).map(|number| member(&number.to_string())).collect();
    for some in back.chunks(500) {
        let entered = join_all(some.iter().map(|info| enter(&presence, "a", info, 1))).await;
        assert!(entered.iter().all(|added| *added == Added::Returned));
    }
    let stats = PresenceStats { clients: CROWD + 1, users: CROWD + 1 };
    assert_eq!(presence.stats(&channel("a")).await.unwrap(), stats);
    let (others, departed) = tokio::join!(expire(&presence, 0), departed(&presence, CROWD / 2));
    assert!(!others);
    let gone: HashSet<_> = departed.iter().map(|departed| departed.info.client).collect();
    assert_eq!(gone, crowd[CROWD / 2..].iter().map(|info| info.client).collect());
    let stats = PresenceStats { clients: CROWD / 2 + 1, users: CROWD / 2 + 1 };
    assert_eq!(presence.stats(&channel("a")).await.unwrap(), stats);
}
