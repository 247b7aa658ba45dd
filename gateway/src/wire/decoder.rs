use std::borrow::Cow;
use std::{fmt, mem};

use super::close::{CloseFrame, parse_close};
use super::header::{Frame, PartialHeader};
use super::text::{InvalidUtf8, PartialText};
use super::{DecodeError, Opcode, Role, Violation};

/// Turns the bytes of one connection into messages and control frames.
///
/// Between messages it owns no heap memory. What arrives of a partial message is kept until the message
/// is complete and then handed out; nothing is ever allocated for what is only announced.
///
/// After an error it must not be used again: it is not known where the next frame begins.
pub struct Decoder {
    role: Role,
    message_bytes_max: usize,
    state: State,
    message: Message,
    /// What arrived of a partial control frame: these may stand between the fragments of a message.
    control: Vec<u8>,
}

/// What [`Decoder::decode`] made of its input.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Bytes used from the front of the input. All of it when there is no event.
    pub consumed: usize,
    /// Frames whose header was completed, fragments and control frames alike: what a limit of rate counts.
    pub frames: usize,
    /// `None`: more bytes are needed.
    pub event: Option<Event<'a>>,
}

/// A whole message or a control frame. Borrowed from the input if all of it lay there, else owned.
#[derive(Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message of text, its fragments joined.
    Text(Cow<'a, str>),
    /// A message of bytes, its fragments joined.
    Binary(Cow<'a, [u8]>),
    /// To be answered by a pong with these bytes, at most 125 (RFC 6455 §5.5.2).
    Ping(Cow<'a, [u8]>),
    /// The bytes of the ping that it answers, at most 125.
    Pong(Cow<'a, [u8]>),
    /// To be answered by a close frame; nothing follows it (RFC 6455 §5.5.1). `None`: it had no body.
    Close(Option<CloseFrame<'a>>),
}

/// Where in a frame the next byte belongs.
enum State {
    Header(PartialHeader),
    Payload(Frame),
}

/// What arrived of a message that did not lie in one input as one frame.
#[derive(Default)]
enum Message {
    #[default]
    None,
    Text(PartialText),
    Binary(Vec<u8>),
}

impl Decoder {
    /// A decoder at the start of a connection, after its handshake.
    ///
    /// `message_bytes_max` limits each message, however many fragments it has; 0 allows empty ones only.
    pub fn new(role: Role, message_bytes_max: usize) -> Self {
        Self {
            role,
            message_bytes_max,
            state: State::Header(PartialHeader::default()),
            message: Message::None,
            control: Vec::new(),
        }
    }

    /// Whether the next byte begins a new message: none is partial, and no frame is.
    pub fn is_idle(&self) -> bool {
        matches!((&self.state, &self.message), (State::Header(header), Message::None) if header.is_empty())
    }

    /// Uses bytes from the front of `input`, until one event is complete or the input is used up.
    ///
    /// The bytes are unmasked in place. Everything used is remembered, so the caller goes on with
    /// `&mut input[consumed..]` and never offers a byte twice. When that is empty there is no event left.
    ///
    /// # Errors
    /// [`DecodeError`] at the first byte that shows it: a wrong byte of a text or a header above the limit is
    /// not waited out. Events before it have been returned.
    pub fn decode<'a>(&mut self, input: &'a mut [u8]) -> Result<Decoded<'a>, DecodeError> {
        let input_bytes = input.len();
        let mut rest = input;
        let mut frames = 0;
        let event = loop {
            let mut frame = match &mut self.state {
                State::Payload(frame) => *frame,
                State::Header(header) => {
                    let Some(frame) = header.read(self.role, &mut rest)? else { break None };
                    self.check(&frame)?;
                    frames += 1;
                    frame
                }
            };
            let payload = frame.take_payload(&mut rest);
            if frame.missing_bytes > 0 {
                self.keep(&mut frame, payload)?;
                self.state = State::Payload(frame);
                break None;
            }
            self.state = State::Header(PartialHeader::default());
            if let Some(event) = self.complete(frame, payload)? {
                break Some(event);
            }
        };
        Ok(Decoded { consumed: input_bytes - rest.len(), frames, event })
    }

    /// Whether `frame` may come now, and be as long as it says.
    fn check(&self, frame: &Frame) -> Result<(), DecodeError> {
        match (frame.opcode, &self.message) {
            (opcode, _) if opcode.is_control() => return Ok(()),
            (Opcode::Continuation, Message::None) => return Err(Violation::NothingToContinue.into()),
            (Opcode::Text | Opcode::Binary, Message::Text(_) | Message::Binary(_)) => {
                return Err(Violation::UnfinishedMessage.into());
            }
            _ => {}
        }
        let message_bytes_max = self.message_bytes_max;
        if frame.missing_bytes > message_bytes_max.saturating_sub(self.message.len()) {
            return Err(DecodeError::TooBig { message_bytes_max });
        }
        Ok(())
    }

    /// Keeps a part of the payload of `frame` that is not its end.
    fn keep(&mut self, frame: &mut Frame, payload: &[u8]) -> Result<(), DecodeError> {
        if frame.opcode.is_control() {
            self.control.extend_from_slice(payload);
            return Ok(());
        }
        self.message.append(frame.opcode, payload)?;
        // The rest of the frame goes on where this part ends, as a further frame of the message would.
        frame.opcode = Opcode::Continuation;
        Ok(())
    }

    /// What the end of a frame completes; `None` if further fragments follow.
    fn complete<'a>(&mut self, frame: Frame, payload: &'a [u8]) -> Result<Option<Event<'a>>, DecodeError> {
        let event = match frame.opcode {
            Opcode::Text if frame.is_final => {
                Event::Text(str::from_utf8(payload).map_err(|_| InvalidUtf8)?.into())
            }
            Opcode::Binary if frame.is_final => Event::Binary(payload.into()),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.message.append(frame.opcode, payload)?;
                if !frame.is_final {
                    return Ok(None);
                }
                return Ok(mem::take(&mut self.message).finish()?);
            }
            Opcode::Close => Event::Close(parse_close(self.control_payload(payload))?),
            Opcode::Ping => Event::Ping(self.control_payload(payload)),
            Opcode::Pong => Event::Pong(self.control_payload(payload)),
        };
        Ok(Some(event))
    }

    /// The whole payload of a control frame that ends with `end`.
    fn control_payload<'a>(&mut self, end: &'a [u8]) -> Cow<'a, [u8]> {
        if self.control.is_empty() {
            return end.into();
        }
        self.control.extend_from_slice(end);
        mem::take(&mut self.control).into()
    }
}

impl Message {
    /// Size of what arrived.
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Begins a message, unless `opcode` continues this one, and appends `payload`.
    fn append(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), InvalidUtf8> {
        match opcode {
            Opcode::Text => *self = Self::Text(PartialText::default()),
            Opcode::Binary => *self = Self::Binary(Vec::new()),
            _ => {}
        }
        match self {
            Self::None => Ok(()),
            Self::Text(text) => text.push(payload),
            Self::Binary(bytes) => {
                bytes.extend_from_slice(payload);
                Ok(())
            }
        }
    }

    /// The event of the complete message.
    fn finish(self) -> Result<Option<Event<'static>>, InvalidUtf8> {
        Ok(match self {
            Self::None => None,
            Self::Text(text) => Some(Event::Text(text.finish()?.into())),
            Self::Binary(bytes) => Some(Event::Binary(bytes.into())),
        })
    }
}

impl fmt::Debug for Event<'_> {
    /// Says how long it is: a payload never reaches a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(formatter, "Text(<{} bytes>)", text.len()),
            Self::Binary(payload) => write!(formatter, "Binary(<{} bytes>)", payload.len()),
            Self::Ping(payload) => write!(formatter, "Ping(<{} bytes>)", payload.len()),
            Self::Pong(payload) => write!(formatter, "Pong(<{} bytes>)", payload.len()),
            Self::Close(None) => formatter.write_str("Close()"),
            Self::Close(Some(close)) => fmt::Debug::fmt(close, formatter),
        }
    }
}

impl From<InvalidUtf8> for DecodeError {
    fn from(_: InvalidUtf8) -> Self {
        Self::InvalidUtf8
    }
}

#[cfg(test)]
impl Decoder {
    /// Bytes on the heap.
    pub(super) fn capacity(&self) -> usize {
        let message = match &self.message {
            Message::None => 0,
            Message::Text(text) => text.capacity(),
            Message::Binary(bytes) => bytes.capacity(),
        };
        message + self.control.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::super::support::*;
    use super::*;

    const LIMIT: usize = 65_536;

    fn server() -> Decoder {
        Decoder::new(Role::Server, LIMIT)
    }

    /// A frame of a client.
    fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
        frame(Role::Server, first_byte, payload)
    }

    /// What a server makes of `frames`, read at once and byte by byte, which must be the same.
    fn decoded(frames: &[Vec<u8>]) -> Transcript {
        let stream = frames.concat();
        let at_once = Transcript::of(&mut server(), [&stream[..]]);
        assert_eq!(Transcript::of(&mut server(), stream.chunks(1)), at_once);
        at_once
    }

    /// The events of `frames`, which are all good.
    fn events(frames: &[Vec<u8>]) -> Vec<Event<'static>> {
        let transcript = decoded(frames);
        assert_eq!(transcript.error, None);
        assert_eq!(transcript.frames, frames.len());
        transcript.events
    }

    /// The error that ends `frames`.
    fn error(frames: &[Vec<u8>]) -> DecodeError {
        decoded(frames).error.expect("the frames break a rule")
    }

    fn text(text: &str) -> Event<'_> {
        Event::Text(text.into())
    }

    fn ping(payload: &[u8]) -> Event<'_> {
        Event::Ping(payload.into())
    }

    #[test]
    fn an_idle_connection_costs_little() {
        assert!(size_of::<Decoder>() <= 96, "{}", size_of::<Decoder>());
    }

    #[test]
    fn a_whole_frame_is_decoded_where_it_lies() {
        let payload = "x".repeat(128);
        let mut input = masked(FIN | TEXT, payload.as_bytes());
        let place = input[8..].as_ptr();
        let mut decoder = server();
        let decoded = decoder.decode(&mut input).unwrap();
        assert_eq!((decoded.consumed, decoded.frames), (136, 1));
        let Some(Event::Text(Cow::Borrowed(text))) = decoded.event else { panic!("not borrowed") };
        assert_eq!(text, payload);
        assert_eq!(text.as_ptr(), place);
        assert_eq!(decoder.capacity(), 0);
        assert!(decoder.is_idle());
    }

    #[test]
    fn a_partial_frame_is_kept_while_it_is_partial() {
        let frame = masked(FIN | BINARY, &[7; 1000]);
        let (last, start) = frame.split_last().unwrap();
        let mut decoder = server();
        for (index, byte) in start.iter().enumerate() {
            assert_eq!(Transcript::of(&mut decoder, [&[*byte][..]]).events, []);
            assert!(!decoder.is_idle());
            assert!(decoder.capacity() <= 2 * (index + 1), "{} after {index}", decoder.capacity());
        }
        let transcript = Transcript::of(&mut decoder, [&[*last][..]]);
        assert_eq!(transcript.events, [Event::Binary(vec![7; 1000].into())]);
        assert_eq!(decoder.capacity(), 0);
        assert!(decoder.is_idle());
    }

    #[test]
    fn a_partial_control_frame_is_kept_while_it_is_partial() {
        let frame = masked(PING, b"Hello");
        let mut decoder = server();
        Transcript::of(&mut decoder, [&frame[..8]]);
        assert!(!decoder.is_idle());
        assert_eq!(Transcript::of(&mut decoder, [&frame[8..]]).events, [ping(b"Hello")]);
        assert_eq!(decoder.capacity(), 0);
        assert!(decoder.is_idle());
    }

    #[test]
    fn every_length_has_its_form() {
        for size in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
            let payload = vec![b'*'; size];
            let whole = str::from_utf8(&payload).unwrap();
            assert_eq!(events(&[masked(FIN | TEXT, &payload)]), [text(whole)]);
            assert_eq!(events(&[masked(FIN | BINARY, &payload)]), [Event::Binary(payload.into())]);
        }
    }

    #[test]
    fn a_length_in_more_bytes_than_it_needs_is_refused() {
        let headers: [&[u8]; 6] = [
            &[0x82, 0xfe, 0, 0],
            &[0x82, 0xfe, 0, 125],
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 125],
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
            &[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ];
        for header in headers {
            let error = error(&[[header, &MASK].concat()]);
            assert_eq!(error, Violation::BadLength.into(), "{header:x?}");
            assert_eq!(error.close_code(), 1002);
        }
    }

    #[test]
    fn a_message_above_the_limit_is_refused_by_its_header() {
        let too_big = DecodeError::TooBig { message_bytes_max: LIMIT };
        for bytes in [LIMIT as u64 + 1, 1 << 32, 1 << 62, u64::MAX >> 1] {
            let mut decoder = server();
            let header = [&[0x82, 0xff], &bytes.to_be_bytes()[..], &MASK].concat();
            assert_eq!(Transcript::of(&mut decoder, [&header[..]]).error, Some(too_big));
            assert_eq!(decoder.capacity(), 0);
        }
        assert_eq!(too_big.close_code(), 1009);
    }

    #[test]
    fn what_is_announced_is_not_allocated() {
        let mut decoder = server();
        let arrived = &masked(FIN | BINARY, &[0; LIMIT])[..24];
        assert_eq!(Transcript::of(&mut decoder, [arrived]).error, None);
        assert!(decoder.capacity() < 100, "{}", decoder.capacity());
    }

    #[test]
    fn fragments_count_together_against_the_limit() {
        let half = vec![b'*'; LIMIT / 2];
        let fits = [masked(TEXT, &half), masked(FIN | CONTINUATION, &half)];
        assert_eq!(events(&fits).len(), 1);
        let one_more = [masked(TEXT, &half), masked(CONTINUATION, &half), masked(CONTINUATION, b"*")];
        assert_eq!(error(&one_more).close_code(), 1009);
        let long_end = [masked(BINARY, &half), masked(FIN | CONTINUATION, &[0; LIMIT / 2 + 1])];
        assert_eq!(error(&long_end).close_code(), 1009);
        // The start of a code point counts before it is one.
        let mut small = Decoder::new(Role::Server, 2);
        let stream = [masked(TEXT, b"a\xe2"), masked(CONTINUATION, b"\x82")].concat();
        let error = Transcript::of(&mut small, [&stream[..]]).error;
        assert_eq!(error, Some(DecodeError::TooBig { message_bytes_max: 2 }));
    }

    #[test]
    fn control_frames_are_not_subject_to_the_limit_of_messages() {
        let mut decoder = Decoder::new(Role::Server, 0);
        let stream = [masked(FIN | TEXT, b""), masked(PING, &[0; 125]), masked(FIN | BINARY, b"*")].concat();
        let transcript = Transcript::of(&mut decoder, [&stream[..]]);
        assert_eq!(transcript.events, [text(""), ping(&[0; 125])]);
        assert_eq!(transcript.error, Some(DecodeError::TooBig { message_bytes_max: 0 }));
    }

    #[test]
    fn control_frames_may_stand_between_fragments() {
        let frames = [
            masked(TEXT, b"frag"),
            masked(PING, b"one"),
            masked(CONTINUATION, b""),
            masked(PONG, b"two"),
            masked(FIN | CONTINUATION, b"ment"),
            masked(PING, b""),
        ];
        assert_eq!(
            events(&frames),
            [ping(b"one"), Event::Pong(b"two"[..].into()), text("fragment"), ping(b"")]
        );
    }

    #[test]
    fn control_frames_are_short_and_whole() {
        assert_eq!(events(&[masked(PING, &[0xfe; 125])]), [ping(&[0xfe; 125])]);
        for (first_byte, opcode) in [(CLOSE, Opcode::Close), (PING, Opcode::Ping), (PONG, Opcode::Pong)] {
            let fragmented = error(&[masked(first_byte & !FIN, b"ab")]);
            assert_eq!(fragmented, Violation::FragmentedControl(opcode).into());
            let long = error(&[masked(first_byte, &[0; 126])]);
            assert_eq!(long, Violation::LongControl(opcode).into());
            assert_eq!((fragmented.close_code(), long.close_code()), (1002, 1002));
        }
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused() {
        for bits in [RSV1, 0x20, 0x10, 0x70] {
            for first_byte in [FIN | TEXT, FIN | BINARY, TEXT, CLOSE, PING, PONG] {
                assert_eq!(error(&[masked(first_byte | bits, b"ab")]), Violation::ReservedBit.into());
            }
        }
        for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
            for fin in [0, FIN] {
                assert_eq!(error(&[masked(fin | opcode, b"")]), Violation::ReservedOpcode.into());
            }
        }
    }

    #[test]
    fn only_clients_mask() {
        let unmasked = frame(Role::Client, FIN | TEXT, b"a");
        let refused = Transcript::of(&mut server(), [&unmasked[..]]);
        assert_eq!(refused.error, Some(Violation::Unmasked.into()));
        let mut client = Decoder::new(Role::Client, LIMIT);
        assert_eq!(Transcript::of(&mut client, [&unmasked[..]]).events, [text("a")]);
        let refused = Transcript::of(&mut client, [&masked(FIN | TEXT, b"a")[..]]);
        assert_eq!(refused.error, Some(Violation::Masked.into()));
    }

    #[test]
    fn fragments_follow_each_other() {
        for fin in [0, FIN] {
            assert_eq!(error(&[masked(fin | CONTINUATION, b"")]), Violation::NothingToContinue.into());
            let after_a_message = [masked(FIN | TEXT, b"whole"), masked(fin | CONTINUATION, b"")];
            assert_eq!(error(&after_a_message), Violation::NothingToContinue.into());
            for opcode in [TEXT, BINARY] {
                let inside = [masked(BINARY, b"begun"), masked(PING, b""), masked(fin | opcode, b"")];
                assert_eq!(error(&inside), Violation::UnfinishedMessage.into());
            }
        }
    }

    #[test]
    fn code_points_may_straddle_fragments() {
        let whole = "κόσμε 🙂 €";
        let mut frames = vec![masked(TEXT, b"")];
        frames.extend(whole.as_bytes().chunks(1).map(|byte| masked(CONTINUATION, byte)));
        frames.push(masked(FIN | CONTINUATION, b""));
        assert_eq!(events(&frames), [text(whole)]);
    }

    #[test]
    fn wrong_text_is_refused() {
        let wrong = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
        for at in 0..wrong.len() {
            let frames = [masked(TEXT, &wrong[..at]), masked(FIN | CONTINUATION, &wrong[at..])];
            assert_eq!(error(&frames).close_code(), 1007, "{at}");
        }
        assert_eq!(error(&[masked(FIN | TEXT, wrong)]).close_code(), 1007);
        // As bytes they are fine.
        assert_eq!(events(&[masked(FIN | BINARY, wrong)]).len(), 1);
    }

    #[test]
    fn a_text_that_ends_within_a_code_point_is_refused() {
        assert_eq!(error(&[masked(FIN | TEXT, b"a\xe2\x82")]), DecodeError::InvalidUtf8);
        let frames = [masked(TEXT, b"\xe2"), masked(CONTINUATION, b"\x82"), masked(FIN | CONTINUATION, b"")];
        assert_eq!(error(&frames), DecodeError::InvalidUtf8);
    }

    #[test]
    fn the_first_wrong_byte_fails_before_its_frame_is_complete() {
        // F4 can begin a code point, F4 90 no longer: Unicode ends before it.
        let frame = masked(FIN | TEXT, b"abc\xf4\x90\x80\x80 and more");
        let wrong = frame.len() - b"\x90\x80\x80 and more".len();
        let mut decoder = server();
        assert_eq!(Transcript::of(&mut decoder, [&frame[..wrong]]).error, None);
        let error = Transcript::of(&mut decoder, [&frame[wrong..=wrong]]).error;
        assert_eq!(error, Some(DecodeError::InvalidUtf8));
    }

    #[test]
    fn a_close_frame_has_nothing_or_a_code() {
        assert_eq!(events(&[masked(CLOSE, b"")]), [Event::Close(None)]);
        let close =
            |code, reason: &'static str| Event::Close(Some(CloseFrame { code, reason: reason.into() }));
        assert_eq!(events(&[masked(CLOSE, b"\x03\xe8")]), [close(1000, "")]);
        assert_eq!(events(&[masked(CLOSE, b"\x0b\xb8bye")]), [close(3000, "bye")]);
        assert_eq!(events(&[masked(CLOSE, b"\x13\x87\xc3\xa9")]), [close(4999, "é")]);
        assert_eq!(error(&[masked(CLOSE, b"\x03")]), Violation::HalfCloseCode.into());
        assert_eq!(error(&[masked(CLOSE, b"\x03\xed")]), Violation::InvalidCloseCode(1005).into());
        assert_eq!(error(&[masked(CLOSE, b"\x03\xe8\xff")]), DecodeError::InvalidUtf8);
        // What a peer sends after its close frame is still decoded: whether to look is for the caller.
        assert_eq!(events(&[masked(CLOSE, b""), masked(PING, b"")]).len(), 2);
    }

    #[test]
    fn events_before_an_error_are_not_lost() {
        let transcript = decoded(&[masked(FIN | TEXT, b"good"), masked(PING, b"ping"), masked(0xff, b"")]);
        assert_eq!(transcript.events, [text("good"), ping(b"ping")]);
        assert_eq!(transcript.error, Some(Violation::ReservedBit.into()));
    }

    #[test]
    fn a_million_empty_fragments_cost_no_memory_and_are_counted() {
        let mut decoder = server();
        Transcript::of(&mut decoder, [&masked(TEXT, b"")[..]]);
        let mut fragments = masked(CONTINUATION, b"").repeat(10_000);
        for _ in 0..100 {
            let decoded = decoder.decode(&mut fragments).unwrap();
            assert_eq!((decoded.consumed, decoded.frames, decoded.event), (60_000, 10_000, None));
        }
        assert_eq!(decoder.capacity(), 0);
        let end = Transcript::of(&mut decoder, [&masked(FIN | CONTINUATION, b"")[..]]);
        assert_eq!(end.events, [text("")]);
    }

    #[test]
    fn payloads_stay_out_of_logs() {
        let close = Event::Close(Some(CloseFrame { code: 3000, reason: "secret".into() }));
        let shown = format!("{:?} {:?} {close:?}", text("secret"), ping(b"secret"));
        assert_eq!(shown, "Text(<6 bytes>) Ping(<6 bytes>) Close(3000, <6 bytes>)");
    }
}
