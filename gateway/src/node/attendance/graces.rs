//! Ends the graces of those who do not come back, for all workers of a node.
//!
//! Who lingers is known to the presence alone, so a crowd that lingers takes no memory here, and no timer each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::model::Tenure;
use crate::presence::Presence;

/// Least time between two looks: of many who were lost one after another several are taken out at once.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How soon a look that failed is taken again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What the workers tell whoever ends the graces.
#[derive(Debug, Default)]
pub(super) struct Graces {
    /// When somebody's may be over; `None` if nobody lingers.
    next: Mutex<Option<Instant>>,
    sooner: Notify,
    doubts: AtomicUsize,
}

/// It is not known whether somebody lingers. While it lives nobody's grace ends: the presence would forget whose place was
/// taken, and so could not say any more that this one's was.
#[derive(Debug)]
pub(super) struct Doubt(Arc<Graces>);

impl Drop for Doubt {
    fn drop(&mut self) {
        self.0.doubts.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Graces {
    /// The grace of somebody is over at `over`.
    pub(super) fn begin(&self, over: Instant) {
        let mut next = self.next.lock();
        if next.is_none_or(|next| over < next) {
            *next = Some(over);
            self.sooner.notify_one();
        }
    }

    pub(super) fn doubt(self: &Arc<Self>) -> Doubt {
        self.doubts.fetch_add(1, Ordering::SeqCst);
        Doubt(Arc::clone(self))
    }

    /// Takes out those of this node whose grace is over, for ever. What is left under an earlier tenure, whoever cleared up
    /// after that sees to.
    pub(super) fn end(
        self: &Arc<Self>,
        presence: Arc<dyn Presence>,
        tenure: watch::Receiver<Tenure>,
    ) -> impl Future<Output = ()> + use<> {
        let graces = Arc::clone(self);
        async move {
            loop {
                graces.is_time().await;
                if let Some(rest) = graces.look(&*presence, &tenure).await {
                    graces.begin(Instant::now() + rest);
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        }
    }

    /// Waits until somebody's may be over.
    async fn is_time(&self) {
        loop {
            let next = *self.next.lock();
            let is_time = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = is_time => break,
                () = self.sooner.notified() => {}
            }
        }
        // Before the look: who begins from now on wants another.
        *self.next.lock() = None;
    }

    /// Answers after how long to look again; `None` if nobody lingers.
    async fn look(&self, presence: &dyn Presence, tenure: &watch::Receiver<Tenure>) -> Option<Duration> {
        let Some(owner) = tenure.borrow().held() else { return Some(RETRY_DELAY) };
        if self.doubts.load(Ordering::SeqCst) > 0 {
            return Some(RETRY_DELAY);
        }
        match presence.expire(owner).await {
            Ok(rest) => rest,
            Err(error) => {
                tracing::debug!(%error, "could not take out who did not come back; it is tried again");
                Some(RETRY_DELAY)
            }
        }
    }
}
