//! Subscriptions by token: what they grant, when they end, and how they are prolonged.

use std::time::{Duration, SystemTime};

use super::*;
use crate::auth;
use crate::model::{CloseReason, RawJson};
use crate::node::Order;

/// A subscription token of `user` for `channel`, good for `seconds` from now.
pub(super) fn subscription_token(user: &str, channel: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let exp = now.checked_add_signed(seconds).unwrap();
    let claims = json!({"sub": user, "channel": channel, "exp": exp, "info": {"role": "x"}, "data": [1]});
    auth::sign(&config().client.token, &claims).unwrap().expose().to_owned()
}

/// A token without an info: of `user`, for `channel` if that is not empty.
fn plain_token(user: &str, channel: &str) -> String {
    let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 3_600;
    let mut claims = json!({"sub": user, "exp": exp});
    if !channel.is_empty() {
        claims["channel"] = channel.into();
    }
    auth::sign(&config().client.token, &claims).unwrap().expose().to_owned()
}

pub(super) fn subscribe_with(id: u32, channel: &str, token: &str) -> String {
    json!({"id": id, "subscribe": {"channel": channel, "token": token}}).to_string()
}

pub(super) fn sub_refresh(id: u32, channel: &str, token: &str) -> String {
    json!({"id": id, "sub_refresh": {"channel": channel, "token": token}}).to_string()
}

/// A client that has subscribed to `$closed:a` with a token that ends in `seconds`.
fn subscribed_for(config: &Config, seconds: i64) -> Bench<Client> {
    let mut bench = arrived(config);
    bench.say(&connect(&token("ann")));
    bench.say(&subscribe_with(2, "$closed:a", &subscription_token("ann", "$closed:a", seconds)));
    let done = bench.succeed();
    assert_eq!(done.last(), Some(&Did::Remind), "{done:?}");
    bench
}

#[test]
fn a_token_opens_a_private_channel_and_says_what_comes_with_it() {
    let mut bench = connected_as("ann");
    let token = subscription_token("ann", "$closed:a", 3_600);
    assert_eq!(bench.say(&subscribe_with(2, "$closed:a", &token)), [subscribes("$closed:a")]);
    let mut done = bench.succeed();
    let Did::Say(reply) = &mut done[0] else { panic!("{done:?}") };
    about_an_hour(&mut reply["subscribe"]["ttl"]);
    let expected = json!({"expires": true, "ttl": "about an hour", "data": [1]});
    assert_eq!(reply["subscribe"], expected);
    assert_eq!(done[1..], [Did::Remind]);
    assert_eq!(bench.ask(&publish(3, "open:a", &json!(1))).len(), 1);
    assert_eq!(bench.published[0].info.as_ref().unwrap().chan_info, None, "another channel");
}

#[test]
fn a_token_that_is_not_for_this_closes_and_a_bad_one_is_refused() {
    for (user, channel) in [("ann", "$closed:b"), ("bob", "$closed:a")] {
        let line = subscribe_with(2, "$closed:a", &subscription_token(user, channel, 60));
        assert_eq!(
            connected_as("ann").say(&line),
            [Did::Close(CloseReason::InvalidToken)],
            "{user} {channel}"
        );
    }
    let mut bench = connected_as("ann");
    assert_eq!(bench.ask(&subscribe_with(2, "$closed:a", "nope")), [error(2, 103)]);
    assert_eq!(
        bench.ask(&subscribe_with(3, "$closed:a", &token("ann"))),
        [error(3, 103)],
        "no channel in it"
    );
    let expired = subscription_token("ann", "$closed:a", -60);
    assert_eq!(bench.ask(&subscribe_with(4, "$closed:a", &expired)), [error(4, 109)]);
    assert!(!bench.is_closed());
}

#[test]
fn a_subscription_that_is_not_refreshed_ends_and_the_client_is_told() {
    let mut config = config();
    config.client.expired_sub_close_delay = Duration::ZERO;
    // Within the leeway the token is taken, though its time has come.
    let mut bench = subscribed_for(&config, -1);
    let ended = json!({"push": {"channel": "$closed:a", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}});
    assert_eq!(bench.remind(), [Did::Unsubscribe("$closed:a".into()), Did::Say(ended)]);
    assert_eq!(bench.remind(), []);
    config.client.expired_sub_close_delay = Duration::from_secs(25);
    let mut bench = subscribed_for(&config, -1);
    assert_eq!(bench.remind(), [Did::Remind], "there is a grace");
}

#[test]
fn a_subscription_is_prolonged_by_a_newer_token() {
    let mut config = config();
    config.client.expired_sub_close_delay = Duration::ZERO;
    let mut bench = subscribed_for(&config, -1);
    let mut done = bench.say(&sub_refresh(3, "$closed:a", &subscription_token("ann", "$closed:a", 3_600)));
    let Did::Say(reply) = &mut done[0] else { panic!("{done:?}") };
    about_an_hour(&mut reply["sub_refresh"]["ttl"]);
    assert_eq!(reply, &json!({"id": 3, "sub_refresh": {"expires": true, "ttl": "about an hour"}}));
    assert_eq!(bench.remind(), [Did::Remind], "its time has not come any more");
}

#[test]
fn what_cannot_be_refreshed_says_so() {
    let good = || subscription_token("ann", "$closed:a", 60);
    let fresh = || subscribed_for(&config(), 60);
    assert_eq!(fresh().ask(&sub_refresh(3, "$closed:b", &good())), [error(3, 103)], "not subscribed");
    assert_eq!(fresh().ask(&sub_refresh(3, "$closed:a", "")), [error(3, 107)]);
    let expired = subscription_token("ann", "$closed:a", -60);
    assert_eq!(fresh().ask(&sub_refresh(3, "$closed:a", &expired)), [error(3, 109)]);
    for bad in ["nope".to_owned(), subscription_token("ann", "$closed:b", 60)] {
        assert_eq!(fresh().say(&sub_refresh(3, "$closed:a", &bad)), [Did::Close(CloseReason::InvalidToken)]);
    }
    closes(&mut fresh(), &sub_refresh(3, "", &good()));
    let mut bench = fresh();
    bench.ask(&subscribe(4, "news"));
    closes(&mut bench, &sub_refresh(5, "news", &good()));
}

#[test]
fn who_publishes_to_a_channel_shows_what_its_token_says_of_it() {
    let mut bench = connected_as("ann");
    bench.say(&subscribe_with(2, "chat:a", &subscription_token("ann", "chat:a", 60)));
    bench.succeed();
    bench.ask(&publish(3, "chat:a", &json!(1)));
    let info = bench.published[0].info.as_ref().unwrap();
    assert_eq!(info.chan_info.as_ref().unwrap().as_bytes(), br#"{"role":"x"}"#);
}

/// The client broke the protocol.
fn closes(bench: &mut Bench<Client>, line: &str) {
    assert_eq!(bench.say(line), [Did::Close(CloseReason::BadRequest)], "{line}");
}

#[test]
fn others_see_a_client_as_its_newest_tokens_say() {
    let mut bench = connected_as("ann");
    bench.say(&subscribe_with(2, "$closed:a", &subscription_token("ann", "$closed:a", 60)));
    bench.succeed();
    let (conn_info, chan_info) = (Some(r#"{"name":"Ann"}"#.to_owned()), Some(r#"{"role":"x"}"#.to_owned()));
    let done = bench.say(&sub_refresh(3, "$closed:a", &subscription_token("ann", "$closed:a", 90)));
    assert!(matches!(done[..], [Did::Say(_), Did::Remind]), "the same is no news: {done:?}");
    let done = bench.say(&sub_refresh(4, "$closed:a", &plain_token("ann", "$closed:a")));
    assert_eq!(done[0], Did::Appear("$closed:a".into(), conn_info, None));
    bench.say(&sub_refresh(5, "$closed:a", &subscription_token("ann", "$closed:a", 90)));
    let done = bench.say(&json!({"id": 6, "refresh": {"token": plain_token("ann", "")}}).to_string());
    assert_eq!(done[..2], [Did::Renew(true), Did::Appear("$closed:a".into(), None, chan_info.clone())]);
    let info = RawJson::parse(b"7").ok();
    let done = bench.order(Order::Refresh { expires_at: None, info });
    let seen = Did::Appear("$closed:a".into(), Some("7".into()), chan_info);
    assert_eq!(done, [Did::Renew(false), seen, Did::Say(json!({"push": {"refresh": {}}}))]);
    let done = bench.order(Order::Refresh { expires_at: None, info: None });
    assert_eq!(done.len(), 2, "without an info it stays as it was: {done:?}");
}
