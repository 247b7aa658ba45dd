//! Looks whether subscribers missed the end: a publication that was lost shows by the next one, the last does not.

use std::rc::Rc;

use super::Shard;
use crate::broker::Range;

impl Shard {
    /// Compares where subscribers are with what was the top of their history at the look before. What was
    /// published since may still be on its way.
    pub(super) async fn check_positions(&self) {
        let tracked = self.hub.borrow().tracked();
        for (key, channel) in tracked {
            let range = Range { limit: Some(0), ..Range::default() };
            let meta_ttl = self.settings.history_meta_ttl;
            // Without an answer nothing is known; the next look comes.
            let Ok(history) = self.node.history(&channel, range, meta_ttl).await else { continue };
            self.hub.borrow_mut().check(key, &channel, history.top, |connection| self.lose(connection, key));
        }
    }
}

/// Looks for ever, twice in each interval: what is missed is seen by the second look.
pub(super) async fn run(shard: Rc<Shard>) {
    let interval = shard.settings.position_check_interval;
    if interval.is_zero() {
        return;
    }
    let mut looks = tokio::time::interval(interval / 2);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        shard.check_positions().await;
    }
}
