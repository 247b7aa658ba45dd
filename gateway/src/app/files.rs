//! How the open files that this process may have are shared out. Every socket is one.

use std::ops::RangeInclusive;

/// Of all files, the share that is not for clients.
const RESERVED_SHARE: usize = 8;
/// Least and most of it, if the node itself needs no more.
const RESERVED: RangeInclusive<usize> = 64..=1024;
/// What a node needs whatever it does: logs, the runtime of the backbone, its listener, and connections to Redis.
const OWN: usize = 36;
/// What each shard needs: its listener, its runtime, and a file to give up when there is none.
const OWN_OF_SHARD: usize = 6;
/// At least so many are left beside that, for who asks the internal listener and for who is sent away.
const SPARE_MIN: usize = 32;

/// Who may have how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// Clients.
    pub(super) clients: usize,
    /// All that is not for clients.
    pub(super) reserve: usize,
    /// Of the reserve: connections to the internal listener.
    pub(super) internal: usize,
    /// Of the reserve: those who are being told that they are sent away.
    pub(super) farewells: usize,
}

impl Files {
    /// Shares out `limit` files in a node of so many shards. Clients get what is left, be it nothing.
    pub(super) fn share_out(limit: usize, shards: usize) -> Self {
        let own = OWN + OWN_OF_SHARD * shards;
        let reserve = (limit / RESERVED_SHARE).clamp(*RESERVED.start(), *RESERVED.end()).max(own + SPARE_MIN);
        let farewells = (reserve - own) / 2;
        let internal = reserve - own - farewells;
        Self { clients: limit.saturating_sub(reserve), reserve, internal, farewells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_what_another_needs() {
        for limit in [0, 64, 256, 1_024, 20_000, 1 << 20, usize::MAX] {
            for shards in [1, 2, 8, 32, 1_024] {
                let Files { clients, reserve, internal, farewells } = Files::share_out(limit, shards);
                assert!(clients == 0 || clients + reserve == limit, "{limit} {shards}");
                assert!(internal >= 16 && farewells >= 16, "{limit} {shards}");
                assert_eq!(internal + farewells + OWN + OWN_OF_SHARD * shards, reserve);
            }
        }
        let files = Files::share_out(20_000, 2);
        assert_eq!(files, Files { clients: 18_976, reserve: 1_024, internal: 488, farewells: 488 });
    }
}
