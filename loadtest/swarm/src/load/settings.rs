//! What a load is made of, whatever is played with it.

use std::net::IpAddr;
use std::time::Duration;

use super::heard::Numbering;
use super::target::Target;
use super::tokens::{TokenPlace, Tokens};

/// What a load is made of. Client `i` connects to the target `i`, of as many as there are, in turn.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// Where clients connect to, in turn. Never empty.
    pub targets: Vec<Target>,
    /// Where they connect from: each address is used once per target before its next turn. Empty: the kernel chooses,
    /// and has some 28,000 ports for each target.
    pub sources: Vec<IpAddr>,
    /// What they show.
    pub tokens: Tokens,
    /// Where they show it.
    pub token_place: TokenPlace,
    /// Every channel of the load. Clients and publications name one by its number in this list.
    pub channels: Vec<String>,
    /// Whether clients ask for positions, and for what they missed when they connect again.
    pub is_recoverable: bool,
    /// Whether clients ask to be told of others' joining and leaving.
    pub is_hearing: bool,
    /// Who numbers publications.
    pub numbering: Numbering,
    /// The size of the data of what clients publish themselves, in bytes.
    pub data_bytes: usize,
    /// Threads that hold clients; at least 1. Client `i` is of the thread `i`, in turn.
    pub threads: usize,
    /// How many handshakes are under way at a time, in all threads together.
    pub handshakes_max: usize,
    /// How many clients begin to connect in a second; `None` for as many as the limit on handshakes lets through.
    pub connects_per_second: Option<f64>,
    /// How long a handshake may take, and how long a publication to reach everybody.
    pub patience: Duration,
    /// How long a thread stays away before it waits for its sockets; zero for not at all.
    ///
    /// Who sends on loopback pays for waking the receiver, once per publication or once per delivery, as it happens to
    /// come; clients elsewhere cost a server nothing of the kind. A receiver that does not wait when bytes come is not
    /// woken by them. Delays are longer by as much, so that a play is about one or the other.
    pub nap: Duration,
}

impl LoadSettings {
    /// The target of a client.
    pub(super) fn target(&self, client: u32) -> &Target {
        &self.targets[client as usize % self.targets.len()]
    }

    /// The source of a client; `None` leaves it to the kernel.
    pub(super) fn source(&self, client: u32) -> Option<IpAddr> {
        let turn = client as usize / self.targets.len();
        turn.checked_rem(self.sources.len()).map(|index| self.sources[index])
    }
}
