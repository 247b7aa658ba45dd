//! What the tests of the codec share: frames built apart from the encoder, and what a decoder makes of them.

use std::borrow::Cow;

use super::{CloseFrame, DecodeError, Decoder, Event, Role};

pub(super) const FIN: u8 = 0x80;
pub(super) const RSV1: u8 = 0x40;
pub(super) const CONTINUATION: u8 = 0x0;
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = FIN | 0x8;
pub(super) const PING: u8 = FIN | 0x9;
pub(super) const PONG: u8 = FIN | 0xA;

pub(super) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame for `reader`, masked if that is a server.
pub(super) fn frame(reader: Role, first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mask_bit = if reader == Role::Server { 0x80 } else { 0 };
    let mut frame = vec![first_byte];
    match payload.len() {
        size @ 0..126 => frame.push(mask_bit | size as u8),
        size @ 126..65_536 => {
            frame.push(mask_bit | 126);
            frame.extend((size as u16).to_be_bytes());
        }
        size => {
            frame.push(mask_bit | 127);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    match reader {
        Role::Client => frame.extend(payload),
        Role::Server => {
            frame.extend(MASK);
            frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

/// All that a decoder made of a stream.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Transcript {
    pub(super) events: Vec<Event<'static>>,
    /// 0 after an error.
    pub(super) frames: usize,
    pub(super) error: Option<DecodeError>,
}

impl Transcript {
    /// Offers `reads` to `decoder`, one after the other and each until it is used up.
    pub(super) fn of<'a>(decoder: &mut Decoder, reads: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut transcript = Self::default();
        for read in reads {
            if let Err(error) = transcript.read(decoder, &mut read.to_vec()) {
                // How many frames the failed call began is lost with the connection.
                transcript.frames = 0;
                transcript.error = Some(error);
                break;
            }
        }
        transcript
    }

    fn read(&mut self, decoder: &mut Decoder, mut rest: &mut [u8]) -> Result<(), DecodeError> {
        loop {
            let decoded = decoder.decode(rest)?;
            let (consumed, event) = (decoded.consumed, decoded.event.map(into_owned));
            self.frames += decoded.frames;
            rest = &mut rest[consumed..];
            let Some(event) = event else {
                assert!(rest.is_empty(), "an input without event was not used up");
                return Ok(());
            };
            self.events.push(event);
        }
    }
}

fn into_owned(event: Event<'_>) -> Event<'static> {
    fn bytes(bytes: Cow<'_, [u8]>) -> Cow<'static, [u8]> {
        bytes.into_owned().into()
    }
    match event {
        Event::Text(text) => Event::Text(text.into_owned().into()),
        Event::Binary(payload) => Event::Binary(bytes(payload)),
        Event::Ping(payload) => Event::Ping(bytes(payload)),
        Event::Pong(payload) => Event::Pong(bytes(payload)),
        Event::Close(close) => Event::Close(
            close.map(|close| CloseFrame { code: close.code, reason: close.reason.into_owned().into() }),
        ),
    }
}
