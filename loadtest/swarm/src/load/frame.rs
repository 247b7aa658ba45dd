//! The client's side of WebSocket (RFC 6455): frames read where they lie, and short ones written.

/// Longer messages are not taken.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Frames to a server are masked so that proxies cannot be fooled (RFC 6455 §10.3). Nothing here is written by somebody
/// who would want to, so that one mask does for all.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a server sent in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A whole message: text, or binary with text in it.
    Message(&'a [u8]),
    /// A ping of WebSocket itself, which is to be answered with its payload.
    Ping(&'a [u8]),
    /// A pong, which nobody asked for.
    Pong,
    /// The end, with its code (1005 if there is none) and reason.
    Close(u16, &'a [u8]),
}

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Opcode {
    Text = 1,
    Close = 8,
    Pong = 10,
}

/// The first frame in `bytes` and the length of it; `None` if it is not there as a whole.
///
/// # Errors
/// In words, what the server must not send, or what is not understood here.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, String> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err("the server masked a frame".into());
    }
    let Some((extra, length)) = length(*second, rest) else { return Ok(None) };
    if length > PAYLOAD_BYTES_MAX as u64 {
        return Err(format!("the server announced a frame of {length} bytes"));
    }
    let end = extra + usize::try_from(length).expect("it is at most 16 MiB");
    let Some(payload) = rest.get(extra..end) else { return Ok(None) };
    Ok(Some((frame(*first, payload)?, 2 + end)))
}

/// How many bytes say the length beyond the first, and what it is; `None` if not all of them are there.
fn length(second: u8, rest: &[u8]) -> Option<(usize, u64)> {
    match (second, rest) {
        (126, [a, b, ..]) => Some((2, u64::from(u16::from_be_bytes([*a, *b])))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            Some((8, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])))
        }
        (126 | 127, _) => None,
        (length, _) => Some((0, u64::from(length))),
    }
}

fn frame(first: u8, payload: &[u8]) -> Result<Frame<'_>, String> {
    match first {
        0x81 | 0x82 => Ok(Frame::Message(payload)),
        0x88 => Ok(match payload {
            [a, b, reason @ ..] => Frame::Close(u16::from_be_bytes([*a, *b]), reason),
            _ => Frame::Close(1005, &[]),
        }),
        0x89 => Ok(Frame::Ping(payload)),
        0x8a => Ok(Frame::Pong),
        0x00..=0x02 | 0x80 => Err("the server sent a message in pieces, which is not understood here".into()),
        _ => Err(format!("the server sent a frame that begins with {first:#04x}")),
    }
}

/// A whole frame to a server.
///
/// # Panics
/// When the payload is longer than 64 KiB; nothing that clients say is.
pub(crate) fn write(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("clients say little");
    let mut frame = Vec::with_capacity(8 + payload.len());
    frame.push(0x80 | opcode as u8);
    if length <= 125 {
        frame.push(0x80 | length.to_be_bytes()[1]);
    } else {
        frame.push(0x80 | 126);
        frame.extend(length.to_be_bytes());
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_where_they_lie() {
        let bytes = b"\x81\x02{}\x81\x03abc";
        assert_eq!(read(bytes), Ok(Some((Frame::Message(b"{}"), 4))));
        assert_eq!(read(&bytes[4..]), Ok(Some((Frame::Message(b"abc"), 5))));
        assert_eq!(read(b"\x88\x04\x0b\xb9by"), Ok(Some((Frame::Close(3001, b"by"), 6))));
        assert_eq!(read(b"\x88\x00"), Ok(Some((Frame::Close(1005, b""), 2))));
        assert_eq!(read(b"\x89\x01x"), Ok(Some((Frame::Ping(b"x"), 3))));
    }

    #[test]
    fn a_frame_is_not_there_before_its_last_byte() {
        for size in [0_usize, 125, 126, 65_535, 65_536] {
            let mut bytes = match size {
                0..=125 => vec![0x81, u8::try_from(size).unwrap()],
                126..=65_535 => [&[0x81, 126][..], &u16::try_from(size).unwrap().to_be_bytes()].concat(),
                _ => [&[0x81, 127][..], &(size as u64).to_be_bytes()].concat(),
            };
            bytes.resize(bytes.len() + size, b'x');
            for cut in (0..bytes.len()).step_by(1 + size / 20) {
                assert_eq!(read(&bytes[..cut]), Ok(None), "{cut} of {size}");
            }
            let Ok(Some((Frame::Message(payload), length))) = read(&bytes) else { panic!("{size}") };
            assert_eq!((payload.len(), length), (size, bytes.len()));
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_an_error() {
        for bytes in [&b"\x81\x80mask"[..], b"\x01\x01x", b"\xc1\x01x", b"\x81\x7f\x01\0\0\0\0\0\0\0"] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_written_is_masked_and_whole() {
        for size in [0_usize, 125, 126, 3_000] {
            let payload = vec![b'y'; size];
            let frame = write(Opcode::Text, &payload);
            let head = if size > 125 { 4 } else { 2 };
            assert_eq!((frame[0], frame[1] & 0x80), (0x81, 0x80));
            let (mask, masked) = frame[head..].split_at(4);
            let unmasked: Vec<u8> = masked.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(unmasked, payload);
        }
    }
}
