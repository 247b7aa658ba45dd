//! What holds for every stream and for every way to cut it into reads.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::support::*;
use super::{CloseFrame, Decoder, Event, Opcode, Role, encode_frame, encode_masked_frame};

const LIMIT: usize = 2048;

/// A good conversation: its frames for a reader, and the events that they are.
#[derive(Debug, Default)]
struct Conversation {
    frames: Vec<(u8, Vec<u8>)>,
    events: Vec<Event<'static>>,
}

impl Conversation {
    fn stream(&self, reader: Role) -> Vec<u8> {
        self.frames.iter().flat_map(|(first_byte, payload)| frame(reader, *first_byte, payload)).collect()
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

fn text(bytes_max: usize) -> impl Strategy<Value = String> {
    // A character takes up to 4 bytes. Few of the random ones are ASCII, most real ones are.
    let character = prop_oneof![any::<char>(), prop::char::range(' ', '~')];
    vec(character, 0..=bytes_max / 4).prop_map(String::from_iter)
}

/// One frame that may stand between fragments.
fn control() -> impl Strategy<Value = (u8, Vec<u8>, Event<'static>)> {
    let payload = || vec(any::<u8>(), 0..=125);
    let code = prop_oneof![1000..=1003_u16, 1007..=1014_u16, 3000..=4999_u16];
    prop_oneof![
        payload().prop_map(|payload| (PING, payload.clone(), Event::Ping(payload.into()))),
        payload().prop_map(|payload| (PONG, payload.clone(), Event::Pong(payload.into()))),
        Just((CLOSE, Vec::new(), Event::Close(None))),
        (code, text(123)).prop_map(|(code, reason)| {
            let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
            (CLOSE, payload, Event::Close(Some(CloseFrame { code, reason: reason.into() })))
        }),
    ]
}

/// The opcode, payload and event of a message.
fn message() -> impl Strategy<Value = (u8, Vec<u8>, Event<'static>)> {
    prop_oneof![
        text(600).prop_map(|text| (TEXT, text.clone().into_bytes(), Event::Text(text.into()))),
        vec(any::<u8>(), 0..600).prop_map(|bytes| (BINARY, bytes.clone(), Event::Binary(bytes.into()))),
    ]
}

/// Messages in up to 6 fragments, with up to 2 control frames before each of them.
fn conversation() -> impl Strategy<Value = Conversation> {
    let fragments = vec((any::<Index>(), vec(control(), 0..=2)), 0..6);
    vec((message(), fragments), 0..6).prop_map(|messages| {
        let mut conversation = Conversation::default();
        for ((opcode, payload, event), fragments) in messages {
            let cuts: Vec<_> = fragments.iter().map(|(cut, _)| cut.index(payload.len() + 1)).collect();
            let mut parts = pieces(&payload, cuts).into_iter().peekable();
            let mut controls = fragments.into_iter().map(|(_, controls)| controls);
            let mut first_byte = opcode;
            while let Some(part) = parts.next() {
                for (first_byte, payload, event) in controls.next().into_iter().flatten() {
                    conversation.frames.push((first_byte, payload));
                    conversation.events.push(event);
                }
                let fin = if parts.peek().is_none() { FIN } else { 0 };
                conversation.frames.push((fin | first_byte, part.to_vec()));
                first_byte = CONTINUATION;
            }
            conversation.events.push(event);
        }
        conversation
    })
}

/// `bytes` cut at each of `cuts`.
fn pieces(bytes: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
    cuts.push(0);
    cuts.push(bytes.len());
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
}

/// `stream` in reads that end at each of `cuts`.
fn reads<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    pieces(stream, cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect())
}

proptest! {
    #[test]
    fn a_conversation_is_understood(
        role in role(), conversation in conversation(), cuts in vec(any::<Index>(), 0..40),
    ) {
        let stream = conversation.stream(role);
        let mut decoder = Decoder::new(role, LIMIT);
        let transcript = Transcript::of(&mut decoder, reads(&stream, &cuts));
        prop_assert_eq!(transcript.error, None);
        prop_assert_eq!(transcript.frames, conversation.frames.len());
        prop_assert!(transcript.events == conversation.events);
        prop_assert!(decoder.is_idle());
        prop_assert_eq!(decoder.capacity(), 0);
    }

    #[test]
    fn cuts_between_reads_do_not_matter(
        role in role(),
        conversation in conversation(),
        damage in vec((any::<Index>(), any::<u8>()), 0..4),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let mut stream = conversation.stream(role);
        for (place, byte) in damage {
            if let Some(place) = (!stream.is_empty()).then(|| place.index(stream.len())) {
                stream[place] = byte;
            }
        }
        let limit = LIMIT / 8;
        let at_once = Transcript::of(&mut Decoder::new(role, limit), [&stream[..]]);
        prop_assert_eq!(&Transcript::of(&mut Decoder::new(role, limit), reads(&stream, &cuts)), &at_once);
        prop_assert_eq!(&Transcript::of(&mut Decoder::new(role, limit), stream.chunks(1)), &at_once);
    }

    #[test]
    fn random_bytes_do_no_harm(role in role(), stream in vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::new(role, LIMIT);
        let at_once = Transcript::of(&mut decoder, [&stream[..]]);
        prop_assert!(decoder.capacity() <= 2 * stream.len() + 8);
        let one_by_one = Transcript::of(&mut Decoder::new(role, LIMIT), stream.chunks(1));
        prop_assert_eq!(one_by_one, at_once);
    }

    #[test]
    fn what_is_encoded_is_decoded(
        (opcode, payload, event) in message(), mask: [u8; 4], cuts in vec(any::<Index>(), 0..10),
    ) {
        let opcode = if opcode == TEXT { Opcode::Text } else { Opcode::Binary };
        let (mut unmasked, mut masked) = (Vec::new(), Vec::new());
        encode_frame(opcode, &payload, &mut unmasked);
        encode_masked_frame(opcode, &payload, mask, &mut masked);
        for (role, stream) in [(Role::Client, unmasked), (Role::Server, masked)] {
            let transcript = Transcript::of(&mut Decoder::new(role, LIMIT), reads(&stream, &cuts));
            prop_assert_eq!(transcript.error, None);
            prop_assert!(transcript.events == [event.clone()]);
        }
    }
}
