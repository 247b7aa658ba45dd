//! No bytes that a client sends make the native protocol in Protobuf panic or break its contract.
//!
//! The data is a sequence of frames, each after two bytes: what becomes of the slow effect under way before it (`.`
//! it succeeds, `!` it fails), and how long the frame is.

#![no_main]

mod bench;

use clarion::protocol::Message;
use clarion::protocol::centrifuge::Codec;
use clarion::protocol::centrifuge::codec::protobuf::read;
use libfuzzer_sys::fuzz_target;

use self::bench::{Bench, Fate};

/// `Command{id 1, connect{}}`
const CONNECT: &[u8] = b"\x04\x08\x01\x22\x00";

fuzz_target!(|data: &[u8]| {
    read::messages(data, &mut drop);
    let mut bench = Bench::new(Codec::Protobuf, is_delimited);
    bench.say(Message::Binary(CONNECT));
    let mut data = data;
    while let [fate, length, rest @ ..] = data {
        match fate {
            b'.' => bench.end(Fate::Success),
            b'!' => bench.end(Fate::Failure),
            _ => {}
        }
        let (frame, others) = rest.split_at(rest.len().min(usize::from(*length)));
        bench.say(Message::Binary(frame));
        data = others;
    }
    bench.finish();
});

/// Whether a message is as long as the varint before it says.
fn is_delimited(message: &[u8]) -> bool {
    let length_bytes = 1 + message.iter().take_while(|byte| **byte >= 0x80).count();
    let (length, message) = message.split_at(length_bytes);
    let value = |(index, byte): (usize, &u8)| usize::from(byte & 0x7F) << (7 * index);
    length.iter().enumerate().map(value).sum::<usize>() == message.len()
}
