//! What every presence promises, as tests. An implementation calls [`suite!`] with how to make one.
//!
//! Nothing here depends on how fast time passes: how leases end an implementation tests itself, with its own
//! clock.

use std::sync::Arc;
use std::time::Duration;

use super::{Presence, PresenceStats};
use crate::model::{Channel, ClientId, ClientInfo, RawJson, UserId};

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

async fn add(presence: &impl Presence, name: &str, info: &Arc<ClientInfo>) {
    presence.add(&channel(name), Arc::clone(info), TTL).await.unwrap();
}

async fn remove(presence: &impl Presence, name: &str, info: &ClientInfo) {
    presence.remove(&channel(name), info.client).await.unwrap();
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
    presence.refresh(&[(channel("a"), Arc::clone(&before))], TTL).await.unwrap();
    check(&presence, "a", &[&before], 1).await;
}

pub(super) async fn a_refresh_brings_back_what_is_gone(presence: impl Presence) {
    let (ann, bob) = (member("ann"), member("bob"));
    add(&presence, "a", &ann).await;
    let leases = [(channel("a"), Arc::clone(&ann)), (channel("b"), Arc::clone(&bob))];
    presence.refresh(&leases, TTL).await.unwrap();
    check(&presence, "a", &[&ann], 1).await;
    check(&presence, "b", &[&bob], 1).await;
    presence.refresh(&[], TTL).await.unwrap();
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
