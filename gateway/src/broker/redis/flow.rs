//! One channel on its way from Redis to the node: in order, once, and without a hole that nobody is told of.
//!
//! A flow knows up to where everything was delivered. What does not go on from there shows that something was missed;
//! then what comes is held, what is missing is read from the history once for the node, and delivery goes on where it
//! stopped. It does no I/O: it says what is to be read and is told what was found.
//!
//! What was delivered it remembers for a while, in a [`window`](super::window).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::window::Window;
use crate::broker::{History, Range, Receiver};
use crate::model::{Channel, Epoch, Notice, Position, Publication};

/// Most bytes that are held of a channel while its history is read; above it they are read too.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Most publications of a new epoch that are delivered although they were made before anybody here heard of it: whoever
/// follows the history begins anew, the others miss nothing that is still there.
const EARLIER_MAX: u64 = 512;

/// See the module's doc.
#[derive(Debug)]
pub(super) struct Flow {
    channel: Channel,
    /// Nothing up to here is missing: it was delivered, or was there before anybody followed the history and may still
    /// come. `None` as long as nobody follows it.
    position: Option<Position>,
    /// Of the position's epoch, the last offset that was delivered.
    delivered: u64,
    state: State,
    /// What ends at the position; of its epoch. `None` as long as nothing is kept or known of a history: most channels
    /// have none.
    window: Option<Box<Window>>,
    /// What is not above this was removed from the history, and may still come.
    removed_to: Option<Box<Position>>,
    /// Which confirmation made its subscription live; `None` until one did.
    confirmation: Option<Confirmation>,
}

/// That a subscription became live: no two are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Confirmation(pub(super) u64);

#[derive(Debug)]
enum State {
    Live,
    /// Something may be missing, and the history is being read.
    Healing {
        held: Vec<Run>,
        held_bytes: usize,
        /// Something came that was not held, or was missed since the reading began: it has to be read again.
        is_stale: bool,
    },
}

/// Publications that came together.
#[derive(Debug)]
struct Run {
    epoch: Epoch,
    publications: Vec<Arc<Publication>>,
}

/// What is to be done about a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Next {
    /// Nothing.
    Nothing,
    /// Its history is to be read after its [position](Flow::position); [`Flow::found`] is to be told.
    Read,
}

/// What came of healing a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Healed {
    /// So many publications were read and delivered.
    pub(super) publications: usize,
    /// Something was missing that is not there any more, and who follows the history is told.
    pub(super) is_lost: bool,
}

impl Flow {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            position: None,
            delivered: 0,
            state: State::Live,
            window: None,
            removed_to: None,
            confirmation: None,
        }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Up to where everything was delivered; `None` if nobody follows the history.
    pub(super) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Its subscription is live: what is published from now on comes, or is known to have been missed.
    pub(super) fn confirm(&mut self, confirmation: Confirmation) {
        self.confirmation = Some(confirmation);
        self.void_window();
    }

    /// The confirmation that counts for a read that begins now; see [`learn`](Self::learn).
    pub(super) fn confirmation(&self) -> Option<Confirmation> {
        self.confirmation
    }

    /// Bytes of what it remembers.
    pub(super) fn remembered_bytes(&self) -> usize {
        self.window.as_ref().map_or(0, |window| window.bytes())
    }

    /// Remembers no publication any more.
    pub(super) fn forget(&mut self) {
        if let Some(window) = &mut self.window {
            window.forget();
        }
    }

    /// Forgets what is too old.
    pub(super) fn forget_old(&mut self, now: Instant) {
        if let Some(window) = &mut self.window {
            window.forget_old(now);
        }
    }

    /// The history was removed when its top was `top`: nothing of that is remembered, also what still comes. `None`:
    /// nothing at all.
    pub(super) fn remove(&mut self, top: Option<&Position>) {
        let is_ours = |top: &&Position| self.position.as_ref().is_none_or(|now| now.epoch == top.epoch);
        let offset = top.filter(is_ours).map_or(u64::MAX, |top| top.offset);
        self.window.get_or_insert_default().remove(offset);
        self.removed_to = top.cloned().map(Box::new);
    }

    /// Nothing of what is remembered counts any more.
    fn void_window(&mut self) {
        let epoch = self.position.as_ref().map(|position| &position.epoch);
        let removed_to = self.removed_to.as_ref().filter(|removed_to| Some(&removed_to.epoch) == epoch);
        self.window = removed_to.map(|removed_to| {
            let mut window = Box::<Window>::default();
            window.remove(removed_to.offset);
            window
        });
    }

    /// Somebody read `range` of the history, and `history` is what was found. `began`: the confirmation that counted
    /// when the read began.
    pub(super) fn learn(
        &mut self,
        began: Option<Confirmation>,
        range: &Range,
        history: &History,
        now: Instant,
    ) {
        let Some(position) = &self.position else { return };
        let is_after_confirmation = began.is_some() && began == self.confirmation;
        if !is_after_confirmation || position.epoch != history.top.epoch {
            return;
        }
        let publications = if range.reverse { &[] } else { &history.publications[..] };
        let window = self.window.get_or_insert_default();
        window.learn(publications, history.top.offset, position.offset, now);
    }

    /// `range` of the history for a subscriber that is registered, up to the position; `None` if it has to be read.
    ///
    /// `epoch` is that of the offset in `range`, as the subscriber knows it; empty: any. Nothing is answered if nothing
    /// came and was read for `age_max`.
    pub(super) fn answer(
        &mut self,
        epoch: &str,
        range: &Range,
        age_max: Duration,
        now: Instant,
    ) -> Option<History> {
        let position = self.position.as_ref()?;
        let is_ours = epoch.is_empty() || epoch == position.epoch.as_str();
        if !is_ours || self.is_healing() {
            return None;
        }
        let publications = self.window.as_mut()?.read(range, position.offset, age_max, now)?;
        Some(History { top: position.clone(), publications })
    }

    pub(super) fn notice(&self, notice: &Notice, receiver: &dyn Receiver) {
        receiver.announce(&self.channel, notice);
    }

    /// Publications came that are in no history.
    pub(super) fn pass(&self, publications: &[Arc<Publication>], receiver: &dyn Receiver) {
        receiver.deliver(&self.channel, None, publications);
    }

    /// Publications came, one after another in the history of `epoch`.
    pub(super) fn arrive(
        &mut self,
        epoch: Epoch,
        publications: Vec<Arc<Publication>>,
        receiver: &dyn Receiver,
    ) -> Next {
        let run = match self.deliver(Run { epoch, publications }, receiver) {
            Ok(()) => return Next::Nothing,
            Err(ahead) => ahead,
        };
        let State::Healing { held, held_bytes, is_stale } = &mut self.state else {
            return self.heal(vec![run]);
        };
        *held_bytes += run.cost_bytes();
        if *held_bytes > HELD_BYTES_MAX {
            // All that is missing is in the history: also what was held.
            (*held, *is_stale) = (Vec::new(), true);
        } else {
            held.push(run);
        }
        Next::Nothing
    }

    /// Delivers what goes on from the position; gives back what is ahead of it.
    fn deliver(&mut self, mut run: Run, receiver: &dyn Receiver) -> Result<(), Run> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let mut offset = last;
        if let Some(position) = &self.position
            && position.epoch == run.epoch
        {
            if first > position.offset + 1 {
                return Err(run);
            }
            run.publications.retain(|publication| publication.offset > self.delivered);
            if run.publications.is_empty() {
                return Ok(());
            }
            offset = last.max(position.offset);
        }
        self.forget_held_of_others(&run.epoch);
        // Of another epoch: nothing that was delivered before goes on, as its receivers see by the epoch.
        receiver.deliver(&self.channel, Some(&run.epoch), &run.publications);
        self.move_to(Position { epoch: run.epoch, offset }, last);
        self.window.get_or_insert_default().push(&run.publications, Instant::now());
        Ok(())
    }

    fn move_to(&mut self, position: Position, delivered: u64) {
        let is_other = self.position.as_ref().is_some_and(|before| before.epoch != position.epoch);
        self.position = Some(position);
        self.delivered = delivered;
        if is_other {
            self.void_window();
        }
    }

    /// What is held of another epoch than this, which is the one of now, must not come after it.
    fn forget_held_of_others(&mut self, epoch: &Epoch) {
        if let State::Healing { held, .. } = &mut self.state {
            held.retain(|run| run.epoch == *epoch);
        }
    }

    /// Something may have been missed: what comes from now on and does not go on from the position is held until the
    /// history was read.
    pub(super) fn suspect(&mut self) -> Next {
        match &mut self.state {
            // Nobody follows the history, so nothing of it is missed.
            State::Live if self.position.is_none() => Next::Nothing,
            State::Live => self.heal(Vec::new()),
            State::Healing { is_stale, .. } => {
                *is_stale = true;
                Next::Nothing
            }
        }
    }

    fn heal(&mut self, held: Vec<Run>) -> Next {
        let held_bytes = held.iter().map(Run::cost_bytes).sum();
        self.state = State::Healing { held, held_bytes, is_stale: false };
        Next::Read
    }

    /// Somebody read the top of the history for a subscriber, which will follow it from there or from before.
    ///
    /// `is_old`: something may have been missed since it was asked for.
    pub(super) fn observe(&mut self, top: &Position, is_old: bool) -> Next {
        match &self.position {
            None => {
                self.position = Some(top.clone());
                if is_old { self.suspect() } else { Next::Nothing }
            }
            // What is above the position may be on its way. Another epoch cannot be.
            Some(position) if position.epoch == top.epoch => Next::Nothing,
            Some(_) => self.suspect(),
        }
    }

    /// Whether something is missing up to `top`, which was read a while ago.
    pub(super) fn lags(&self, top: &Position) -> bool {
        let is_behind = |position: &Position| position.epoch == top.epoch && position.offset < top.offset;
        matches!(self.state, State::Live) && self.position.as_ref().is_some_and(is_behind)
    }

    /// The history, read strictly after `since`, which was the position then, and perhaps not to its end. Delivers
    /// what was missing and what was held, and says what came of it and whether more has to be read.
    pub(super) fn found(
        &mut self,
        since: &Position,
        history: History,
        receiver: &dyn Receiver,
    ) -> (Healed, Next) {
        let Some(position) = self.position.clone() else { return (Healed::default(), Next::Nothing) };
        if position.epoch != since.epoch {
            return (Healed::default(), Next::Read);
        }
        let History { top, mut publications } = history;
        if top.epoch == position.epoch {
            // Some of it may have come meanwhile.
            publications.retain(|publication| publication.offset > position.offset);
        }
        let mut healed = Healed { publications: publications.len(), is_lost: false };
        if top.epoch != position.epoch {
            // What was read is of no use: it began at a place of the old epoch.
            let offset = top.offset.saturating_sub(EARLIER_MAX);
            let begun = Position { epoch: top.epoch, offset };
            self.lose_to(begun, receiver);
            let next = if top.offset > offset { Next::Read } else { self.go_on(receiver) };
            return (Healed { publications: 0, is_lost: true }, next);
        }
        if !goes_on(&position, &top, &publications) {
            let resumed = self.resume(&top, &publications);
            self.lose_to(resumed, receiver);
            healed.is_lost = true;
        }
        let is_all = publications.last().is_none_or(|last| last.offset >= top.offset);
        // It begins right after the position, as was just seen or brought about.
        let delivered = self.deliver(Run { epoch: top.epoch, publications }, receiver);
        if delivered.is_ok() && is_all { (healed, self.go_on(receiver)) } else { (healed, Next::Read) }
    }

    /// What is missing up to `place` will not come.
    fn lose_to(&mut self, place: Position, receiver: &dyn Receiver) {
        receiver.lose(&self.channel, &place);
        self.forget_held_of_others(&place.epoch);
        let delivered = place.offset;
        self.move_to(place, delivered);
        self.void_window();
    }

    /// From where there is something to deliver, when what comes before is lost.
    fn resume(&self, top: &Position, publications: &[Arc<Publication>]) -> Position {
        let read = publications.first().map(|first| first.offset);
        let held = match &self.state {
            State::Healing { held, .. } => {
                held.iter().find(|run| run.epoch == top.epoch).and_then(Run::first)
            }
            State::Live => None,
        };
        let offset = read.or(held).map_or(top.offset, |first| first.saturating_sub(1).min(top.offset));
        Position { epoch: top.epoch.clone(), offset }
    }

    /// Whether its history has to be read.
    pub(super) fn is_healing(&self) -> bool {
        matches!(self.state, State::Healing { .. })
    }

    /// `top` is the top of the history. `None` if that is not the position: then it has to be
    /// read. A position above it may have come meanwhile, or be of a history that has lost its end.
    pub(super) fn compare(&mut self, top: &Position, receiver: &dyn Receiver) -> Option<Next> {
        (self.position.as_ref() == Some(top)).then(|| self.go_on(receiver))
    }

    /// Nothing is missing up to the position: delivers what was held.
    fn go_on(&mut self, receiver: &dyn Receiver) -> Next {
        let State::Healing { held, is_stale, .. } = std::mem::replace(&mut self.state, State::Live) else {
            return Next::Nothing;
        };
        if is_stale {
            return self.heal(held);
        }
        self.delivered = self.position.as_ref().map_or(0, |position| position.offset);
        let mut held = held.into_iter();
        while let Some(run) = held.next() {
            if let Err(ahead) = self.deliver(run, receiver) {
                return self.heal(std::iter::once(ahead).chain(held).collect());
            }
        }
        Next::Nothing
    }
}

/// Whether `publications`, read after `position`, go on from there, and nothing is missing if there are none.
fn goes_on(position: &Position, top: &Position, publications: &[Arc<Publication>]) -> bool {
    let next = publications.first().map(|first| first.offset);
    position.epoch == top.epoch
        && match next {
            Some(next) => next == position.offset + 1,
            None => position.offset >= top.offset,
        }
}

impl Run {
    fn first(&self) -> Option<u64> {
        self.publications.first().map(|publication| publication.offset)
    }

    fn last(&self) -> Option<u64> {
        self.publications.last().map(|publication| publication.offset)
    }

    fn cost_bytes(&self) -> usize {
        self.publications.iter().map(|publication| publication.cost_bytes()).sum()
    }
}

#[cfg(test)]
mod herd;
#[cfg(test)]
mod tests;
