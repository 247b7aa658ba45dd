//! How many connections each user has on this node.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;

use crate::model::UserId;

/// How many locks the users are spread over.
const STRIPES: usize = 16;

/// Connections by user, where they are limited.
#[derive(Debug)]
pub(super) struct Users {
    hasher: RandomState,
    stripes: [Mutex<HashMap<UserId, usize>>; STRIPES],
}

impl Users {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), stripes: std::array::from_fn(|_| Mutex::default()) }
    }

    fn stripe(&self, user: &UserId) -> &Mutex<HashMap<UserId, usize>> {
        &self.stripes[self.hasher.hash_one(user) as usize % STRIPES]
    }

    /// Counts a connection in; `false` if the user has `connections_max` already. Nobody is counted without a
    /// limit (0), nor is the anonymous user, who is many.
    pub(super) fn enter(&self, user: &UserId, connections_max: usize) -> bool {
        if connections_max == 0 || user.is_anonymous() {
            return true;
        }
        let mut stripe = self.stripe(user).lock();
        let count = stripe.entry(user.clone()).or_default();
        if *count >= connections_max {
            return false;
        }
        *count += 1;
        true
    }

    /// How many connections `user` has; 0 for who is not counted.
    pub(super) fn connections_of(&self, user: &UserId) -> usize {
        self.stripe(user).lock().get(user).copied().unwrap_or_default()
    }

    /// Everybody who is counted.
    pub(super) fn all(&self) -> Vec<UserId> {
        let stripes = self.stripes.iter();
        stripes.flat_map(|stripe| stripe.lock().keys().cloned().collect::<Vec<_>>()).collect()
    }

    /// Counts a connection out.
    pub(super) fn leave(&self, user: &UserId) {
        let mut stripe = self.stripe(user).lock();
        if let Some(count) = stripe.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                stripe.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_connections_and_another_when_one_has_gone() {
        let users = Users::new();
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        assert!(users.enter(&ann, 2) && users.enter(&ann, 2) && users.enter(&bob, 2));
        assert!(!users.enter(&ann, 2));
        users.leave(&ann);
        assert!(users.enter(&ann, 2));
        for user in [&ann, &ann, &bob] {
            users.leave(user);
        }
        assert!(users.stripes.iter().all(|stripe| stripe.lock().is_empty()));
        assert!((0..100).all(|_| users.enter(&UserId::ANONYMOUS, 1) && users.enter(&ann, 0)));
        users.leave(&ann);
    }
}
