//! No text that a client sends makes the native protocol panic or break its contract.
//!
//! The data is cut into frames at every byte 0xFF, which UTF-8 never has; what is no UTF-8 is a binary
//! frame. Before a frame that starts with `.` the slow effect under way succeeds, before one that starts
//! with `!` it fails; that character is not part of the frame.

#![no_main]

mod bench;

use clarion::protocol::Message;
use clarion::protocol::centrifuge::Codec;
use clarion::protocol::centrifuge::codec::json::read;
use libfuzzer_sys::fuzz_target;

use self::bench::{Bench, Fate};

fuzz_target!(|data: &[u8]| {
    let mut bench = Bench::new(Codec::Json, is_line);
    bench.say(Message::Text(r#"{"id":1,"connect":{}}"#));
    for frame in data.split(|byte| *byte == 0xFF) {
        match std::str::from_utf8(frame) {
            Ok(text) => play(&mut bench, text),
            Err(_) => bench.say(Message::Binary(frame)),
        }
    }
    bench.finish();
});

fn play(bench: &mut Bench, text: &str) {
    let (fate, text) = match text.split_at_checked(1) {
        Some((".", rest)) => (Some(Fate::Success), rest),
        Some(("!", rest)) => (Some(Fate::Failure), rest),
        _ => (None, text),
    };
    if let Some(fate) = fate {
        bench.end(fate);
    }
    for line in text.split('\n') {
        let _parsed = read::parse(line);
    }
    bench.say(Message::Text(text));
}

fn is_line(message: &[u8]) -> bool {
    !message.contains(&b'\n') && std::str::from_utf8(message).is_ok()
}
