//! Looks whether subscribers missed the end: a publication that was lost shows by the next one, the last does not.

use std::rc::Rc;

use super::Shard;
use crate::broker::Range;

/// Channels that are looked at before the others of the shard have their turn.
const CHANNELS_PER_TURN: usize = 64;

impl Shard {
    /// Compares where subscribers are with what was the top of their history at the look before. What was
    /// published since may still be on its way.
    pub(super) async fn check_positions(&self) {
        let tracked = self.hub.borrow().tracked();
        for (index, (key, channel, meta_ttl)) in tracked.into_iter().enumerate() {
            if index % CHANNELS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
            let range = Range { limit: Some(0), ..Range::default() };
            // Without an answer nothing is known; the next look comes.
            let Ok(history) = self.node.history(&channel, range, meta_ttl).await else { continue };
            if self.inbox().has_undelivered() {
                // What is on its way is not missed; the next look comes.
                continue;
            }
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
