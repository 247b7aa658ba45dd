use super::*;

const CLIENT: &str = "6f9d0b2c-7a54-4f0f-9c55-0f2f5f0f7a10";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn target(user: &str, client: Option<&str>) -> Target {
    let client = client.map(|client| ClientId::parse(client).unwrap());
    Target { user: UserId::parse(user).unwrap(), client }
}

fn every_kind() -> Vec<Command> {
    let channel = Channel::parse("chat:a", 255).unwrap();
    let grant = SubscriptionGrant {
        info: RawJson::parse(b"{\"a\":1}").ok(),
        data: RawJson::parse(b"null").ok(),
        overrides: Overrides { presence: Some(true), join_leave: Some(false), ..Overrides::default() },
        expires_at: Some(at(4_102_444_800)),
    };
    let since = Some(Since { epoch: "e".into(), offset: 7 });
    let order = |target, order| Command::Order { target, order };
    let revoke = |whose| Command::Revoke(Revocation { whose, forget_at: at(5_000) });
    let bob = UserId::parse("bob").unwrap();
    let refresh = |expires_at| Order::Refresh { expires_at, info: None };
    let unsubscribe = Order::Unsubscribe { channel: channel.clone() };
    let plain = SubscriptionGrant::default();
    vec![
        order(target("ann", None), Order::Subscribe { channel: channel.clone(), grant, since }),
        order(target("", Some(CLIENT)), Order::Subscribe { channel, grant: plain, since: None }),
        order(target("ann", Some(CLIENT)), unsubscribe),
        order(target("ann", None), refresh(None)),
        order(target("ann", None), refresh(Some(at(9)))),
        Command::Disconnect {
            target: target("ann", None),
            reason: Dismissal::Advised { code: 4500, reason: "banned".into() },
            except: HashSet::from([ClientId::parse(CLIENT).unwrap()]),
        },
        Command::Disconnect { target: target("", None), reason: Dismissal::Expired, except: HashSet::new() },
        revoke(Whose::Token("t-1".into())),
        revoke(Whose::User { user: bob.clone(), issued_before: None }),
        revoke(Whose::User { user: bob, issued_before: Some(at(1_000)) }),
        revoke(Whose::Everybody { issued_before: at(1_000) }),
        Command::Survey(Question { id: u64::MAX, pattern: "chat:*".into() }),
    ]
}

#[test]
fn what_is_written_is_read() {
    let from = NodeId::random();
    for sent in every_kind() {
        let bytes = command(from, &sent);
        assert_eq!(read_command(&bytes), Ok(Sent { from, command: sent }));
    }
    let channels = vec![("a".into(), 3), ("b".into(), 1)];
    let part = Answer { from, question: 5, part: 1, parts: 2, channels };
    assert_eq!(read_answer(&answer(&part)), Ok(part));
    let mine = Report {
        id: from,
        epoch: NodeEpoch::random(),
        name: "one".into(),
        release: "1.0".into(),
        address: "10.0.0.1:9000".into(),
        uptime: Duration::from_millis(1_500),
        load: Load { clients: 1, users: 2, channels: 3, subscriptions: 4 },
        process: Some(Process { cpu: 1.5, rss: 6 }),
        is_draining: true,
        handshakes_per_second: 7,
    };
    assert_eq!(read_report(&report(&mine)), Ok(mine));
}

#[test]
fn a_newer_version_and_an_unknown_kind_are_skipped() {
    let from = NodeId::random().to_string();
    let newer = schema::Command { version: VERSION + 1, from: from.clone(), kind: None };
    assert_eq!(read_command(&newer.encode_to_vec()), Err(Unreadable::Unknown));
    let mut unknown = schema::Command { version: VERSION, from, kind: None }.encode_to_vec();
    // Field 99, of a length of 0: a kind of the next release.
    unknown.extend([0x9a, 0x06, 0x00]);
    assert_eq!(read_command(&unknown), Err(Unreadable::Unknown));
    let answer = schema::Answer { version: VERSION + 1, ..schema::Answer::default() };
    assert_eq!(read_answer(&answer.encode_to_vec()), Err(Unreadable::Unknown));
}

#[test]
fn what_cannot_be_is_refused() {
    let from = NodeId::random().to_string();
    let sent =
        |kind| schema::Command { version: VERSION, from: from.clone(), kind: Some(kind) }.encode_to_vec();
    use schema::command::Kind;
    let target = schema::Target { user: "ann".into(), client: String::new() };
    let unsubscribe = |target: Option<schema::Target>, channel: &str| {
        Kind::Unsubscribe(schema::Unsubscribe { target, channel: channel.into() })
    };
    for bad in [
        unsubscribe(None, "a"),
        unsubscribe(Some(schema::Target { client: "x".into(), ..target.clone() }), "a"),
        unsubscribe(Some(schema::Target { user: "a\u{202e}".into(), ..target.clone() }), "a"),
        unsubscribe(Some(target.clone()), "a b"),
        // A channel of the gateway itself is none that anybody is subscribed to.
        unsubscribe(Some(target.clone()), Channel::system("control").as_str()),
        Kind::Refresh(schema::Refresh {
            target: Some(target.clone()),
            expire_at: None,
            info: Some("{".into()),
        }),
        Kind::Disconnect(schema::Disconnect { code: 70_000, target: Some(target), ..Default::default() }),
        Kind::Revoke(schema::Revocation::default()),
        Kind::Revoke(schema::Revocation { user: Some(String::new()), ..Default::default() }),
    ] {
        assert_eq!(read_command(&sent(bad.clone())), Err(Unreadable::Malformed), "{bad:?}");
    }
    for bad in [b"".as_slice(), b"\xff", b"\x08\x01", b"{\"a\":1}"] {
        assert_eq!(read_command(bad), Err(Unreadable::Malformed), "{bad:?}");
        assert!(read_answer(bad).is_err() && read_report(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn one_revocation_is_remembered_once_however_often_it_is_made() {
    let token = Whose::Token("t".into());
    assert_eq!(whose(&token), whose(&token.clone()));
    for command in every_kind() {
        let Command::Revoke(revocation) = command else { continue };
        assert_eq!(read_whose(&whose(&revocation.whose)), Ok(revocation.whose));
    }
}
