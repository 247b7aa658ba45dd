//! Whatever comes in whatever order, a conversation keeps its contract. [`Bench`] watches most of it: one
//! slow effect at a time, no second subscription to a channel, nothing after a close.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::subscriptions::{sub_refresh, subscribe_with, subscription_token};
use super::*;
use crate::protocol::Conversation as _;
use crate::protocol::centrifuge::codec::json::read;
use crate::protocol::testing::{said, subscribe_order, unsubscribe_order};

const CHANNELS: [&str; 7] = ["a", "open:b", "chat:c", "d", "e", "closed:f", "nope:g"];

/// Something that happens to a connection.
#[derive(Clone, Debug)]
enum Event {
    Frame(Vec<Line>),
    /// Bytes that are neither text nor Protobuf.
    Garbage,
    Order {
        subscribes: bool,
        channel: &'static str,
    },
    /// A subscription missed something.
    Lost(&'static str),
    /// The time of a reminder has come.
    Reminder,
    Success,
    Failure,
}

#[derive(Clone, Debug)]
enum Line {
    Subscribe(&'static str),
    /// With a token whose time has come.
    SubscribeForNow(&'static str),
    SubRefresh(&'static str),
    Presence(&'static str),
    Unsubscribe(&'static str),
    Publish(&'static str),
    Rpc,
    Send,
    Pong,
    Connect,
    Malformed,
}

fn line() -> impl Strategy<Value = Line> {
    let channel = || prop::sample::select(CHANNELS.as_slice());
    prop_oneof![
        8 => channel().prop_map(Line::Subscribe),
        4 => channel().prop_map(Line::SubscribeForNow),
        1 => channel().prop_map(Line::SubRefresh),
        2 => channel().prop_map(Line::Presence),
        6 => channel().prop_map(Line::Unsubscribe),
        6 => channel().prop_map(Line::Publish),
        2 => Just(Line::Rpc),
        2 => Just(Line::Send),
        2 => Just(Line::Pong),
        1 => prop::sample::select(vec![Line::Connect, Line::Malformed]),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let channel = || prop::sample::select(CHANNELS.as_slice());
    prop_oneof![
        12 => prop::collection::vec(line(), 1..4).prop_map(Event::Frame),
        1 => Just(Event::Garbage),
        5 => (any::<bool>(), channel()).prop_map(|(subscribes, channel)| Event::Order { subscribes, channel }),
        2 => channel().prop_map(Event::Lost),
        3 => Just(Event::Reminder),
        14 => Just(Event::Success),
        2 => Just(Event::Failure),
    ]
}

impl Line {
    /// Its text; a command that is answered takes the next id.
    fn text(&self, ids: &mut u32) -> String {
        let mut id = || {
            *ids += 1;
            *ids
        };
        match self {
            Self::Subscribe(channel) => subscribe(id(), channel),
            Self::SubscribeForNow(channel) => {
                subscribe_with(id(), channel, &subscription_token("ann", channel, -1))
            }
            Self::SubRefresh(channel) => sub_refresh(id(), channel, &subscription_token("ann", channel, -1)),
            Self::Presence(channel) => json!({"id": id(), "presence": {"channel": channel}}).to_string(),
            Self::Unsubscribe(channel) => unsubscribe(id(), channel),
            Self::Publish(channel) => publish(id(), channel, &json!(1)),
            Self::Rpc => json!({"id": id(), "rpc": {}}).to_string(),
            Self::Send => r#"{"send":{}}"#.into(),
            Self::Pong => "{}".into(),
            Self::Connect => r#"{"id":9999,"connect":{}}"#.into(),
            Self::Malformed => "nope".into(),
        }
    }
}

/// A client that has connected, whose subscriptions end with their tokens.
fn hasty(codec: Codec) -> Bench<Client> {
    let mut config = config();
    config.client.expired_sub_close_delay = Duration::ZERO;
    config.channel.namespaces.iter_mut().for_each(|namespace| {
        namespace.presence = namespace.name == "open";
        namespace.allow_presence_for_subscriber = true;
    });
    let mut bench = arrived_with(codec, &config);
    bench.say(&connect(&token("ann")));
    bench
}

/// Lets `events` happen to a client that has connected, then everything slow succeed; the ids of the last
/// command, and what was done.
fn play(bench: &mut Bench<Client>, events: &[Event]) -> (u32, Vec<Did>) {
    let (mut ids, mut done) = (1, Vec::new());
    for event in events {
        done.extend(match event {
            Event::Frame(lines) => {
                let lines: Vec<_> = lines.iter().map(|line| line.text(&mut ids)).collect();
                bench.say(&lines.join("\n"))
            }
            Event::Garbage => bench.say_binary(b"\xff"),
            Event::Order { subscribes: true, channel } => bench.order(subscribe_order(channel)),
            Event::Order { subscribes: false, channel } => bench.order(unsubscribe_order(channel)),
            // The shard tells of it while nothing is under way, and only of what there is.
            Event::Lost(channel) if !bench.is_busy() && bench.subscribed.contains(*channel) => {
                bench.lose(channel)
            }
            Event::Lost(_) => Vec::new(),
            Event::Reminder => bench.remind(),
            Event::Success if bench.is_busy() => bench.succeed(),
            Event::Failure if bench.is_busy() => bench.fail(),
            Event::Success | Event::Failure => Vec::new(),
        });
    }
    done.extend(bench.settle());
    (ids, done)
}

proptest! {
    #[test]
    fn every_command_is_answered_once_and_in_order_unless_the_connection_closes(
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut bench = hasty(Codec::Json);
        let (last, done) = play(&mut bench, &events);
        let replies: Vec<_> = said(done).iter().filter_map(|message| message["id"].as_u64()).collect();
        let in_order: Vec<_> = (2..).take(replies.len()).collect();
        prop_assert_eq!(&replies, &in_order);
        if !bench.is_closed() {
            prop_assert_eq!(replies.len(), last as usize - 1);
            prop_assert_eq!(bench.conversation.backlog_bytes(), 0);
        }
    }

    #[test]
    fn what_happens_does_not_depend_on_the_codec(events in prop::collection::vec(event(), 0..40)) {
        let [json, protobuf] = [Codec::Json, Codec::Protobuf].map(|codec| {
            let mut bench = hasty(codec);
            let played = play(&mut bench, &events);
            (played, bench.is_closed(), bench.subscribed)
        });
        prop_assert_eq!(json, protobuf);
    }

    #[test]
    fn the_session_and_the_shard_agree_on_subscriptions(
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut bench = hasty(Codec::Json);
        play(&mut bench, &events);
        if bench.is_closed() {
            return Ok(());
        }
        let before: BTreeSet<_> = bench.subscribed.iter().cloned().collect();
        for name in CHANNELS {
            // A client is told 105 exactly for what it is subscribed to, where it may subscribe at all.
            let twice = bench.say(&subscribe(9_000, name)) == [Did::Say(error(9_000, 105))];
            if bench.is_busy() {
                bench.fail();
            }
            prop_assert_eq!(twice, before.contains(name) && name != "nope:g", "{}", name);
        }
    }

    #[test]
    fn no_text_makes_a_conversation_panic(
        lines in prop::collection::vec(r#"\{?("(id|connect|subscribe|channel|data|send)"|[\[\]{}:,0-9"\\n é]){0,12}\}?"#, 1..6),
    ) {
        for line in &lines {
            let _parsed = read::parse(line);
        }
        let mut bench = connected_as("ann");
        bench.ask(&lines.join("\n"));
        arrived(&config()).ask(&lines.join("\n"));
    }

    #[test]
    fn no_bytes_make_a_conversation_panic(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6)) {
        for codec in [Codec::Json, Codec::Protobuf] {
            let (mut arrived, mut connected) = (arrived_with(codec, &config()), connected_with(codec, "ann"));
            for frame in &frames {
                arrived.say_binary(frame);
                connected.say_binary(frame);
                connected.settle();
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _parsed = read::parse(&String::from_utf8_lossy(&bytes));
    }
}
