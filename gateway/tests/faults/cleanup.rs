//! What a run changes on the machine and must not leave behind: processes, firewall rules, directories.
//!
//! Each change is undone when its [`Undo`] is dropped; [`everything`] is for the ends at which nothing is dropped.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::Result;
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

/// A directory that is gone when it is dropped, with all that is in it.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// An empty one; `name` is unique within this run.
    pub(crate) fn make(name: &str) -> Result<Self> {
        let name = format!("faults-{}-{name}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// It stays, for whoever wants to know what went wrong.
    pub(crate) fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Deref for Directory {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            drop(fs::remove_dir_all(&self.0));
        }
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
            Undo::by(move || {
                undone.fetch_add(by, Ordering::Relaxed);
            })
        };
        count(100).forget();
        let kept = count(1);
        drop(count(10));
        assert_eq!(undone.load(Ordering::Relaxed), 10);
        drop(kept);
        assert_eq!(undone.load(Ordering::Relaxed), 11);
    }
}
