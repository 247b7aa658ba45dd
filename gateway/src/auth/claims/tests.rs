use serde_json::{Value, json};

use super::*;

/// The grants of a connection token with these claims.
fn grants_of(claims: &Value) -> Result<Option<TokenGrants>, TokenError> {
    let text = claims.to_string();
    let claims = Members::parse(text.as_bytes()).unwrap();
    grants(&claims).map(|grants| grants.map(|grants| TokenGrants::clone(&grants)))
}

/// The grant of a subscription token, or of an entry of `subs`, with these members.
fn grant_of(options: &Value) -> Result<SubscriptionGrant, TokenError> {
    subscription_grant(&Members::parse(options.to_string().as_bytes()).unwrap())
}

fn raw(text: &str) -> Option<RawJson> {
    Some(RawJson::parse(text.as_bytes()).unwrap())
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

#[test]
fn a_token_that_grants_nothing_costs_nothing() {
    for claims in [
        json!({}),
        json!({"sub": "42", "info": {"name": "Ann"}, "exp": 1}),
        json!({"channels": [], "subs": {}, "caps": []}),
        json!({"channels": null, "subs": null, "caps": null, "meta": null}),
    ] {
        assert_eq!(grants_of(&claims), Ok(None), "{claims}");
    }
}

#[test]
fn each_listed_channel_is_there_once() {
    let grants = grants_of(&json!({"channels": ["b", "a", "b"], "subs": {}})).unwrap().unwrap();
    let plain = |name: &str| (name.to_owned(), SubscriptionGrant::default());
    assert_eq!(grants.subscriptions, [plain("a"), plain("b")]);
    let options = json!({"news": {"info": {"a": 1}, "data": [1.0], "override": {"presence": {"value": true}}},
        "chat:a": {}});
    let grants = grants_of(&json!({"channels": ["b"], "subs": options})).unwrap().unwrap();
    let news = SubscriptionGrant {
        info: raw(r#"{"a":1}"#),
        data: raw("[1.0]"),
        overrides: Overrides { presence: Some(true), ..Overrides::default() },
        expires_at: None,
    };
    assert_eq!(
        grants.subscriptions,
        [plain("chat:a"), ("news".to_owned(), news)],
        "`subs` go before `channels`"
    );
}

#[test]
fn a_grant_has_what_the_options_say() {
    let all = json!({"presence": {"value": true}, "join_leave": {"value": false}, "unknown": 1,
        "force_push_join_leave": {}, "force_positioning": null, "force_recovery": {"value": true}});
    let overrides = Overrides {
        presence: Some(true),
        join_leave: Some(false),
        force_push_join_leave: Some(false),
        force_positioning: None,
        force_recovery: Some(true),
    };
    assert_eq!(grant_of(&json!({ "override": all })).unwrap().overrides, overrides);
    let options = json!({"info": 1, "b64info": encoded("2"), "data": 3, "b64data": encoded("{\"a\": 4}")});
    let grant = grant_of(&options).unwrap();
    assert_eq!((grant.info, grant.data), (raw("2"), raw("{\"a\": 4}")), "base64 goes first");
    assert_eq!(grant_of(&json!({"info": null, "data": null})), Ok(SubscriptionGrant::default()));
}

#[test]
fn what_others_are_shown_is_bounded() {
    let of_length = |length: usize| json!({"info": "x".repeat(length - 2)});
    assert!(grant_of(&of_length(1024)).is_ok());
    assert_eq!(grant_of(&of_length(1025)).unwrap_err(), TokenError::Claim("info"));
    let long = format!("\"{}\"", "x".repeat(1023));
    assert_eq!(grant_of(&json!({"b64info": encoded(&long)})).unwrap_err(), TokenError::Claim("info"));
    assert!(grant_of(&json!({"data": "x".repeat(2000)})).is_ok(), "data is for the subscriber alone");
    let deep = |depth: usize| format!("{{\"info\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let info_of = |text: &str| info(&Members::parse(text.as_bytes()).unwrap());
    assert!(info_of(&deep(128)).is_ok());
    assert_eq!(info_of(&deep(129)).unwrap_err(), TokenError::Claim("info"));
}

#[test]
fn meta_is_an_object() {
    let grants = grants_of(&json!({"meta": {"tenant": 7}})).unwrap().unwrap();
    assert_eq!(grants.meta, raw(r#"{"tenant":7}"#));
    for bad in [json!([]), json!("{}"), json!(1), json!(true)] {
        assert_eq!(grants_of(&json!({ "meta": bad })), Err(TokenError::Claim("meta")), "{bad}");
    }
}

#[test]
fn capabilities_are_read() {
    let caps = json!([
        {"channels": ["news", "a*"], "allow": ["sub", "pub"]},
        {"channels": ["chat:*"], "match": "wildcard", "allow": ["prs", "hst"]},
        {"channels": [], "match": "", "allow": []},
    ]);
    let capability = |channels: &[&str], matching, permissions: &[Permission]| Capability {
        channels: channels.iter().map(|name| (*name).to_owned()).collect(),
        matching,
        permissions: permissions.into(),
    };
    let expected = [
        capability(&["news", "a*"], ChannelMatch::Exact, &[Permission::Subscribe, Permission::Publish]),
        capability(&["chat:*"], ChannelMatch::Wildcard, &[Permission::Presence, Permission::History]),
        capability(&[], ChannelMatch::Exact, &[]),
    ];
    assert_eq!(grants_of(&json!({ "caps": caps })).unwrap().unwrap().capabilities, expected);
}

#[test]
fn a_claim_of_the_wrong_kind_is_named() {
    for (claims, name) in [
        (json!({"channels": "news"}), "channels"),
        (json!({"channels": [1]}), "channels"),
        (json!({"channels": {"news": {}}}), "channels"),
        (json!({"channels": 1, "subs": {"news": {}}}), "channels"),
        (json!({"subs": ["news"]}), "subs"),
        (json!({"subs": {"news": 1}}), "subs"),
        (json!({"subs": {"news": [null, null]}}), "subs"),
        (json!({"subs": {"news": {"override": []}}}), "override"),
        (json!({"subs": {"news": {"override": {"presence": true}}}}), "override"),
        (json!({"subs": {"news": {"override": {"presence": {"value": 1}}}}}), "override"),
        (json!({"subs": {"news": {"info": "x".repeat(1025)}}}), "info"),
        (json!({"subs": {"news": {"b64info": 1}}}), "b64info"),
        (json!({"subs": {"news": {"b64data": "AAAA"}}}), "b64data"),
        (json!({"caps": {}}), "caps"),
        (json!({"caps": ["news"]}), "caps"),
        (json!({"caps": [[["news"], "", ["sub"]]]}), "caps"),
        (json!({"caps": [{"channels": ["news"]}]}), "caps"),
        (json!({"caps": [{"allow": ["sub"]}]}), "caps"),
        (json!({"caps": [{"channels": "news", "allow": ["sub"]}]}), "caps"),
        (json!({"caps": [{"channels": ["news"], "allow": "sub"}]}), "caps"),
        (json!({"caps": [{"channels": ["news"], "allow": ["subscribe"]}]}), "caps"),
        (json!({"caps": [{"channels": ["news"], "allow": ["sub", "Pub"]}]}), "caps"),
        (json!({"caps": [{"channels": ["news"], "match": "regex", "allow": ["sub"]}]}), "caps"),
        (json!({"caps": [{"channels": ["news"], "match": 1, "allow": ["sub"]}]}), "caps"),
        (json!({"caps": [{"channels": ["news"], "except": ["a"], "allow": ["sub"]}]}), "caps"),
    ] {
        assert_eq!(grants_of(&claims), Err(TokenError::Claim(name)), "{claims}");
    }
    let twice = br#"{"subs": {"news": {}, "n\u0065ws": {}}}"#;
    assert_eq!(grants(&Members::parse(twice).unwrap()), Err(TokenError::Claim("subs")));
}
