//! What a run changes on the machine and must not leave behind: processes and firewall rules.
//!
//! Each change is undone when its [`Undo`] is dropped; [`everything`] is for the ends at which nothing is dropped.

use std::collections::BTreeMap;

use parking_lot::Mutex;

type Action = Box<dyn FnOnce() + Send>;

static PENDING: Mutex<Pending> = Mutex::new(Pending { last: 0, actions: BTreeMap::new() });

struct Pending {
    last: u64,
    actions: BTreeMap<u64, Action>,
}

/// Undoes a change when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Undo(u64);

impl Undo {
    pub(crate) fn by(action: impl FnOnce() + Send + 'static) -> Self {
        let mut pending = PENDING.lock();
        pending.last += 1;
        let id = pending.last;
        pending.actions.insert(id, Box::new(action));
        Self(id)
    }

    /// There is nothing to undo any more.
    pub(crate) fn forget(self) {
        PENDING.lock().actions.remove(&self.0);
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let action = PENDING.lock().actions.remove(&self.0);
        if let Some(action) = action {
            action();
        }
    }
}

/// Undoes all that is pending, the latest first.
pub(crate) fn everything() {
    loop {
        let latest = PENDING.lock().actions.pop_last();
        let Some((_, action)) = latest else { return };
        action();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    crate::own::tests!(a_change_is_undone_once_unless_it_is_forgotten);

    fn a_change_is_undone_once_unless_it_is_forgotten() {
        let undone = Arc::new(AtomicU32::new(0));
        let count = |by: u32| {
            let undone = Arc::clone(&undone);
            Undo::by(move || drop(undone.fetch_add(by, Ordering::Relaxed)))
        };
        count(100).forget();
        let kept = count(1);
        drop(count(10));
        assert_eq!(undone.load(Ordering::Relaxed), 10);
        drop(kept);
        assert_eq!(undone.load(Ordering::Relaxed), 11);
    }
}
