use bytes::Bytes;

use super::Opcode;
use super::mask::apply_mask;

const FIN: u8 = 0b1000_0000;
const MASKED: u8 = 0b1000_0000;
/// The payload of a control frame is not longer (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 125;
/// What a close frame has left beside its code.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Appends one unfragmented, final, unmasked frame to `out`: what a server sends.
///
/// The payload of a [`Opcode::Text`] must be UTF-8, that of a control frame at most 125 bytes.
///
/// # Panics
/// In debug builds, when a control frame is longer.
pub fn encode_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    encode_fragment(opcode, true, payload, out);
}

/// Appends one unmasked fragment of a message to `out`: the first has the message's opcode, the others
/// [`Opcode::Continuation`] (RFC 6455 §5.4).
pub fn encode_fragment(opcode: Opcode, is_last: bool, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(frame_bytes(payload.len()));
    encode_header((opcode, is_last), 0, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends one unfragmented, final frame masked with `mask` to `out`: what a client sends.
///
/// The mask has to be drawn anew for each frame (RFC 6455 §5.3); otherwise as [`encode_frame`].
pub fn encode_masked_frame(opcode: Opcode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.reserve(frame_bytes(payload.len()) + mask.len());
    encode_header((opcode, true), MASKED, payload.len(), out);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(payload) = out.get_mut(start..) {
        apply_mask(payload, mask);
    }
}

/// Size in bytes of what [`encode_frame`] appends for a payload of `payload_bytes`.
pub const fn frame_bytes(payload_bytes: usize) -> usize {
    let header_bytes = match payload_bytes {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    header_bytes + payload_bytes
}

/// A close frame, unmasked. With `code: None` it has no body, and `reason` is not sent.
///
/// A reason of more than 123 bytes is cut between two characters. The code is the caller's to get right,
/// see [`is_valid_close_code`](super::is_valid_close_code).
pub fn close_frame(code: Option<u16>, reason: &str) -> Bytes {
    let mut payload = Vec::with_capacity(CONTROL_BYTES_MAX);
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        let (reason, _) = reason.split_at(reason.floor_char_boundary(REASON_BYTES_MAX));
        payload.extend_from_slice(reason.as_bytes());
    }
    let mut frame = Vec::with_capacity(frame_bytes(payload.len()));
    encode_frame(Opcode::Close, &payload, &mut frame);
    frame.into()
}

fn encode_header((opcode, is_last): (Opcode, bool), mask_bit: u8, payload_bytes: usize, out: &mut Vec<u8>) {
    debug_assert!(!opcode.is_control() || payload_bytes <= CONTROL_BYTES_MAX, "control frame is too long");
    out.push(if is_last { FIN } else { 0 } | opcode as u8);
    match payload_bytes {
        0..=125 => out.push(mask_bit | payload_bytes as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes around which the form of the length changes.
    const SIZES: [usize; 8] = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000];

    fn encoded(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_frame(opcode, payload, &mut out);
        out
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 6455 §5.7.
        assert_eq!(encoded(Opcode::Text, b"Hello"), b"\x81\x05Hello");
        assert_eq!(encoded(Opcode::Ping, b"Hello"), b"\x89\x05Hello");
        assert_eq!(encoded(Opcode::Binary, &[7; 256])[..5], [0x82, 0x7e, 0x01, 0x00, 7]);
        assert_eq!(encoded(Opcode::Binary, &[7; 65_536])[..11], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0, 7]);
        let mut masked = Vec::new();
        encode_masked_frame(Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d], &mut masked);
        assert_eq!(masked, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn a_message_can_be_sent_in_fragments() {
        // RFC 6455 §5.7.
        let mut out = Vec::new();
        encode_fragment(Opcode::Text, false, b"Hel", &mut out);
        encode_fragment(Opcode::Continuation, true, b"lo", &mut out);
        assert_eq!(out, b"\x01\x03Hel\x80\x02lo");
    }

    #[test]
    fn the_size_is_known_beforehand() {
        for size in SIZES {
            let frame = encoded(Opcode::Binary, &vec![0; size]);
            assert_eq!(frame.len(), frame_bytes(size));
        }
    }

    #[test]
    fn frames_are_appended() {
        let mut out = b"before".to_vec();
        encode_frame(Opcode::Text, b"a", &mut out);
        encode_masked_frame(Opcode::Text, b"b", [0, 0, 0, 1], &mut out);
        assert_eq!(out, b"before\x81\x01a\x81\x81\0\0\0\x01b");
    }

    #[test]
    fn a_close_frame_fits_whatever_the_reason() {
        assert_eq!(&close_frame(None, "unheard")[..], b"\x88\x00");
        assert_eq!(&close_frame(Some(1000), "")[..], b"\x88\x02\x03\xe8");
        assert_eq!(&close_frame(Some(3000), "bye")[..], b"\x88\x05\x0b\xb8bye");
        let fits = "x".repeat(123);
        assert_eq!(&close_frame(Some(1001), &fits)[4..], fits.as_bytes());
        assert_eq!(&close_frame(Some(1001), &"x".repeat(124))[..], &close_frame(Some(1001), &fits)[..]);
        // 122 bytes and a character of two.
        let cut = close_frame(Some(1001), &format!("{}é", "x".repeat(122)));
        assert_eq!(cut[1], 124);
        assert_eq!(&cut[4..], "x".repeat(122).as_bytes());
    }
}
