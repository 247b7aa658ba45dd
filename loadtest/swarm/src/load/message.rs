//! The quick way through the one line that comes a million times: a publication of a load.
//!
//! Whatever is written otherwise, such as a channel with an escape, goes the slow way, through `client::protocol`, and
//! comes to the same.

use super::stamp::Stamp;

/// A publication of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamped<'a> {
    pub(crate) channel: &'a str,
    /// 0 in a channel without a history.
    pub(crate) offset: u64,
    pub(crate) stamp: Stamp,
}

/// Reads a line; `None` if it is anything else, or is written in an unusual way.
pub(crate) fn publication(line: &[u8]) -> Option<Stamped<'_>> {
    let rest = line.strip_prefix(br#"{"push":{"channel":""#)?;
    let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    let (channel, rest) = rest.split_at(end);
    let rest = rest.strip_prefix(br#"","pub":{"data":"#)?;
    let (stamp, rest) = Stamp::read(rest)?;
    Some(Stamped { channel: std::str::from_utf8(channel).ok()?, offset: offset(rest)?, stamp })
}

/// What follows the data: nothing, or an offset.
fn offset(rest: &[u8]) -> Option<u64> {
    let rest = rest.strip_suffix(b"}}}")?;
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(br#","offset":"#)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::protocol::{self, Incoming};

    #[test]
    fn other_lines_go_the_slow_way() {
        let data = Stamp { run: 1, number: 2, at_ns: 3 }.data(100);
        for line in [
            "{}".to_owned(),
            r#"{"id":1,"connect":{}}"#.to_owned(),
            r#"{"push":{"channel":"a","join":{}}}"#.to_owned(),
            format!(r#"{{"push":{{"channel":"a\n","pub":{{"data":{data}}}}}}}"#),
            format!(r#"{{"push":{{"channel":"a","pub":{{"data":{data},"tags":{{}}}}}}}}"#),
            format!(r#"{{"push":{{"channel":"a","pub":{{"data":{data},"offset":1}}}}"#),
            format!(r#"{{"push":{{"channel":"a","pub":{{"data":{data},"offset":-1}}}}}}"#),
        ] {
            assert_eq!(publication(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        /// Both ways come to the same.
        #[test]
        fn the_quick_way_and_the_slow_way_agree(
            run: u32, number in 0_u64..1_000_000_000_000, at_ns in 0_u64..10_000_000_000_000_000,
            bytes in 0_usize..300, offset: u64, channel in "[a-z0-9:ü-]{1,20}",
        ) {
            let stamp = Stamp { run, number, at_ns };
            let place = if offset == 0 { String::new() } else { format!(r#","offset":{offset}"#) };
            let data = stamp.data(bytes);
            let line = format!(r#"{{"push":{{"channel":"{channel}","pub":{{"data":{data}{place}}}}}}}"#);
            prop_assert_eq!(publication(line.as_bytes()), Some(Stamped { channel: &channel, offset, stamp }));
            let slow = protocol::read(&line).unwrap();
            let Incoming::Publication(publication) = slow.incoming else { panic!("it is a publication") };
            prop_assert_eq!(slow.channel.as_deref(), Some(channel.as_str()));
            let read = Stamp::read(publication.data().as_bytes()).map(|(stamp, _)| stamp);
            prop_assert_eq!((publication.offset, read), (offset, Some(stamp)));
        }
    }
}
