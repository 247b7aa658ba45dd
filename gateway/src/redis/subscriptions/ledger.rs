//! Which Redis channels are wanted, and which are known to be heard.
//!
//! What is wanted is written down here; the supervisor makes the connection follow, in batches. Only a confirmation
//! of the server makes a channel live.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;

/// The name of a Redis channel.
pub(super) type Name = Arc<str>;

/// What is known of one Redis channel.
#[derive(Debug, Default)]
struct Line {
    is_wanted: bool,
    /// What the server was last told on this connection.
    told: Told,
    /// Its confirmation came.
    is_confirmed: bool,
    /// It was wanted when the connection was opened.
    is_due: bool,
    /// Who waits until what is wanted is so.
    waiters: Vec<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    /// Nothing.
    #[default]
    Nothing,
    Subscribe,
    Unsubscribe,
}

/// See the module's doc.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lines: HashMap<Name, Line>,
    /// Those for which the server was told something else than what is wanted.
    changed: HashSet<Name>,
    /// Wanted since the connection was opened, and not confirmed. What is wanted later does not count: others come all the
    /// time.
    unconfirmed: usize,
}

/// What the server is to be told next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) subscribe: Vec<Name>,
    pub(super) unsubscribe: Vec<Name>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

impl Ledger {
    /// How many channels are wanted, or not given up by the server yet.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// `name` is wanted from now on. The receiver hears when it is live; `None` if it is.
    pub(super) fn want(&mut self, name: &str) -> Option<oneshot::Receiver<()>> {
        let name = self.known(name);
        let line = self.lines.entry(Arc::clone(&name)).or_default();
        if !std::mem::replace(&mut line.is_wanted, true) {
            // What they wait for, who did not want it any more, will not come.
            line.waiters.clear();
        }
        if line.told == Told::Subscribe {
            self.changed.remove(&name);
        } else {
            self.changed.insert(name);
        }
        (!line.is_confirmed).then(|| wait(line))
    }

    /// `name` is not wanted any more. The receiver hears when nothing of it comes any more; `None` if that is so.
    pub(super) fn drop_interest(&mut self, name: &str) -> Option<oneshot::Receiver<()>> {
        let name = self.known(name);
        let line = self.lines.get_mut(&name)?;
        if std::mem::replace(&mut line.is_wanted, false) {
            line.waiters.clear();
            self.unconfirmed -= usize::from(std::mem::take(&mut line.is_due));
        }
        match line.told {
            Told::Nothing => {
                self.lines.remove(&name);
                self.changed.remove(&name);
                return None;
            }
            Told::Subscribe => drop(self.changed.insert(name)),
            Told::Unsubscribe => drop(self.changed.remove(&name)),
        }
        Some(wait(line))
    }

    /// There is a new connection, on which nothing was said.
    pub(super) fn start_anew(&mut self) {
        self.changed.clear();
        self.unconfirmed = 0;
        self.lines.retain(|name, line| {
            (line.told, line.is_confirmed) = (Told::Nothing, false);
            line.is_due = line.is_wanted;
            if line.is_wanted {
                self.changed.insert(Arc::clone(name));
                self.unconfirmed += 1;
            } else {
                // The connection on which it could have come is gone.
                line.waiters.drain(..).for_each(hear);
            }
            line.is_wanted
        });
    }

    /// Takes up to `count` of what the server has to be told.
    pub(super) fn next_batch(&mut self, count: usize) -> Batch {
        let names: Vec<Name> = self.changed.iter().take(count).cloned().collect();
        let mut batch = Batch::default();
        for name in names {
            self.changed.remove(&name);
            let Some(line) = self.lines.get_mut(&name) else { continue };
            if line.is_wanted {
                line.told = Told::Subscribe;
                batch.subscribe.push(name);
            } else {
                (line.told, line.is_confirmed) = (Told::Unsubscribe, false);
                batch.unsubscribe.push(name);
            }
        }
        batch
    }

    /// The server confirmed the subscription.
    pub(super) fn subscribed(&mut self, name: &[u8]) {
        let Ok(name) = str::from_utf8(name) else { return };
        let Some(line) = self.lines.get_mut(name) else { return };
        // The server is told one thing after the other, each when the one before is confirmed.
        if line.told == Told::Subscribe && !std::mem::replace(&mut line.is_confirmed, true) && line.is_wanted
        {
            line.waiters.drain(..).for_each(hear);
            self.unconfirmed -= usize::from(std::mem::take(&mut line.is_due));
        }
    }

    /// The server confirmed the end of the subscription, or ended it by itself.
    pub(super) fn unsubscribed(&mut self, name: &[u8]) {
        let Ok(name) = str::from_utf8(name) else { return };
        let Some(line) = self.lines.get_mut(name) else { return };
        if line.is_wanted {
            // It was wanted again meanwhile, and will be told after this.
            if line.told == Told::Unsubscribe {
                line.told = Told::Nothing;
            }
            return;
        }
        line.waiters.drain(..).for_each(hear);
        self.lines.remove(name);
        self.changed.remove(name);
    }

    /// Whether everything is live that was wanted when the connection was opened.
    pub(super) fn is_settled(&self) -> bool {
        self.unconfirmed == 0
    }

    fn known(&self, name: &str) -> Name {
        self.lines.get_key_value(name).map_or_else(|| Name::from(name), |(known, _)| Arc::clone(known))
    }
}

fn wait(line: &mut Line) -> oneshot::Receiver<()> {
    let (waiter, heard) = oneshot::channel();
    // Who gave up need not be told.
    line.waiters.retain(|waiter| !waiter.is_closed());
    line.waiters.push(waiter);
    heard
}

fn hear(waiter: oneshot::Sender<()>) {
    // Who gave up need not be told.
    let _gone = waiter.send(());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(subscribe: &[&str], unsubscribe: &[&str]) -> Batch {
        let names = |names: &[&str]| names.iter().map(|name| Name::from(*name)).collect();
        Batch { subscribe: names(subscribe), unsubscribe: names(unsubscribe) }
    }

    fn is_told(waiter: &mut oneshot::Receiver<()>) -> bool {
        waiter.try_recv().is_ok()
    }

    #[test]
    fn only_a_confirmation_makes_a_channel_live() {
        let mut ledger = Ledger::default();
        let (mut first, mut second) = (ledger.want("a").unwrap(), ledger.want("a").unwrap());
        assert_eq!(ledger.next_batch(9), batch(&["a"], &[]));
        assert!(ledger.next_batch(9).is_empty());
        assert!(!is_told(&mut first));
        ledger.subscribed(b"b");
        ledger.subscribed(b"a");
        assert!(is_told(&mut first) && is_told(&mut second) && ledger.is_settled());
        assert!(ledger.want("a").is_none());
    }

    #[test]
    fn a_new_connection_is_told_everything_again() {
        let mut ledger = Ledger::default();
        drop(ledger.want("a"));
        drop(ledger.want("b"));
        ledger.next_batch(9);
        ledger.subscribed(b"a");
        ledger.subscribed(b"b");
        let mut end = ledger.drop_interest("b").unwrap();
        ledger.start_anew();
        assert!(is_told(&mut end), "what could have come is gone");
        assert!(!ledger.is_settled());
        assert_eq!(ledger.next_batch(9), batch(&["a"], &[]));
        ledger.subscribed(b"a");
        assert!(ledger.is_settled());
    }

    #[test]
    fn who_changes_its_mind_while_the_server_is_told_gets_what_it_wants_in_the_end() {
        let mut ledger = Ledger::default();
        drop(ledger.want("a"));
        ledger.next_batch(9);
        let mut end = ledger.drop_interest("a").unwrap();
        let mut again = ledger.want("a").unwrap();
        assert!(end.try_recv().is_err());
        // What was told is what is wanted again.
        assert!(ledger.next_batch(9).is_empty());
        ledger.subscribed(b"a");
        assert!(is_told(&mut again));
        drop(ledger.drop_interest("a"));
        assert!(ledger.want("a").is_none(), "it has been live all the time");

        let mut end = ledger.drop_interest("a").unwrap();
        assert_eq!(ledger.next_batch(9), batch(&[], &["a"]));
        let mut again = ledger.want("a").unwrap();
        assert_eq!(ledger.next_batch(9), batch(&["a"], &[]));
        ledger.unsubscribed(b"a");
        assert!(!is_told(&mut again) && !is_told(&mut end));
        ledger.subscribed(b"a");
        assert!(is_told(&mut again) && ledger.is_settled());
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten_when_it_cannot_come_any_more() {
        let mut ledger = Ledger::default();
        drop(ledger.want("a"));
        assert!(ledger.drop_interest("a").is_none(), "the server was never told");
        drop(ledger.want("a"));
        ledger.next_batch(9);
        ledger.subscribed(b"a");
        let mut end = ledger.drop_interest("a").unwrap();
        assert_eq!(ledger.next_batch(9), batch(&[], &["a"]));
        let mut also = ledger.drop_interest("a").unwrap();
        ledger.unsubscribed(b"a");
        assert!(is_told(&mut end) && is_told(&mut also));
        assert!(ledger.lines.is_empty() && ledger.is_settled() && ledger.drop_interest("a").is_none());
    }

    #[test]
    fn batches_are_bounded() {
        let mut ledger = Ledger::default();
        for index in 0..1_000 {
            drop(ledger.want(&index.to_string()));
        }
        assert_eq!(ledger.next_batch(512).subscribe.len(), 512);
        assert_eq!(ledger.next_batch(512).subscribe.len(), 488);
    }
}
