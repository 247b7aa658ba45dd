//! Reading histories.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::envelope;
use crate::broker::{BrokerError, History, Range};
use crate::model::{Channel, Epoch, Position, Publication};
use crate::redis::{Call, Redis, Script, script};

static HISTORY: Script = script!("history.lua");

/// Reads `range` of the history of `channel`. `known` is a position that was given out: a history of its epoch that
/// does not reach it any more has lost its end, and begins a new epoch. Without a `meta_ttl` the epoch is kept as long as
/// it was.
pub(super) async fn read(
    redis: &Redis,
    channel: &Channel,
    range: &Range,
    meta_ttl: Option<Duration>,
    known: Option<&Position>,
) -> Result<History, BrokerError> {
    let names = redis.names();
    let keys = [names.of_channel("meta", channel), names.of_channel("stream", channel)];
    let instance = redis.instance_of(channel);
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let since = range.since.filter(|since| *since > 0 || range.reverse);
    let call = Call::script(&HISTORY, &[&keys[0], &keys[1]])
        .arg(Epoch::random().as_str())
        .arg(&*instance.lineage())
        .arg(meta_ttl.map_or(0, super::milliseconds))
        .arg(if range.reverse { "r" } else { "" })
        .arg(number(since))
        .arg(number(range.limit.map(|limit| limit as u64)))
        .arg(number(range.bytes_max.map(|bytes| bytes as u64)))
        .arg(known.map_or("", |known| known.epoch.as_str()))
        .arg(number(known.map(|known| known.offset)));
    // The position alone is small, and is asked for often.
    let (epoch, offset, entries): (String, u64, Vec<(u64, Vec<u8>)>) = match range.limit {
        Some(0) => instance.call(call).await?,
        _ => instance.call_apart(call).await?,
    };
    let top = Position { epoch: Epoch::new(&epoch), offset };
    Ok(History { top, publications: decode(entries, range.bytes_max) })
}

/// As many as `bytes_max` allows. What is not ours is left out: then something is missing, and who recovers hears so.
fn decode(entries: Vec<(u64, Vec<u8>)>, bytes_max: Option<usize>) -> Vec<Arc<Publication>> {
    let bytes_max = bytes_max.unwrap_or(usize::MAX);
    let mut bytes = 0_usize;
    let read = entries.into_iter().map_while(|(offset, entry)| {
        let publication = envelope::entry(offset, Bytes::from(entry)).ok()?;
        let is_first = bytes == 0;
        bytes = bytes.saturating_add(publication.cost_bytes());
        (is_first || bytes <= bytes_max).then(|| Arc::new(publication))
    });
    read.collect()
}
