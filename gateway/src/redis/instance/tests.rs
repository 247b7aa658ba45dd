use std::collections::VecDeque;

use super::super::call::{Script, script};
use super::super::subscriptions::Item;
use super::super::testing::{self, Anything};
use super::*;

static TRIAL: Script = script!("trial.lua");

async fn heard(instance: &Instance) {
    instance.hearing().wait_for(|hearing| hearing.is_heard()).await.unwrap();
}

/// What was heard of `name`, up to the message `last`.
async fn messages(instance: &Instance, last: &str) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (mut heard, mut items, mut dropped) = (Vec::new(), VecDeque::new(), Vec::new());
    while !heard.iter().any(|(_, payload)| payload == last) {
        let takes = instance.queues().iter().map(|queue| {
            Box::pin(async {
                let (mut items, mut dropped) = (VecDeque::new(), Vec::new());
                queue.take(&mut items, &mut dropped).await;
                (items, dropped)
            })
        });
        let ((taken, lost), ..) = futures_util::future::select_all(takes).await;
        items.extend(taken);
        dropped.extend(lost);
        for item in items.drain(..) {
            if let Item::Message { name, payload } = item {
                heard.push((text(name), text(payload)));
            }
        }
    }
    assert!(dropped.is_empty());
    heard
}

fn publish(name: &str, payload: &str) -> Call {
    Call::command("PUBLISH").arg(name).arg(payload)
}

#[tokio::test]
async fn commands_scripts_and_pipelines_are_answered_and_an_unknown_script_is_made_known() {
    let redis = testing::redis().await;
    let (home, names) = (redis.home(), redis.names());
    let keys = ["hash", "stream", "set", "sorted", "text"].map(|kind| names.of("t", kind));
    let trial = || {
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        Call::script(&TRIAL, &keys).arg(names.of("t", "channel"))
    };
    let missing: Vec<String> = home.call(trial()).await.unwrap();
    assert!(missing.is_empty(), "{missing:?}");
    home.call::<Anything>(Call::command("SCRIPT").arg("FLUSH")).await.unwrap();
    let failing = Call::command("HSET").arg(&keys[1]).arg("a").arg(1);
    let answers = home.pipeline::<Anything>(vec![trial(), failing, trial()]).await.unwrap();
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(answers[1], Err(Failure::Refused(Refusal::WrongType)));
    home.call::<Anything>(Call::command("SCRIPT").arg("FLUSH")).await.unwrap();
    assert!(home.call_apart::<Anything>(trial()).await.is_ok());
}

#[tokio::test]
async fn what_is_subscribed_is_heard_in_order_and_nothing_else_is() {
    let redis = testing::redis().await;
    let home = redis.home();
    let (one, other) = (redis.names().of("t", "one"), redis.names().of("t", "other"));
    home.subscribe(&one).await.unwrap();
    for number in 0..100 {
        home.call::<i64>(publish(&one, &number.to_string())).await.unwrap();
        home.call::<i64>(publish(&other, "unheard")).await.unwrap();
    }
    let expected: Vec<_> = (0..100).map(|number| (one.clone(), number.to_string())).collect();
    assert_eq!(messages(home, "99").await, expected);
    home.unsubscribe(&one).await.unwrap();
    home.subscribe(&other).await.unwrap();
    home.call::<i64>(publish(&one, "unheard")).await.unwrap();
    home.call::<i64>(publish(&other, "end")).await.unwrap();
    assert_eq!(messages(home, "end").await, [(other, "end".to_owned())]);
}

#[tokio::test]
async fn after_its_connection_was_killed_it_hears_again_by_itself() {
    let server = testing::Server::start();
    let redis = testing::connect(&server).await;
    let (home, name) = (redis.home(), redis.names().of("t", "one"));
    heard(home).await;
    home.subscribe(&name).await.unwrap();
    let mut hearing = home.hearing();
    hearing.mark_unchanged();
    home.call::<i64>(Call::command("CLIENT").arg("KILL").arg("TYPE").arg("pubsub")).await.unwrap();
    hearing.changed().await.unwrap();
    heard(home).await;
    home.call::<i64>(publish(&name, "end")).await.unwrap();
    assert_eq!(messages(home, "end").await, [(name, "end".to_owned())]);
}
