//! What a publication of a load carries: whose it is, its number, and when it was due.

/// How the data of a publication begins, and what stands between its fields, which all have a fixed width: so a
/// client finds them without looking for them.
const RUN_KEY: &[u8] = br#"{"run":""#;
const SEQ_KEY: &[u8] = br#"","seq":""#;
const AT_KEY: &[u8] = br#"","at":""#;
const PAD_KEY: &[u8] = br#"","pad":""#;
const END: &[u8] = br#""}"#;

const RUN_DIGITS: usize = 8;
const SEQ_DIGITS: usize = 12;
const AT_DIGITS: usize = 16;

/// The least size of the data of a publication, in bytes.
pub const DATA_BYTES_MIN: usize = RUN_KEY.len()
    + RUN_DIGITS
    + SEQ_KEY.len()
    + SEQ_DIGITS
    + AT_KEY.len()
    + AT_DIGITS
    + PAD_KEY.len()
    + END.len();

/// What tells one publication from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run that it belongs to: other runs may publish to the same channel.
    pub run: u32,
    /// Counts the publications of a channel, from 1 on.
    pub number: u64,
    /// When it was due, in nanoseconds of the clock of the run.
    pub at_ns: u64,
}

impl Stamp {
    /// The data of the publication: an object of JSON, padded to `bytes`, but never shorter than [`DATA_BYTES_MIN`].
    pub fn data(&self, bytes: usize) -> String {
        let pad = "x".repeat(bytes.saturating_sub(DATA_BYTES_MIN));
        let Self { run, number, at_ns } = self;
        format!(
            r#"{{"run":"{run:0RUN_DIGITS$x}","seq":"{number:0SEQ_DIGITS$}","at":"{at_ns:0AT_DIGITS$}","pad":"{pad}"}}"#
        )
    }

    /// The stamp at the start of `bytes`, and what comes after the data that it is in. `None` if it was not written by
    /// [`data`](Self::data).
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let rest = bytes.strip_prefix(RUN_KEY)?;
        let (run, rest) = digits(rest, RUN_DIGITS, 16)?;
        let (number, rest) = digits(rest.strip_prefix(SEQ_KEY)?, SEQ_DIGITS, 10)?;
        let (at_ns, rest) = digits(rest.strip_prefix(AT_KEY)?, AT_DIGITS, 10)?;
        let rest = rest.strip_prefix(PAD_KEY)?;
        let end = rest.iter().position(|byte| *byte != b'x')?;
        let rest = rest[end..].strip_prefix(END)?;
        Some((Self { run: u32::try_from(run).ok()?, number, at_ns }, rest))
    }
}

fn digits(bytes: &[u8], count: usize, radix: u32) -> Option<(u64, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(count)?;
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        Some(value * u64::from(radix) + u64::from(digit))
    })?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp { run: 0x0a1b_2c3d, number: 7, at_ns: 1_234_567_890 };
        for bytes in [0, DATA_BYTES_MIN, 128, 1_000] {
            let data = stamp.data(bytes);
            assert_eq!(data.len(), bytes.max(DATA_BYTES_MIN));
            assert!(serde_json::from_str::<serde_json::Value>(&data).unwrap().is_object());
            let more = format!("{data},rest");
            assert_eq!(Stamp::read(more.as_bytes()), Some((stamp, &b",rest"[..])));
        }
    }

    #[test]
    fn what_others_publish_has_no_stamp() {
        let data = Stamp { run: 1, number: 2, at_ns: 3 }.data(128);
        for other in
            ["", "{}", "1", "\"text\"", &data[..100], &data.replace("xx", "xy"), &data.replace("seq", "sex")]
        {
            assert_eq!(Stamp::read(other.as_bytes()), None, "{other}");
        }
    }
}
