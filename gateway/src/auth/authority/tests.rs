use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::auth::{Following, sign};
use crate::config::{ChannelSection, RecoveryMode, SlowConsumer};
use crate::model::{Capability, ChannelMatch, Permission, RawJson, TokenGrants};

const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
const SUBSCRIPTION_SECRET: &str = "another key, for the tokens of subscriptions";
const META_TTL: Duration = Duration::from_secs(3600);

fn client() -> Client {
    let mut client = Client::default();
    client.token.hmac_secret_key = Secret::new(SECRET);
    client
}

/// An authority over the channels of `section`, given as in a file.
fn authority(client: &Client, section: Value) -> Authority {
    let section: ChannelSection = serde_json::from_value(section).unwrap();
    Authority::new(client, Channels::new(&section), section.channel_bytes_max).unwrap()
}

fn identity(user: &str) -> Identity {
    Identity { user: UserId::parse(user).unwrap(), ..Identity::default() }
}

fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).unwrap()
}

/// Seconds from now, as in a token.
fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// A subscription token that is good for an hour, with `more` claims.
fn token(client: &Client, more: &Value) -> Secret {
    let mut claims = json!({"exp": seconds_from_now(3600)});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sign(client.subscription_token_rules(), &claims).unwrap()
}

/// Brings a token with `claims` as the user 42 to subscribe to `$news`.
fn authorize(client: &Client, claims: &Value) -> Result<SubscriptionGrant, SubscriptionTokenError> {
    let authority = authority(client, json!({}));
    authority.authorize(&token(client, claims), &identity("42"), ClientId::random(), &channel("$news"))
}

#[test]
fn a_subscription_token_is_for_one_user_and_one_channel() {
    use SubscriptionTokenError::{Bad, Expired, Foreign};
    for (claims, expected) in [
        (json!({"sub": "42", "channel": "$news"}), None),
        (json!({"sub": "42", "channel": "$news", "client": ""}), None),
        (json!({"sub": "42", "channel": "$news2"}), Some(Foreign)),
        (json!({"sub": "42", "channel": "news"}), Some(Foreign)),
        (json!({"sub": "42", "channel": ""}), Some(Foreign)),
        (json!({"sub": "43", "channel": "$news"}), Some(Foreign)),
        (json!({"sub": "", "channel": "$news"}), Some(Foreign)),
        (json!({"channel": "$news"}), Some(Foreign)),
        (json!({"sub": "42", "channel": "$news", "client": "42"}), Some(Foreign)),
        (json!({"sub": "42", "channel": "$news", "client": ClientId::random().to_string()}), Some(Foreign)),
        (json!({"sub": "42"}), Some(Bad)),
        (json!({"sub": "42", "channel": ["$news"]}), Some(Bad)),
        (json!({"sub": "42", "channel": "$news", "client": 1}), Some(Bad)),
        (json!({"sub": 42, "channel": "$news"}), Some(Bad)),
        (json!({"sub": "42", "channel": "$news", "jti": 7}), Some(Bad)),
        (json!({"sub": "42", "channel": "$news", "info": "x".repeat(1025)}), Some(Bad)),
        (json!({"sub": "42", "channel": "$news", "override": 1}), Some(Bad)),
        (json!({"sub": "42", "channel": "$news", "exp": null}), Some(Bad)),
        (json!({"sub": "42", "channel": "$news", "exp": seconds_from_now(48 * 3600)}), Some(Bad)),
        (json!({"sub": "42", "channel": "$news", "exp": seconds_from_now(-60)}), Some(Expired)),
        (json!({"sub": "42", "channel": "$news", "expire_at": seconds_from_now(-60)}), Some(Expired)),
        (json!({"sub": "42", "channel": "$news", "nbf": seconds_from_now(60)}), Some(Expired)),
        (json!({"sub": "42", "channel": "$other", "exp": seconds_from_now(-60)}), Some(Expired)),
    ] {
        assert_eq!(authorize(&client(), &claims).err(), expected, "{claims}");
    }
}

#[test]
fn a_subscription_token_may_be_for_one_client() {
    let (client, mine) = (client(), ClientId::random());
    let authority = authority(&client, json!({}));
    let token = token(&client, &json!({"channel": "news", "client": mine.to_string()}));
    let authorize =
        |who| authority.authorize(&token, &Identity::default(), who, &channel("news")).map(|_| ());
    assert_eq!(authorize(mine), Ok(()));
    assert_eq!(authorize(ClientId::random()), Err(SubscriptionTokenError::Foreign));
}

#[test]
fn a_subscription_token_says_what_it_grants() {
    let end = seconds_from_now(60);
    let claims = json!({"sub": "42", "channel": "$news", "expire_at": end, "info": {"a": 1}, "data": 2,
        "override": {"join_leave": {"value": true}}});
    let grant = authorize(&client(), &claims).unwrap();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(end.try_into().unwrap());
    let expected = SubscriptionGrant {
        info: RawJson::parse(br#"{"a":1}"#).ok(),
        data: RawJson::parse(b"2").ok(),
        overrides: Overrides { join_leave: Some(true), ..Overrides::default() },
        expires_at: Some(end),
    };
    assert_eq!(grant, expected);
    let once = json!({"sub": "42", "channel": "$news", "expire_at": 0});
    assert_eq!(authorize(&client(), &once).unwrap().expires_at, None);
    let hour = authorize(&client(), &json!({"sub": "42", "channel": "$news"})).unwrap();
    assert!(hour.expires_at.unwrap() > end);
    let insecure = Client { insecure: true, ..client() };
    assert_eq!(authorize(&insecure, &claims).unwrap().expires_at, None);
}

#[test]
fn the_two_kinds_of_tokens_do_not_stand_in_for_each_other() {
    let shared = client();
    let connection = sign(&shared.token, &json!({"sub": "42", "exp": seconds_from_now(60)})).unwrap();
    let subscription = token(&shared, &json!({"sub": "42", "channel": "news"}));
    let gate = authority(&shared, json!({}));
    let authorize = |token: &Secret| {
        gate.authorize(token, &identity("42"), ClientId::random(), &channel("news")).map(|_| ())
    };
    assert_eq!(gate.authenticate(&subscription).unwrap_err(), TokenError::Claim("channel"));
    assert_eq!(authorize(&connection), Err(SubscriptionTokenError::Bad));
    assert_eq!(authorize(&subscription), Ok(()));

    let mut apart = shared;
    apart.subscription_token.hmac_secret_key = Secret::new(SUBSCRIPTION_SECRET);
    apart.subscription_token.audience = Some("chat".into());
    let gate = authority(&apart, json!({}));
    let authorize = |token: &Secret| {
        gate.authorize(token, &identity("42"), ClientId::random(), &channel("news")).map(|_| ())
    };
    assert_eq!(authorize(&subscription), Err(SubscriptionTokenError::Bad), "another key");
    let claims = json!({"sub": "42", "channel": "news"});
    assert_eq!(authorize(&token(&apart, &claims)), Err(SubscriptionTokenError::Bad), "no audience");
    let claims = json!({"sub": "42", "channel": "news", "aud": "chat"});
    assert_eq!(authorize(&token(&apart, &claims)), Ok(()));
    assert!(gate.authenticate(&connection).is_ok());
}

#[test]
fn each_user_has_a_personal_channel_where_it_is_on() {
    let name = |enabled: bool, namespace: &str, user: &str| {
        let personal = PersonalChannel { enabled, namespace: namespace.into() };
        let client = Client { subscribe_to_user_personal_channel: personal, ..client() };
        authority(&client, json!({})).personal_channel(&UserId::parse(user).unwrap())
    };
    assert_eq!(name(true, "", "42").as_deref(), Some("#42"));
    assert_eq!(name(true, "own", "42").as_deref(), Some("own:#42"));
    assert_eq!(name(true, "own", ""), None);
    assert_eq!(name(false, "own", "42"), None);
}

#[test]
fn a_channel_has_what_its_namespace_says() {
    let section = json!({
        "publication_data_format": "json",
        "namespaces": [{"name": "chat", "presence": true, "publication_data_format": "binary"}],
    });
    let authority = authority(&client(), section);
    assert!(authority.has_presence(&channel("chat:a")) && !authority.has_presence(&channel("news")));
    assert!(!authority.has_presence(&channel("other:a")));
    assert_eq!(authority.data_format(&channel("chat:a")), DataFormat::Binary);
    assert_eq!(authority.data_format(&channel("news")), DataFormat::Json);
    let namespace = |name: &str| authority.may_see_presence(&identity("42"), &channel(name), true);
    assert_eq!(namespace("other:a"), Err(Refusal::UnknownNamespace));
    assert_eq!(namespace("chat:a"), Err(Refusal::Denied));
}

/// What the namespace `options` and the `overrides`, both as in a file or a token, make of `asks` (any of p, r
/// and j): f follows, R can recover, a recovers by itself, l listed, n announced, h hears notices.
fn terms(options: &Value, overrides: Overrides, asks: &str, who: &Identity) -> String {
    let authority = authority(&client(), json!({ "without_namespace": options }));
    let asks = Asks {
        positioned: asks.contains('p'),
        recoverable: asks.contains('r'),
        join_leave: asks.contains('j'),
    };
    let terms = authority.terms(who, &channel("news"), asks, &overrides);
    let flags = [
        ('f', terms.following.is_some()),
        ('R', terms.following.is_some_and(|following| following.can_recover)),
        ('a', terms.auto_cache_recover),
        ('l', terms.is_listed),
        ('n', terms.is_announced),
        ('h', terms.hears_notices),
    ];
    flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag).collect()
}

fn with_history(options: &Value) -> Value {
    let mut all = json!({"history_size": 10, "history_ttl": "5m"});
    all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    all
}

#[test]
fn a_subscription_comes_with_what_is_forced_or_asked_for_and_allowed() {
    for (options, asks, expected) in [
        (json!({}), "prj", ""),
        (json!({"force_positioning": true}), "", "f"),
        (json!({"force_recovery": true}), "", "fR"),
        (json!({"allow_positioning": true}), "", ""),
        (json!({"allow_positioning": true}), "p", "f"),
        (json!({"allow_positioning": true}), "r", ""),
        (json!({"allow_recovery": true}), "p", ""),
        (json!({"allow_recovery": true}), "r", "fR"),
        (json!({"allow_history_for_subscriber": true}), "p", "f"),
        (json!({"allow_history_for_client": true}), "r", "fR"),
        (json!({"allow_history_for_client": true}), "", ""),
        (json!({"allow_history_for_anonymous": true}), "pr", ""),
        (json!({"presence": true}), "", "l"),
        (json!({"join_leave": true}), "", "n"),
        (json!({"join_leave": true}), "j", "n"),
        (json!({"join_leave": true, "allow_presence_for_subscriber": true}), "j", "nh"),
        (json!({"join_leave": true, "allow_presence_for_client": true}), "j", "nh"),
        (json!({"join_leave": true, "allow_presence_for_client": true}), "", "n"),
        (json!({"allow_presence_for_client": true}), "j", ""),
        (json!({"join_leave": true, "force_push_join_leave": true}), "", "nh"),
        (json!({"force_push_join_leave": true}), "", "h"),
        (json!({"force_recovery": true, "force_recovery_mode": "cache"}), "", "fR"),
        (
            json!({"force_recovery": true, "force_recovery_mode": "cache", "auto_cache_recover": true}),
            "",
            "fRa",
        ),
    ] {
        let overrides = Overrides::default();
        assert_eq!(
            terms(&with_history(&options), overrides, asks, &identity("42")),
            expected,
            "{options} {asks}"
        );
        let without = terms(&options, overrides, asks, &identity("42"));
        assert_eq!(without, expected.replace(['f', 'R', 'a'], ""), "{options} {asks}, without a history");
    }
}

#[test]
fn an_override_wins_over_the_namespace_in_both_directions() {
    let on_off = |set: fn(&mut Overrides, bool)| {
        [true, false].map(|value| {
            let mut overrides = Overrides::default();
            set(&mut overrides, value);
            overrides
        })
    };
    let presence = on_off(|overrides, value| overrides.presence = Some(value));
    let join_leave = on_off(|overrides, value| overrides.join_leave = Some(value));
    let push = on_off(|overrides, value| overrides.force_push_join_leave = Some(value));
    let positioning = on_off(|overrides, value| overrides.force_positioning = Some(value));
    let recovery = on_off(|overrides, value| overrides.force_recovery = Some(value));
    let cache = json!({"force_recovery": true, "force_recovery_mode": "cache", "auto_cache_recover": true});
    let mut positioned_cache = cache.clone();
    positioned_cache["allow_positioning"] = true.into();
    for (options, [on, off], asks, when_on, when_off) in [
        (json!({}), presence, "", "l", ""),
        (json!({"presence": true}), presence, "", "l", ""),
        (json!({}), join_leave, "", "n", ""),
        (json!({"join_leave": true}), join_leave, "", "n", ""),
        (json!({"allow_presence_for_client": true}), join_leave, "j", "nh", ""),
        (json!({"join_leave": true, "allow_presence_for_client": true}), join_leave, "j", "nh", ""),
        (json!({}), push, "", "h", ""),
        (json!({"force_push_join_leave": true}), push, "", "h", ""),
        (json!({"force_positioning": true}), positioning, "", "f", ""),
        (json!({}), positioning, "", "f", ""),
        (json!({"allow_positioning": true}), positioning, "p", "f", "f"),
        (json!({}), recovery, "", "fR", ""),
        (json!({"force_recovery": true}), recovery, "", "fR", ""),
        (json!({"force_recovery": true, "force_positioning": true}), recovery, "", "fR", "f"),
        (json!({"allow_recovery": true}), recovery, "r", "fR", "fR"),
        (cache, recovery, "", "fRa", ""),
        (positioned_cache, recovery, "p", "fRa", "f"),
    ] {
        let who = identity("42");
        assert_eq!(terms(&with_history(&options), on, asks, &who), when_on, "{options} {asks} on");
        assert_eq!(terms(&with_history(&options), off, asks, &who), when_off, "{options} {asks} off");
    }
    assert_eq!(terms(&json!({}), recovery[0], "pr", &identity("42")), "", "nothing to recover from");
}

#[test]
fn a_capability_gives_what_a_permission_gives() {
    let with = |permissions: &[Permission]| {
        let capability = Capability {
            channels: vec!["n*".into()],
            matching: ChannelMatch::Wildcard,
            permissions: permissions.into(),
        };
        let grants = TokenGrants { capabilities: vec![capability], ..TokenGrants::default() };
        Identity { grants: Some(Arc::new(grants)), ..identity("42") }
    };
    let options = with_history(&json!({"join_leave": true}));
    let terms = |permissions: &[Permission]| terms(&options, Overrides::default(), "prj", &with(permissions));
    assert_eq!(terms(&[Permission::Presence]), "nh");
    assert_eq!(terms(&[Permission::History]), "fRn");
    assert_eq!(terms(&[Permission::Subscribe, Permission::Publish]), "n");
}

#[test]
fn a_subscription_follows_as_its_namespace_says() {
    let options = json!({"name": "chat", "history_size": 10, "history_ttl": "5m", "history_meta_ttl": "1h",
        "force_recovery": true, "force_recovery_mode": "cache", "slow_consumer": "drop_oldest"});
    let authority = authority(&client(), json!({ "namespaces": [options] }));
    let terms =
        |name: &str| authority.terms(&identity("42"), &channel(name), Asks::default(), &Overrides::default());
    let following = Following { can_recover: true, mode: RecoveryMode::Cache, meta_ttl: META_TTL };
    assert_eq!(terms("chat:a").following, Some(following));
    assert_eq!(terms("chat:a").slow_consumer, SlowConsumer::DropOldest);
    assert_eq!(terms("other:a"), Terms::default());
}
