use super::mask::apply_mask;
use super::{DecodeError, Opcode, Role, Violation};

const FIN: u8 = 0b1000_0000;
/// A negotiated extension would let its bit through, with the opcodes that may bear it.
const RESERVED_BITS: u8 = 0b0111_0000;
const OPCODE: u8 = 0b0000_1111;
const MASKED: u8 = 0b1000_0000;
const LENGTH: u8 = 0b0111_1111;

/// The largest length that the second byte holds itself; control frames have no other (RFC 6455 §5.5).
const SHORT_LENGTH_MAX: u8 = 125;
/// The length follows in two bytes.
const LENGTH_IN_2: u8 = 126;
/// The length follows in eight bytes.
const LENGTH_IN_8: u8 = 127;

/// The two bytes that say how long the header is.
const START_BYTES: usize = 2;
const MASK_BYTES: usize = 4;
/// Start, longest length, mask.
const HEADER_BYTES_MAX: usize = START_BYTES + 8 + MASK_BYTES;

/// A frame whose header was read, and how much of its payload is still to come.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) opcode: Opcode,
    /// The last frame of its message.
    pub(super) is_final: bool,
    /// Announced, not arrived: nothing may be allocated for it. Saturated at `usize::MAX`.
    pub(super) missing_bytes: usize,
    /// Its first byte is for the next byte of the payload. Zero for an unmasked frame.
    mask: [u8; 4],
}

impl Frame {
    /// Takes from the front of `input` what belongs to this frame, unmasked.
    pub(super) fn take_payload<'a>(&mut self, input: &mut &'a mut [u8]) -> &'a [u8] {
        let count = self.missing_bytes.min(input.len());
        let payload = input.split_off_mut(..count).expect("the count is limited by the input");
        self.missing_bytes -= count;
        if self.mask != [0; 4] {
            apply_mask(payload, self.mask);
            self.mask.rotate_left(count % MASK_BYTES);
        }
        payload
    }
}

/// The header of a frame as far as it arrived.
#[derive(Clone, Copy, Default)]
pub(super) struct PartialHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    count: u8,
}

impl PartialHeader {
    /// Whether no byte arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes what is missing from the front of `input`. `None`: the input ended before the header.
    ///
    /// # Errors
    /// The [`Violation`] as soon as the bytes show it, before the header is complete.
    pub(super) fn read(&mut self, role: Role, input: &mut &mut [u8]) -> Result<Option<Frame>, DecodeError> {
        if !self.fill(START_BYTES, input) {
            return Ok(None);
        }
        let opcode = self.check_start(role)?;
        if !self.fill(self.header_bytes(), input) {
            return Ok(None);
        }
        let missing_bytes = usize::try_from(self.payload_bytes()?).unwrap_or(usize::MAX);
        let is_final = self.bytes[0] & FIN != 0;
        Ok(Some(Frame { opcode, is_final, missing_bytes, mask: self.mask() }))
    }

    /// Whether there are `size` bytes now.
    fn fill(&mut self, size: usize, input: &mut &mut [u8]) -> bool {
        let count = usize::from(self.count);
        let missing = size.saturating_sub(count).min(input.len());
        let taken = input.split_off_mut(..missing).expect("the count is limited by the input");
        if let Some(place) = self.bytes.get_mut(count..count + missing) {
            place.copy_from_slice(taken);
        }
        // At most 14: the sum fits.
        self.count += missing as u8;
        usize::from(self.count) >= size
    }

    /// What the first two bytes tell.
    fn check_start(&self, role: Role) -> Result<Opcode, Violation> {
        let [first, second, ..] = self.bytes;
        if first & RESERVED_BITS != 0 {
            return Err(Violation::ReservedBit);
        }
        let opcode = Opcode::from_bits(first & OPCODE).ok_or(Violation::ReservedOpcode)?;
        match (role, second & MASKED != 0) {
            (Role::Server, false) => return Err(Violation::Unmasked),
            (Role::Client, true) => return Err(Violation::Masked),
            _ => {}
        }
        if opcode.is_control() && first & FIN == 0 {
            return Err(Violation::FragmentedControl(opcode));
        }
        if opcode.is_control() && second & LENGTH > SHORT_LENGTH_MAX {
            return Err(Violation::LongControl(opcode));
        }
        if opcode == Opcode::Close && second & LENGTH == 1 {
            return Err(Violation::HalfCloseCode);
        }
        Ok(opcode)
    }

    /// Size of the length that follows the first two bytes.
    fn long_length_bytes(&self) -> usize {
        match self.bytes[1] & LENGTH {
            LENGTH_IN_2 => 2,
            LENGTH_IN_8 => 8,
            _ => 0,
        }
    }

    fn mask_bytes(&self) -> usize {
        if self.bytes[1] & MASKED != 0 { MASK_BYTES } else { 0 }
    }

    fn header_bytes(&self) -> usize {
        START_BYTES + self.long_length_bytes() + self.mask_bytes()
    }

    fn payload_bytes(&self) -> Result<u64, Violation> {
        let [_, second, length @ .., _, _, _, _] = self.bytes;
        let (bytes, range) = match second & LENGTH {
            LENGTH_IN_2 => {
                let [a, b, ..] = length;
                (u16::from_be_bytes([a, b]).into(), u64::from(LENGTH_IN_2)..=u16::MAX.into())
            }
            LENGTH_IN_8 => (u64::from_be_bytes(length), 0x1_0000..=u64::MAX >> 1),
            short => return Ok(short.into()),
        };
        if range.contains(&bytes) { Ok(bytes) } else { Err(Violation::BadLength) }
    }

    fn mask(&self) -> [u8; 4] {
        let start = START_BYTES + self.long_length_bytes();
        match self.bytes.get(start..start + self.mask_bytes()) {
            Some(&[a, b, c, d]) => [a, b, c, d],
            _ => [0; 4],
        }
    }
}
