//! The subscriptions of a session, by channel.

use super::subscriptions::Subscription;
use crate::model::Channel;

/// Few things, found by their channel: a sorted list.
///
/// Most sessions have one subscription, and each that idles costs memory: a hash map takes 48 bytes and a table for at
/// least three, this 24 and as much as it holds.
#[derive(Debug, Default)]
pub(super) struct ByChannel(Vec<(Channel, Subscription)>);

impl ByChannel {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, channel: &str) -> bool {
        self.find(channel).is_ok()
    }

    pub(super) fn get(&self, channel: &str) -> Option<&(Channel, Subscription)> {
        self.0.get(self.find(channel).ok()?)
    }

    /// Puts it in, and answers what was there before.
    pub(super) fn insert(&mut self, channel: Channel, subscription: Subscription) -> Option<Subscription> {
        let index = match self.find(channel.as_str()) {
            Ok(index) => {
                return self.0.get_mut(index).map(|known| std::mem::replace(&mut known.1, subscription));
            }
            Err(index) => index,
        };
        if self.0.is_empty() {
            // The first growth of a vector would make room for four.
            self.0.reserve_exact(1);
        }
        self.0.insert(index, (channel, subscription));
        None
    }

    pub(super) fn remove(&mut self, channel: &str) -> Option<(Channel, Subscription)> {
        self.find(channel).ok().map(|index| self.0.remove(index))
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Channel, Subscription)> {
        self.0.iter()
    }

    /// Where it is, or would be.
    fn find(&self, channel: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_str().cmp(channel))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::subscriptions::Side;
    use super::*;
    use crate::model::{RawJson, SubscriptionGrant};

    proptest! {
        #[test]
        fn what_was_put_in_last_is_found(steps in prop::collection::vec(("[a-d]{1,2}", prop::bool::ANY), 0..40)) {
            let (mut ours, mut known) = (ByChannel::default(), BTreeMap::new());
            for (number, (name, is_added)) in steps.into_iter().enumerate() {
                let info = RawJson::string(&number.to_string());
                if is_added {
                    let grant = SubscriptionGrant { info: Some(info.clone()), ..Default::default() };
                    let channel = Channel::parse(&name, 255).unwrap();
                    let before = ours.insert(channel, Subscription::new(Side::Client, &grant));
                    prop_assert_eq!(before.and_then(|one| one.info().cloned()), known.insert(name, info));
                } else {
                    let removed = ours.remove(&name).map(|(_, one)| one.info().cloned().unwrap());
                    prop_assert_eq!(removed, known.remove(&name));
                }
                let all = ours.iter().map(|(channel, one)| (channel.as_str(), one.info().unwrap()));
                prop_assert!(all.eq(known.iter().map(|(name, info)| (name.as_str(), info))));
                prop_assert_eq!(ours.len(), known.len());
                prop_assert!(known.keys().all(|name| ours.contains(name)));
            }
        }
    }
}
