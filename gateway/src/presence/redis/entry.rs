//! What Redis keeps of a member and of an owner, in bytes.
//!
//! An entry is read by scripts too: its owner (16 bytes), its user, a line break (which no user id holds), then the
//! message of `proto/presence.proto`. A record is written by scripts alone.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::model::{ClientId, ClientInfo, NodeEpoch, RawJson, UserId};
use crate::presence::Member;

mod schema {
    #![expect(unreachable_pub, reason = "made from proto/presence.proto")]
    include!(concat!(env!("OUT_DIR"), "/clarion.presence.rs"));
}

const OWNER_BYTES: usize = 16;
/// The field `has_returned` of an entry, as scripts add it behind the others.
#[cfg(test)]
const RETURNED: &[u8] = b"\x20\x01";

/// Somebody put something there that the presence did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of the presence")]
pub(super) struct Malformed;

/// What is kept of `member`; not whether it is hidden, and not its id: by that it is found.
pub(super) fn write(member: &Member, owner: NodeEpoch) -> Vec<u8> {
    let Member { info, is_announced, .. } = member;
    let json = |json: &Option<RawJson>| {
        json.as_ref().map(|json| Bytes::copy_from_slice(json.as_bytes())).unwrap_or_default()
    };
    let (conn_info, chan_info) = (json(&info.conn_info), json(&info.chan_info));
    let rest = schema::Entry { conn_info, chan_info, is_announced: *is_announced, has_returned: false };
    let mut entry = Vec::with_capacity(OWNER_BYTES + info.user.as_str().len() + 1 + rest.encoded_len());
    entry.extend_from_slice(owner.as_bytes());
    entry.extend_from_slice(info.user.as_str().as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&rest.encode_to_vec());
    entry
}

/// Who the client of this id is, with its owner, and whether its leave is announced.
///
/// # Errors
/// [`Malformed`] if it is not what [`write`] writes.
pub(super) fn read(client: &[u8], entry: &[u8]) -> Result<(NodeEpoch, ClientInfo, bool), Malformed> {
    let (owner, rest) = entry.split_at_checked(OWNER_BYTES).ok_or(Malformed)?;
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Malformed)?;
    let user = str::from_utf8(&rest[..end]).map_err(|_| Malformed)?;
    let schema::Entry { conn_info, chan_info, is_announced, .. } =
        schema::Entry::decode(&rest[end + 1..]).map_err(|_| Malformed)?;
    let json = |text: Bytes| match text.len() {
        0 => Ok(None),
        _ => RawJson::parse(&text).map(Some).map_err(|_| Malformed),
    };
    let info = ClientInfo {
        user: UserId::parse(user).map_err(|_| Malformed)?,
        client: ClientId::from_slice(client).ok_or(Malformed)?,
        conn_info: json(conn_info)?,
        chan_info: json(chan_info)?,
    };
    Ok((owner_of(owner)?, info, is_announced))
}

/// The owner whose bytes these are.
///
/// # Errors
/// [`Malformed`] if there are more or fewer than 16.
pub(super) fn owner_of(bytes: &[u8]) -> Result<NodeEpoch, Malformed> {
    NodeEpoch::from_slice(bytes).ok_or(Malformed)
}

/// When the lease ends, by a record.
///
/// # Errors
/// [`Malformed`] if it is none.
pub(super) fn lapse(record: &[u8]) -> Result<u64, Malformed> {
    let text = str::from_utf8(record).map_err(|_| Malformed)?;
    let mut numbers = text.split(' ').map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(_)), Some(Ok(_)), Some(Ok(lapse)), None) => Ok(lapse),
        _ => Err(Malformed),
    }
}

/// How many `members` there are, and the sum of their fingerprints, as a record has them.
pub(super) fn tally(members: &[Member]) -> (usize, u32) {
    let fingerprint = |member: &Member| {
        let [a, b, c, d, ..] = *member.info.client.as_bytes();
        u32::from_be_bytes([a, b, c, d])
    };
    (members.len(), members.iter().map(fingerprint).fold(0, u32::wrapping_add))
}

/// What departs with an entry that was taken out, if its leave is announced.
pub(super) fn departing(client: &[u8], entry: &[u8]) -> Option<Arc<ClientInfo>> {
    let (_, info, is_announced) = read(client, entry).ok()?;
    is_announced.then(|| Arc::new(info))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for (user, conn_info) in [("ann", Some(RawJson::string("x"))), ("", None)] {
            let info = ClientInfo {
                user: UserId::parse(user).unwrap(),
                client: ClientId::random(),
                chan_info: conn_info.clone(),
                conn_info,
            };
            let member = Member { info: Arc::new(info.clone()), is_listed: true, is_announced: true };
            let owner = NodeEpoch::random();
            let entry = write(&member, owner);
            assert_eq!(read(info.client.as_bytes(), &entry), Ok((owner, info, true)));
        }
    }

    #[test]
    fn what_scripts_add_is_a_field() {
        let entry = schema::Entry { has_returned: true, ..schema::Entry::default() };
        assert_eq!(entry.encode_to_vec(), RETURNED);
        let script = include_str!("../../redis/scripts/presence_room.lua");
        assert!(script.contains(r"local RETURNED = '\32\1'"), "in decimal");
        let info = ClientInfo {
            user: UserId::parse("ann").unwrap(),
            client: ClientId::random(),
            conn_info: None,
            chan_info: None,
        };
        let member = Member { info: Arc::new(info.clone()), is_listed: true, is_announced: true };
        let entry = [&write(&member, NodeEpoch::NOBODY), RETURNED].concat();
        assert_eq!(read(info.client.as_bytes(), &entry), Ok((NodeEpoch::NOBODY, info, true)));
    }

    proptest! {
        #[test]
        fn whatever_is_there_is_read_or_refused(entry in proptest::collection::vec(any::<u8>(), 0..80)) {
            let (_read, _also) = (read(&[0; 16], &entry), lapse(&entry));
        }
    }
}
