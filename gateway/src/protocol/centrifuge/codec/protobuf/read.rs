//! Bytes to commands.

use prost::Message as _;

use super::schema;
use crate::model::{Payload, Secret};
use crate::protocol::centrifuge::command::{
    ChannelRequest, Command, ConnectRequest, HistoryRequest, Malformed, PlaceRequest, PublishRequest,
    RefreshRequest, Request, SubRefreshRequest, SubscribeRequest,
};

/// Reads the messages of a frame, one after another. After one that cannot be read there is no next one.
pub fn messages(mut frame: &[u8], each: &mut impl FnMut(Result<Command, Malformed>)) {
    if frame.is_empty() {
        return each(Err(Malformed));
    }
    while !frame.is_empty() {
        let command = split(&mut frame).and_then(parse);
        let is_malformed = command.is_err();
        each(command);
        if is_malformed {
            return;
        }
    }
}

/// Takes the first message off `frame`, without its length.
fn split<'a>(frame: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = prost::decode_length_delimiter(&mut *frame).map_err(|_| Malformed)?;
    let (message, rest) = frame.split_at_checked(length).ok_or(Malformed)?;
    *frame = rest;
    Ok(message)
}

/// Reads one message, without its length. Unknown fields are ignored; of several requests the first in the
/// protocol's order counts.
///
/// # Errors
/// [`Malformed`] if it breaks off, a known field has another type, a string is not UTF-8, or something is nested too
/// deep.
pub fn parse(message: &[u8]) -> Result<Command, Malformed> {
    // A pong is by far the most frequent message.
    if message.is_empty() {
        return Ok(Command { id: 0, request: None, cost_bytes: 0 });
    }
    let parsed = schema::Command::decode(message).map_err(|_| Malformed)?;
    Ok(Command { id: parsed.id, request: request(parsed), cost_bytes: message.len() })
}

fn request(command: schema::Command) -> Option<Request> {
    let of_channel = |channel| ChannelRequest { channel };
    command
        .connect
        .map(|request| Request::Connect(request.into()))
        .or(command.ping.map(|_| Request::Ping))
        .or(command.subscribe.map(|request| Request::Subscribe(request.into())))
        .or(command.unsubscribe.map(|request| Request::Unsubscribe(of_channel(request.channel))))
        .or(command.publish.map(|request| Request::Publish(request.into())))
        .or(command.presence.map(|request| Request::Presence(of_channel(request.channel))))
        .or(command.presence_stats.map(|request| Request::PresenceStats(of_channel(request.channel))))
        .or(command.history.map(|request| Request::History(request.into())))
        .or(command.rpc.map(|_| Request::Rpc))
        .or(command.send.map(|_| Request::Send))
        .or(command.refresh.map(|request| Request::Refresh(request.into())))
        .or(command.sub_refresh.map(|request| Request::SubRefresh(request.into())))
}

impl From<schema::ConnectRequest> for ConnectRequest {
    fn from(request: schema::ConnectRequest) -> Self {
        let subs = request.subs.into_iter().map(|(channel, request)| (channel, request.into()));
        Self { token: Secret::new(request.token), subs: subs.collect() }
    }
}

impl From<schema::SubscribeRequest> for SubscribeRequest {
    fn from(request: schema::SubscribeRequest) -> Self {
        Self {
            channel: request.channel,
            token: Secret::new(request.token),
            recover: request.recover,
            epoch: request.epoch,
            offset: request.offset,
            positioned: request.positioned,
            recoverable: request.recoverable,
            join_leave: request.join_leave,
            flag: request.flag,
            delta: request.delta,
            kind: request.r#type,
            has_filter: request.tf.is_some(),
        }
    }
}

impl From<schema::PublishRequest> for PublishRequest {
    fn from(request: schema::PublishRequest) -> Self {
        // Without a value and with an empty one are the same on the wire.
        let data = Some(request.data).filter(|data| !data.is_empty());
        Self { channel: request.channel, data: data.map(Payload::of_bytes), kind: request.r#type }
    }
}

impl From<schema::HistoryRequest> for HistoryRequest {
    fn from(request: schema::HistoryRequest) -> Self {
        let since = request.since.map(|since| PlaceRequest { offset: since.offset, epoch: since.epoch });
        Self { channel: request.channel, limit: request.limit, since, reverse: request.reverse }
    }
}

impl From<schema::RefreshRequest> for RefreshRequest {
    fn from(request: schema::RefreshRequest) -> Self {
        Self { token: Secret::new(request.token) }
    }
}

impl From<schema::SubRefreshRequest> for SubRefreshRequest {
    fn from(request: schema::SubRefreshRequest) -> Self {
        Self { channel: request.channel, token: Secret::new(request.token), kind: request.r#type }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::translation;
    use super::*;

    const CONNECT: &[u8] = b"\x0b\x08\x01\x22\x07\x0a\x01T\x22\x02js";
    const SUBSCRIBE: &[u8] = b"\x0c\x08\x02\x2a\x08\x0a\x04news\x70\x01";

    fn read(frame: &[u8]) -> Vec<Result<Command, Malformed>> {
        let mut commands = Vec::new();
        messages(frame, &mut |command| commands.push(command));
        commands
    }

    /// A message of one field that holds `content`.
    fn nested(number: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        out.extend_from_slice(content);
        out
    }

    fn subscribe_with(fields: &[u8]) -> Result<Command, Malformed> {
        parse(&nested(5, fields))
    }

    #[test]
    fn commands_of_the_reference_are_read_one_after_another() {
        let commands = read(&[CONNECT, SUBSCRIBE, b"\0"].concat());
        let [Ok(connect), Ok(subscribe), Ok(pong)] = &commands[..] else { panic!("{commands:?}") };
        assert_eq!((connect.id, subscribe.id, pong.id), (1, 2, 0));
        let Some(Request::Connect(request)) = &connect.request else { panic!("{connect:?}") };
        assert_eq!(request.token.expose(), "T");
        let Some(Request::Subscribe(request)) = &subscribe.request else { panic!("{subscribe:?}") };
        assert_eq!((request.channel.as_str(), request.flag), ("news", 1));
        assert!(pong.request.is_none());
        assert_eq!((connect.cost_bytes, subscribe.cost_bytes, pong.cost_bytes), (11, 12, 0));
    }

    #[test]
    fn every_command_is_what_it_is_in_json() {
        for line in [
            "{}",
            r#"{"id":4294967295}"#,
            r#"{"id":1,"connect":{"token":"t","subs":{"a":{"recover":true,"offset":7,"epoch":"e"},"b":{}}}}"#,
            r#"{"id":1,"ping":{}}"#,
            r#"{"id":1,"subscribe":{}}"#,
            r#"{"id":1,"subscribe":{"channel":"a","token":"t","recover":true,"epoch":"e","offset":18446744073709551615,"positioned":true,"recoverable":true,"join_leave":true,"flag":-1,"delta":"fossil","type":-4,"tf":{}}}"#,
            r#"{"id":1,"unsubscribe":{"channel":"a"}}"#,
            r#"{"id":1,"publish":{"channel":"a","data":{"a": 1.0},"type":1}}"#,
            r#"{"id":1,"publish":{"channel":"a"}}"#,
            r#"{"id":1,"presence":{"channel":"a"}}"#,
            r#"{"id":1,"presence_stats":{"channel":"a"}}"#,
            r#"{"id":1,"history":{"channel":"a","limit":-1,"reverse":true,"since":{"offset":3,"epoch":"e"}}}"#,
            r#"{"id":1,"history":{"channel":"a","since":{}}}"#,
            r#"{"id":1,"rpc":{}}"#,
            r#"{"send":{}}"#,
            r#"{"id":1,"refresh":{"token":"t"}}"#,
            r#"{"id":1,"sub_refresh":{"channel":"a","token":"t","type":2}}"#,
        ] {
            let ours = crate::protocol::centrifuge::codec::json::read::parse(line).unwrap();
            let theirs = read(&translation::frame(line)).remove(0).unwrap();
            assert_eq!(theirs.id, ours.id);
            // A payload and a token print what they are not; the tests of the session look at them.
            let sorted = |request: &Option<Request>| match request {
                Some(Request::Connect(request)) => {
                    let mut subs: Vec<_> = request.subs.iter().collect();
                    subs.sort_by_key(|(channel, _)| channel.as_str());
                    format!("{} {subs:?}", request.token.expose())
                }
                Some(Request::Publish(request)) => {
                    let data = request.data.as_ref().map(|data| data.as_bytes().to_vec());
                    format!("{request:?} {data:?}")
                }
                request => format!("{request:?}"),
            };
            assert_eq!(sorted(&theirs.request), sorted(&ours.request), "{line}");
        }
    }

    #[test]
    fn unknown_fields_are_ignored_at_every_depth() {
        // Fields 100 of each wire type, in the command and in the request.
        let unknown = b"\xa0\x06\x01\xa1\x06\0\0\0\0\0\0\0\0\xa2\x06\x02xy\xa5\x06\0\0\0\0";
        let request = nested(5, &[unknown.as_slice(), b"\x0a\x04news"].concat());
        let command = parse(&[unknown, request.as_slice(), b"\x08\x02"].concat()).unwrap();
        assert_eq!(command.id, 2);
        assert!(matches!(command.request, Some(Request::Subscribe(request)) if request.channel == "news"));
    }

    #[test]
    fn of_several_requests_the_first_in_the_order_of_the_protocol_counts() {
        let all = [(13, "rpc"), (12, "send"), (7, "publish"), (5, "subscribe"), (11, "ping"), (4, "connect")];
        let mut message = Vec::new();
        for (number, name) in all {
            message.extend(nested(number, b""));
            // `rpc` comes before `send` though its number does not.
            let expected = if name == "send" { "rpc" } else { name };
            assert_eq!(parse(&message).unwrap().request.unwrap().name(), expected);
        }
    }

    #[test]
    fn what_is_not_a_command_is_malformed() {
        for frame in [
            b"".as_slice(),
            b"\x01",
            b"\x02\x08",
            b"\x80",
            b"\xff\xff\xff\xff\x0f",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",
            // The id as bytes, the request as a number, a channel as a number.
            b"\x03\x0a\x01x",
            b"\x02\x28\x01",
            b"\x04\x2a\x02\x08\x01",
            // A string that is not UTF-8, a string beyond its message, field 0, a group that does not end.
            b"\x05\x2a\x03\x0a\x01\xff",
            b"\x05\x2a\x03\x0a\x09x",
            b"\x02\x00\x00",
            b"\x02\x0b\x08",
            b"{\"id\":1}",
        ] {
            let commands = read(frame);
            assert!(matches!(commands[..], [Err(Malformed)]), "{frame:x?}: {commands:?}");
        }
    }

    #[test]
    fn what_came_before_is_read_and_nothing_after() {
        for bad in [b"\x02\x0a\x00".as_slice(), b"\x7f", b"\x80"] {
            let commands = read(&[SUBSCRIBE, b"\0", bad, SUBSCRIBE].concat());
            assert!(matches!(commands[..], [Ok(_), Ok(_), Err(Malformed)]), "{bad:x?}: {commands:?}");
        }
    }

    #[test]
    fn a_filter_is_nested_as_deep_as_it_may_and_no_deeper() {
        let filter = |depth| (0..depth).fold(Vec::new(), |inner, _| nested(6, &inner));
        let read = |depth| subscribe_with(&nested(13, &filter(depth)));
        assert!(matches!(read(50).unwrap().request, Some(Request::Subscribe(request)) if request.has_filter));
        for depth in [200, 10_000] {
            assert_eq!(read(depth).err(), Some(Malformed));
        }
        // Nor do groups in a field that nobody knows.
        let groups = [0xA3, 0x06].repeat(30_000);
        assert_eq!(parse(&groups).err(), Some(Malformed));
    }

    #[test]
    fn no_data_and_empty_data_are_the_same() {
        let data = |fields: &[u8]| match parse(&nested(7, fields)).unwrap().request {
            Some(Request::Publish(request)) => request.data.map(|data| data.as_bytes().to_vec()),
            other => panic!("{other:?}"),
        };
        assert_eq!(data(b""), None);
        assert_eq!(data(b"\x12\x00"), None);
        assert_eq!(data(b"\x12\x02\x00\xff").unwrap(), b"\x00\xff");
    }

    #[test]
    fn a_token_is_not_printed() {
        let command = parse(&nested(4, &nested(1, b"LEAKCANARY"))).unwrap();
        assert!(!format!("{command:?}").contains("LEAKCANARY"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let commands = read(&bytes);
            prop_assert!(!commands.is_empty());
            prop_assert!(commands.iter().rev().skip(1).all(Result::is_ok), "something after the end");
        }

        #[test]
        fn a_good_frame_with_a_wrong_byte_does_not_make_it_panic(at in 0..25_usize, byte: u8) {
            let mut frame = [CONNECT, SUBSCRIBE].concat();
            frame[at.min(24)] = byte;
            prop_assert!(!read(&frame).is_empty());
        }
    }
}
