//! Where the nodes are, for whoever connects: what a load balancer knows.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

/// The addresses of one node.
#[derive(Debug)]
struct Seat {
    public: SocketAddr,
    internal: SocketAddr,
    is_open: AtomicBool,
}

/// The nodes, each with whether new clients are sent there.
#[derive(Debug)]
pub(crate) struct Fleet(Vec<Seat>);

impl Fleet {
    pub(crate) fn new(nodes: impl IntoIterator<Item = (SocketAddr, SocketAddr)>) -> Self {
        let seat = |(public, internal)| Seat { public, internal, is_open: AtomicBool::new(true) };
        Self(nodes.into_iter().map(seat).collect())
    }

    /// New clients and requests go elsewhere, as long as there is an elsewhere.
    pub(crate) fn close(&self, node: usize) {
        self.0[node].is_open.store(false, Ordering::Relaxed);
    }

    pub(crate) fn open(&self, node: usize) {
        self.0[node].is_open.store(true, Ordering::Relaxed);
    }

    /// Any open node, and where its clients connect.
    pub(crate) fn any(&self) -> (usize, SocketAddr) {
        let node = self.choose(rand::random_range(0..self.0.len()));
        (node, self.0[node].public)
    }

    /// The node of this number, open or not.
    pub(crate) fn at(&self, node: usize) -> (usize, SocketAddr) {
        (node, self.0[node].public)
    }

    /// The first open node from `start` on, and where its server API is.
    pub(crate) fn api_from(&self, start: usize) -> (usize, SocketAddr) {
        let node = self.choose(start % self.0.len());
        (node, self.0[node].internal)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn choose(&self, start: usize) -> usize {
        let all = self.0.len();
        let candidates = (0..all).map(|step| (start + step) % all);
        candidates.into_iter().find(|node| self.0[*node].is_open.load(Ordering::Relaxed)).unwrap_or(start)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    crate::own::tests!(closed_nodes_are_left_out);

    fn closed_nodes_are_left_out() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let fleet = Fleet::new([1, 2, 3].map(|port| (address(port), address(port + 10))));
        assert_eq!(fleet.api_from(4), (1, address(12)));
        fleet.close(1);
        assert_eq!(fleet.api_from(4), (2, address(13)));
        fleet.close(2);
        assert_eq!(fleet.any(), (0, address(1)));
        fleet.open(1);
        fleet.close(0);
        assert_eq!(fleet.any(), (1, address(2)));
        fleet.close(1);
        assert_eq!(fleet.api_from(2).0, 2, "somebody has to be asked");
    }
}
