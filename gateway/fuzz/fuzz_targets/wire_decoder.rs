//! The frame decoder makes the same of a stream however it is cut into reads, and panics at nothing.
//!
//! The first byte of the data chooses the role and the limit, the second says how many of the following
//! bytes are sizes of reads (used in turn). The rest is the stream.

#![no_main]

use clarion::wire::{DecodeError, Decoder, Event, Opcode, Role, close_frame, encode_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [options, sizes, data @ ..] = data else { return };
    let (sizes, stream) = data.split_at(usize::from(*sizes).min(data.len()));
    let role = if options & 1 == 0 { Role::Server } else { Role::Client };
    let limit = usize::from(options >> 1) * 8;

    let at_once = transcript(Decoder::new(role, limit), [stream]);
    assert_eq!(transcript(Decoder::new(role, limit), reads(stream, sizes)), at_once);
    assert!(at_once.messages_bytes_max <= limit);
});

/// Cuts `stream` into reads of `sizes`, again and again; a size of 0 is a read of nothing.
fn reads<'a>(mut stream: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let is_endless = sizes.iter().all(|size| *size == 0);
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        if stream.is_empty() {
            return None;
        }
        let size = if is_endless { stream.len() } else { usize::from(*sizes.next()?).min(stream.len()) };
        let read;
        (read, stream) = stream.split_at(size);
        Some(read)
    })
}

/// What came of a stream: every event, encoded again, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Transcript {
    frames_again: Vec<u8>,
    frames: usize,
    messages_bytes_max: usize,
    error: Option<DecodeError>,
    is_idle: bool,
}

fn transcript<'a>(mut decoder: Decoder, reads: impl IntoIterator<Item = &'a [u8]>) -> Transcript {
    let mut transcript = Transcript::default();
    for read in reads {
        let mut input = read.to_vec();
        let mut rest = &mut input[..];
        while !rest.is_empty() {
            let decoded = match decoder.decode(rest) {
                Ok(decoded) => decoded,
                Err(error) => {
                    // How many frames the failed call began is lost with the connection.
                    transcript.frames = 0;
                    transcript.error = Some(error);
                    return transcript;
                }
            };
            transcript.frames += decoded.frames;
            let consumed = decoded.consumed;
            match decoded.event {
                Some(event) => transcript.push(&event),
                None => assert_eq!(consumed, rest.len()),
            }
            rest = &mut rest[consumed..];
        }
    }
    transcript.is_idle = decoder.is_idle();
    transcript
}

impl Transcript {
    fn push(&mut self, event: &Event<'_>) {
        let out = &mut self.frames_again;
        match event {
            Event::Text(text) => {
                self.messages_bytes_max = self.messages_bytes_max.max(text.len());
                encode_frame(Opcode::Text, text.as_bytes(), out);
            }
            Event::Binary(payload) => {
                self.messages_bytes_max = self.messages_bytes_max.max(payload.len());
                encode_frame(Opcode::Binary, payload, out);
            }
            Event::Ping(payload) => encode_frame(Opcode::Ping, payload, out),
            Event::Pong(payload) => encode_frame(Opcode::Pong, payload, out),
            Event::Close(None) => out.extend(close_frame(None, "")),
            Event::Close(Some(close)) => out.extend(close_frame(Some(close.code), &close.reason)),
        }
    }
}
