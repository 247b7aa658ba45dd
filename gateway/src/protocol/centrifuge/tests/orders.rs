use std::time::{Duration, SystemTime};

use super::*;
use crate::model::{CloseReason, RawJson, SubscriptionGrant};
use crate::node::Order;
use crate::protocol::testing::{channel, subscribe_order, unsubscribe_order};

fn subscribe_push(channel: &str) -> Did {
    Did::Say(json!({"push": {"channel": channel, "subscribe": {}}}))
}

fn unsubscribe_push(channel: &str) -> Did {
    let unsubscribe = json!({"code": 2000, "reason": "server unsubscribe"});
    Did::Say(json!({"push": {"channel": channel, "unsubscribe": unsubscribe}}))
}

#[test]
fn the_server_subscribes_a_client_whatever_it_may_do_itself() {
    let mut bench = connected_as("ann");
    let data = RawJson::parse(b"{\"a\":1}").ok();
    let done = bench.order(Order::Subscribe {
        channel: channel("$closed:x"),
        grant: SubscriptionGrant { data, ..SubscriptionGrant::default() },
        since: None,
    });
    assert_eq!(done, [subscribes("$closed:x")]);
    let push = json!({"push": {"channel": "$closed:x", "subscribe": {"data": {"a": 1}}}});
    assert_eq!(bench.succeed(), [Did::Say(push)]);
}

#[test]
fn the_server_subscribing_who_is_subscribed_changes_nothing() {
    let mut bench = connected_as("ann");
    bench.ask(&subscribe(2, "news"));
    assert_eq!(bench.order(subscribe_order("news")), []);
    bench.say(&subscribe(3, "late"));
    assert_eq!(bench.order(subscribe_order("late")), []);
    assert_eq!(bench.succeed(), [Did::Say(json!({"id": 3, "subscribe": {}}))]);
}

#[test]
fn who_the_server_subscribed_is_subscribed_for_commands_too() {
    let mut bench = connected_as("ann");
    bench.order(subscribe_order("chat:a"));
    bench.settle();
    assert_eq!(bench.ask(&subscribe(2, "chat:a")), [error(2, 105)]);
    assert_eq!(bench.ask(&publish(3, "chat:a", &json!(1))), [json!({"id": 3, "publish": {}})]);
    let done = bench.say(&unsubscribe(4, "chat:a"));
    assert_eq!(done, [Did::Unsubscribe("chat:a".into()), Did::Say(json!({"id": 4, "unsubscribe": {}}))]);
}

#[test]
fn the_server_ends_any_subscription() {
    let mut bench = connected_as("ann");
    bench.ask(&subscribe(2, "news"));
    let done = bench.order(unsubscribe_order("news"));
    assert_eq!(done, [Did::Unsubscribe("news".into()), unsubscribe_push("news")]);
    assert_eq!(bench.order(unsubscribe_order("news")), []);
    assert_eq!(bench.ask(&subscribe(3, "news")), [json!({"id": 3, "subscribe": {}})]);
}

#[test]
fn a_subscription_of_the_server_beyond_the_limit_closes() {
    let mut bench = connected_as("ann");
    for name in ["a", "b", "c", "d"] {
        bench.order(subscribe_order(name));
        assert_eq!(bench.settle(), [subscribe_push(name)]);
    }
    assert_eq!(bench.order(subscribe_order("e")), [Did::Close(CloseReason::ChannelLimit)]);
    assert_eq!(bench.order(subscribe_order("f")), []);
}

#[test]
fn a_subscription_of_the_server_that_fails_closes() {
    let mut bench = connected_as("ann");
    bench.order(subscribe_order("news"));
    assert_eq!(bench.say(&subscribe(2, "late")), []);
    assert_eq!(bench.fail(), [Did::Close(CloseReason::Internal)]);
    assert_eq!(bench.say(&subscribe(3, "late")), []);
}

#[test]
fn an_order_is_carried_out_between_two_commands() {
    let mut bench = connected_as("ann");
    bench.say(&subscribe(2, "a"));
    assert_eq!(bench.order(unsubscribe_order("a")), []);
    assert_eq!(bench.order(subscribe_order("b")), []);
    assert_eq!(bench.say(&subscribe(3, "b")), []);
    let first = [
        Did::Say(json!({"id": 2, "subscribe": {}})),
        Did::Unsubscribe("a".into()),
        unsubscribe_push("a"),
        subscribes("b"),
    ];
    assert_eq!(bench.succeed(), first);
    assert_eq!(bench.succeed(), [subscribe_push("b"), Did::Say(error(3, 105))]);
}

#[test]
fn an_order_before_connect_is_for_nobody() {
    let mut bench = arrived(&config());
    assert_eq!(bench.order(subscribe_order("news")), []);
    assert_eq!(bench.ask(&connect(&token("ann"))).len(), 1);
    assert!(bench.subscribed.is_empty());
}

#[test]
fn a_subscription_until_a_time_beyond_the_clock_never_ends() {
    let mut bench = connected_as("ann");
    let end_of_time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(i64::MAX.unsigned_abs()));
    let grant = SubscriptionGrant { expires_at: Some(end_of_time.unwrap()), ..SubscriptionGrant::default() };
    bench.order(Order::Subscribe { channel: channel("news"), grant, since: None });
    assert_eq!(bench.succeed(), [subscribe_push("news")]);
    assert_eq!(bench.remind(), []);
}
