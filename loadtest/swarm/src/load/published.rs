//! What a load has published: what its clients must have.

use std::collections::HashSet;

/// How many publications each channel has, and which of them nobody can be sure of.
#[derive(Clone, Debug, Default)]
pub struct Published {
    last: Vec<u64>,
    /// Channel and number.
    uncertain: HashSet<(u32, u64)>,
}

impl Published {
    /// Nothing yet, to so many channels.
    pub fn new(channels: usize) -> Self {
        Self { last: vec![0; channels], uncertain: HashSet::new() }
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.last.len()
    }

    /// The number of the next publication of a channel, which counts as published from now on. The first one is 1.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn next(&mut self, channel: u32) -> u64 {
        let last = &mut self.last[channel as usize];
        *last += 1;
        *last
    }

    /// The number of the last publication of a channel; 0 if there is none.
    pub fn last(&self, channel: u32) -> u64 {
        self.last.get(channel as usize).copied().unwrap_or(0)
    }

    /// A call failed, and nobody knows whether this was published: clients need not have it.
    pub fn doubt(&mut self, channel: u32, number: u64) {
        self.uncertain.insert((channel, number));
    }

    /// Whether clients need not have this.
    pub fn is_uncertain(&self, channel: u32, number: u64) -> bool {
        self.uncertain.contains(&(channel, number))
    }

    /// What clients need not have of a channel, in no order.
    pub fn uncertain(&self, channel: u32) -> impl Iterator<Item = u64> {
        self.uncertain.iter().filter(move |(of, _)| *of == channel).map(|(_, number)| *number)
    }

    /// How many publications of a channel there are for sure.
    pub fn certain(&self, channel: u32) -> u64 {
        self.last(channel) - self.uncertain(channel).count() as u64
    }

    /// The number of the publication that comes next in a channel; `None` if nobody knows whether an earlier one is still to
    /// come.
    pub fn upcoming(&self, channel: u32) -> Option<u64> {
        let last = self.last(channel);
        (self.certain(channel) == last).then_some(last + 1)
    }

    /// Whether there is no publication at all that clients must have.
    pub fn is_all_uncertain(&self) -> bool {
        self.total() == self.uncertain.len() as u64
    }

    /// How many there are, in all channels.
    pub fn total(&self) -> u64 {
        self.last.iter().sum()
    }
}
