//! What every presence promises, as tests. An implementation calls [`suite!`] with how to make one.
//!
//! Nothing here depends on how fast time passes: how leases end, and how a presence learns by itself that an owner is
//! dead, an implementation tests itself. `$make` answers a presence for which these owners live: those of
//! [`owners`].

mod lingering;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::lingering::*;
use super::{Departed, Holding, Lease, Member, Presence, PresenceStats};
use crate::model::{Channel, ClientId, ClientInfo, NodeEpoch, RawJson, UserId};

/// Runs the contract against the presence that `$make` builds.
macro_rules! suite {
    ($make:expr) => {
        $crate::presence::contract::suite!(@each $make;
            a_member_is_listed_until_it_is_removed,
            adding_again_replaces_the_info,
            a_refresh_brings_back_what_is_gone,
            channels_do_not_know_each_other,
            users_are_counted_once_and_without_a_user_as_one,
            a_client_that_changes_its_user_is_counted_for_the_new_one,
            members_in_parallel_are_all_there,
            of_several_who_take_a_member_out_one_ended_it,
            who_is_not_listed_is_kept_for_its_leave_alone,
            a_member_that_is_listed_no_more_is_not_counted,
            who_dies_takes_its_members_along_and_no_others,
            a_user_on_two_nodes_stays_when_one_dies,
            who_moved_to_another_owner_does_not_die_with_the_first,
            of_several_who_reap_each_member_departs_once,
            a_refresh_takes_out_who_is_not_named,
            a_crowd_is_counted_refreshed_and_reaped,
            who_returns_takes_its_place_and_nobody_departs,
            who_does_not_return_departs_once_whoever_looks,
            of_two_places_of_a_user_the_first_is_taken_first,
            of_several_who_return_at_once_one_takes_the_place,
            who_lingers_does_not_die_with_its_node,
            a_refresh_neither_ends_nor_revives_who_lingers,
            only_who_is_seen_in_the_same_way_takes_a_place,
            of_whom_nobody_knows_lingers_who_took_a_place,
            asked_again_it_is_known_who_lingers_and_who_did,
            who_enters_again_while_it_lingers_has_returned,
            a_crowd_that_lingers_comes_back_or_departs,
        );
    };
    (@each $make:expr; $($name:ident),* $(,)?) => {
        $(
            // Several threads, so that callers in parallel are in parallel.
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let make = $make;
                $crate::presence::contract::$name(make().await).await;
            }
        )*
    };
}
pub(super) use suite;

/// Longer than a test takes.
const TTL: Duration = Duration::from_secs(600);

pub(super) fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).unwrap()
}

/// A connection of `user` with an id of its own.
pub(super) fn member(user: &str) -> Arc<ClientInfo> {
    let user = UserId::parse(user).unwrap();
    Arc::new(ClientInfo { user, client: ClientId::random(), conn_info: None, chan_info: None })
}

/// One that is listed, and whose leave is announced.
pub(super) fn listed(info: &Arc<ClientInfo>) -> Member {
    Member { info: Arc::clone(info), is_listed: true, is_announced: true }
}

/// That of one owner who lives as long as the test.
pub(super) fn lease() -> Lease {
    Lease { owner: owner(0), ttl: TTL }
}

/// The owner of this number.
pub(super) fn owner(number: u8) -> NodeEpoch {
    NodeEpoch::parse(&format!("00000000-0000-4000-8000-0000000000{number:02x}")).unwrap()
}

fn lease_of(number: u8) -> Lease {
    Lease { owner: owner(number), ttl: TTL }
}

pub(super) fn holding(name: &str, members: &[&Arc<ClientInfo>]) -> Holding {
    Holding { channel: channel(name), members: members.iter().map(|info| listed(info)).collect() }
}

async fn add(presence: &impl Presence, name: &str, info: &Arc<ClientInfo>) {
    presence.add(&channel(name), listed(info), lease()).await.unwrap();
}

async fn add_of(presence: &impl Presence, name: &str, info: &Arc<ClientInfo>, number: u8) -> bool {
    presence.add(&channel(name), listed(info), lease_of(number)).await.unwrap()
}

async fn remove(presence: &impl Presence, name: &str, info: &ClientInfo) -> bool {
    presence.remove(&channel(name), info.client, owner(0)).await.unwrap()
}

/// Takes `count` who departed, in the order of their ids; more must not have.
pub(super) async fn departed(presence: &impl Presence, count: usize) -> Vec<Departed> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(presence.departed().await);
    }
    assert_eq!(all.len(), count);
    let more = tokio::time::timeout(Duration::ZERO, presence.departed()).await;
    assert!(more.is_err(), "{more:?}");
    all.sort_by_key(|departed| departed.info.client.to_string());
    all
}

fn departure(name: &str, info: &Arc<ClientInfo>) -> Departed {
    Departed { channel: channel(name), info: Arc::clone(info) }
}

/// Asserts that exactly `expected` are members, and that they are counted so.
async fn check(presence: &impl Presence, name: &str, expected: &[&Arc<ClientInfo>], users: usize) {
    let members = presence.members(&channel(name)).await.unwrap();
    assert_eq!(members.len(), expected.len());
    for info in expected {
        assert!(members.contains(info), "{info:?} is missing in {members:?}");
    }
    let stats = presence.stats(&channel(name)).await.unwrap();
    assert_eq!(stats, PresenceStats { clients: expected.len(), users });
}

pub(super) async fn a_member_is_listed_until_it_is_removed(presence: impl Presence) {
    let (ann, bob) = (member("ann"), member("bob"));
    check(&presence, "a", &[], 0).await;
    add(&presence, "a", &ann).await;
    add(&presence, "a", &bob).await;
    check(&presence, "a", &[&ann, &bob], 2).await;
    remove(&presence, "a", &ann).await;
    check(&presence, "a", &[&bob], 1).await;
    remove(&presence, "a", &ann).await;
    check(&presence, "a", &[&bob], 1).await;
    remove(&presence, "a", &bob).await;
    check(&presence, "a", &[], 0).await;
}

pub(super) async fn adding_again_replaces_the_info(presence: impl Presence) {
    let before = member("ann");
    let conn_info = RawJson::parse(br#"{"name":"Ann"}"#).ok();
    let after =
        Arc::new(ClientInfo { conn_info, chan_info: Some(RawJson::string("x")), ..(*before).clone() });
    add(&presence, "a", &before).await;
    add(&presence, "a", &after).await;
    check(&presence, "a", &[&after], 1).await;
    add(&presence, "a", &before).await;
    check(&presence, "a", &[&before], 1).await;
}

pub(super) async fn a_refresh_brings_back_what_is_gone(presence: impl Presence) {
    let (ann, bob) = (member("ann"), member("bob"));
    add(&presence, "a", &ann).await;
    let holdings = [holding("a", &[&ann]), holding("b", &[&bob])];
    presence.refresh(&holdings, lease()).await.unwrap();
    check(&presence, "a", &[&ann], 1).await;
    check(&presence, "b", &[&bob], 1).await;
    presence.refresh(&[], lease()).await.unwrap();
}

pub(super) async fn channels_do_not_know_each_other(presence: impl Presence) {
    let ann = member("ann");
    add(&presence, "a", &ann).await;
    add(&presence, "b", &ann).await;
    remove(&presence, "a", &ann).await;
    check(&presence, "a", &[], 0).await;
    check(&presence, "b", &[&ann], 1).await;
}

pub(super) async fn users_are_counted_once_and_without_a_user_as_one(presence: impl Presence) {
    let all = [member("ann"), member("ann"), member(""), member(""), member("bob")];
    for info in &all {
        add(&presence, "a", info).await;
    }
    check(&presence, "a", &all.each_ref(), 3).await;
    remove(&presence, "a", &all[0]).await;
    remove(&presence, "a", &all[2]).await;
    check(&presence, "a", &[&all[1], &all[3], &all[4]], 3).await;
    remove(&presence, "a", &all[1]).await;
    remove(&presence, "a", &all[3]).await;
    check(&presence, "a", &[&all[4]], 1).await;
}

pub(super) async fn a_client_that_changes_its_user_is_counted_for_the_new_one(presence: impl Presence) {
    let (before, other) = (member("ann"), member("ann"));
    let user = UserId::parse("bob").unwrap();
    let after = Arc::new(ClientInfo { user, ..(*before).clone() });
    add(&presence, "a", &before).await;
    add(&presence, "a", &after).await;
    check(&presence, "a", &[&after], 1).await;
    add(&presence, "a", &other).await;
    check(&presence, "a", &[&after, &other], 2).await;
}

pub(super) async fn members_in_parallel_are_all_there(presence: impl Presence) {
    const TASKS: usize = 8;
    const EACH: usize = 100;
    let presence = Arc::new(presence);
    let task = |_| {
        let presence = Arc::clone(&presence);
        tokio::spawn(async move {
            for number in 0..EACH {
                let (stays, leaves) = (member(&number.to_string()), member("gone"));
                add(&*presence, "a", &stays).await;
                add(&*presence, "a", &leaves).await;
                remove(&*presence, "a", &leaves).await;
            }
        })
    };
    let tasks: Vec<_> = (0..TASKS).map(task).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stats = presence.stats(&channel("a")).await.unwrap();
    assert_eq!(stats, PresenceStats { clients: TASKS * EACH, users: EACH });
    assert_eq!(presence.members(&channel("a")).await.unwrap().len(), TASKS * EACH);
}

pub(super) async fn of_several_who_take_a_member_out_one_ended_it(presence: impl Presence) {
    let presence = Arc::new(presence);
    for _ in 0..20 {
        let ann = member("ann");
        assert!(add_of(&*presence, "a", &ann, 0).await, "it is new");
        assert!(!add_of(&*presence, "a", &ann, 0).await, "it is not any more");
        let remove_it = |_| {
            let (presence, ann) = (Arc::clone(&presence), Arc::clone(&ann));
            tokio::spawn(async move { remove(&*presence, "a", &ann).await })
        };
        let mut ended = 0;
        for removed in (0..4).map(remove_it).collect::<Vec<_>>() {
            ended += usize::from(removed.await.unwrap());
        }
        assert_eq!(ended, 1);
    }
    assert!(!remove(&*presence, "b", &member("ann")).await);
}

pub(super) async fn who_is_not_listed_is_kept_for_its_leave_alone(presence: impl Presence) {
    let (hidden, silent) = (member("hidden"), member("silent"));
    let hide = |info: &Arc<ClientInfo>| Member { is_listed: false, ..listed(info) };
    assert!(presence.add(&channel("a"), hide(&hidden), lease()).await.unwrap());
    assert!(!presence.add(&channel("a"), hide(&hidden), lease()).await.unwrap());
    let silence = Member { is_announced: false, ..listed(&silent) };
    assert!(presence.add(&channel("a"), silence, lease()).await.unwrap());
    check(&presence, "a", &[&silent], 1).await;
    assert!(remove(&presence, "a", &hidden).await);
    assert!(presence.add(&channel("a"), hide(&hidden), lease()).await.unwrap());
    presence.reap(owner(0)).await.unwrap();
    check(&presence, "a", &[], 0).await;
    assert_eq!(departed(&presence, 1).await, [departure("a", &hidden)]);
}

pub(super) async fn a_member_that_is_listed_no_more_is_not_counted(presence: impl Presence) {
    let ann = member("ann");
    add(&presence, "a", &ann).await;
    let hidden = Member { is_listed: false, ..listed(&ann) };
    assert!(!presence.add(&channel("a"), hidden, lease()).await.unwrap());
    check(&presence, "a", &[], 0).await;
    assert!(!add_of(&presence, "a", &ann, 0).await);
    check(&presence, "a", &[&ann], 1).await;
    assert!(remove(&presence, "a", &ann).await);
    check(&presence, "a", &[], 0).await;
}

pub(super) async fn who_dies_takes_its_members_along_and_no_others(presence: impl Presence) {
    let (here, there, elsewhere) = (member("ann"), member("bob"), member("eve"));
    add_of(&presence, "a", &here, 0).await;
    add_of(&presence, "a", &there, 1).await;
    add_of(&presence, "b", &elsewhere, 1).await;
    presence.reap(owner(2)).await.unwrap();
    check(&presence, "a", &[&here, &there], 2).await;
    presence.reap(owner(1)).await.unwrap();
    presence.reap(owner(1)).await.unwrap();
    check(&presence, "a", &[&here], 1).await;
    check(&presence, "b", &[], 0).await;
    let mut left = vec![departure("a", &there), departure("b", &elsewhere)];
    left.sort_by_key(|departed| departed.info.client.to_string());
    assert_eq!(departed(&presence, 2).await, left);
    assert!(!remove(&presence, "a", &there).await, "another ended it");
}

pub(super) async fn a_user_on_two_nodes_stays_when_one_dies(presence: impl Presence) {
    let (here, there) = (member("ann"), member("ann"));
    add_of(&presence, "a", &here, 0).await;
    add_of(&presence, "a", &there, 1).await;
    check(&presence, "a", &[&here, &there], 1).await;
    presence.reap(owner(1)).await.unwrap();
    check(&presence, "a", &[&here], 1).await;
    assert_eq!(departed(&presence, 1).await, [departure("a", &there)]);
}

pub(super) async fn who_moved_to_another_owner_does_not_die_with_the_first(presence: impl Presence) {
    let (moved, stayed) = (member("ann"), member("bob"));
    assert!(add_of(&presence, "a", &moved, 1).await);
    assert!(add_of(&presence, "a", &stayed, 1).await);
    assert!(!add_of(&presence, "a", &moved, 2).await, "nobody has taken it out");
    presence.reap(owner(1)).await.unwrap();
    check(&presence, "a", &[&moved], 1).await;
    assert_eq!(departed(&presence, 1).await, [departure("a", &stayed)]);
    assert!(add_of(&presence, "a", &stayed, 2).await, "it was taken out");
    presence.refresh(&[holding("a", &[&moved, &stayed])], lease_of(2)).await.unwrap();
    check(&presence, "a", &[&moved, &stayed], 2).await;
    presence.reap(owner(2)).await.unwrap();
    check(&presence, "a", &[], 0).await;
    departed(&presence, 2).await;
}

pub(super) async fn of_several_who_reap_each_member_departs_once(presence: impl Presence) {
    const CHANNELS: usize = 10;
    const EACH: usize = 20;
    let presence = Arc::new(presence);
    let survivor = member("ann");
    for number in 0..CHANNELS {
        add_of(&*presence, &number.to_string(), &survivor, 0).await;
        for _ in 0..EACH {
            add_of(&*presence, &number.to_string(), &member("bob"), 1).await;
        }
    }
    let reap = |_| {
        let presence = Arc::clone(&presence);
        tokio::spawn(async move { presence.reap(owner(1)).await.unwrap() })
    };
    for reaping in (0..3).map(reap).collect::<Vec<_>>() {
        reaping.await.unwrap();
    }
    let clients: HashSet<_> =
        departed(&*presence, CHANNELS * EACH).await.iter().map(|departed| departed.info.client).collect();
    assert_eq!(clients.len(), CHANNELS * EACH);
    for number in 0..CHANNELS {
        check(&*presence, &number.to_string(), &[&survivor], 1).await;
    }
}

pub(super) async fn a_refresh_takes_out_who_is_not_named(presence: impl Presence) {
    let (seated, gone, other) = (member("ann"), member("bob"), member("eve"));
    add(&presence, "a", &seated).await;
    add(&presence, "a", &gone).await;
    add_of(&presence, "a", &other, 1).await;
    presence.refresh(&[holding("a", &[&seated])], lease()).await.unwrap();
    check(&presence, "a", &[&seated, &other], 2).await;
    assert_eq!(departed(&presence, 1).await, [departure("a", &gone)]);
    // As many as there should be, and not the same.
    remove(&presence, "a", &seated).await;
    add(&presence, "a", &gone).await;
    presence.refresh(&[holding("a", &[&seated])], lease()).await.unwrap();
    check(&presence, "a", &[&seated, &other], 2).await;
    assert_eq!(departed(&presence, 1).await, [departure("a", &gone)]);
}

pub(super) async fn a_crowd_is_counted_refreshed_and_reaped(presence: impl Presence) {
    const CROWD: usize = 10_000;
    let crowd: Vec<_> = (0..CROWD).map(|number| member(&(number / 2).to_string())).collect();
    let bystander = member("eve");
    add_of(&presence, "a", &bystander, 1).await;
    let members: Vec<_> = crowd.iter().collect();
    presence.refresh(&[holding("a", &members)], lease()).await.unwrap();
    let stats = PresenceStats { clients: CROWD + 1, users: CROWD / 2 + 1 };
    assert_eq!(presence.stats(&channel("a")).await.unwrap(), stats);
    assert_eq!(presence.members(&channel("a")).await.unwrap().len(), CROWD + 1);
    presence.refresh(&[holding("a", &members)], lease()).await.unwrap();
    assert_eq!(presence.stats(&channel("a")).await.unwrap(), stats);
    let (reaped, departed) = tokio::join!(presence.reap(owner(0)), departed(&presence, CROWD));
    reaped.unwrap();
    assert_eq!(departed.iter().map(|departed| departed.info.client).collect::<HashSet<_>>().len(), CROWD);
    check(&presence, "a", &[&bystander], 1).await;
}
