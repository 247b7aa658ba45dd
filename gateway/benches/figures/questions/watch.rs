//! A publisher and two subscribers that go on whatever happens, and what became of each publication.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use serde::Serialize;

use crate::api::Api;
use crate::cluster::{KEPT, PLAIN};
use crate::server::Server;
use crate::visitor::Visitor;

/// Between two publications.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a subscriber waits before it looks whether all is over.
const PATIENCE: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(1);

/// See the module's doc.
#[derive(Debug, Default)]
pub(super) struct Watch {
    is_over: AtomicBool,
    published: Mutex<Vec<u64>>,
    plain: Mutex<Vec<Event>>,
    kept: Mutex<Vec<Event>>,
}

/// What a subscriber saw.
#[derive(Clone, Copy, Debug)]
enum Event {
    Delivery(u64, Instant),
    /// It was told that it misses something, and began anew.
    Told,
}

/// What became of the publications that were answered with success.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) published: usize,
    /// In the channel with a history: neither delivered, nor was its subscriber told.
    pub(super) lost: usize,
    /// In both channels: came twice.
    pub(super) repeated: usize,
    /// In both channels: came after a later one.
    pub(super) late: usize,
    /// How often the subscriber of the channel with a history had to begin anew.
    pub(super) told: usize,
    /// In the channel without a history, which promises nothing: not delivered.
    pub(super) missed: usize,
}

fn channel(namespace: &str) -> String {
    format!("{namespace}watched")
}

impl Watch {
    /// Publishes at one node and subscribes at another, until [`end`](Self::end).
    pub(super) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        publishing: &'scope Server,
        receiving: &'scope Server,
    ) -> Result<[ScopedJoinHandle<'scope, Result<()>>; 3]> {
        let subscribe = |namespace: &str, user| Subscriber::connect(receiving, channel(namespace), user);
        let (plain, kept) = (subscribe(PLAIN, 1)?, subscribe(KEPT, 2)?);
        Ok([
            scope.spawn(move || self.listen(plain, &self.plain)),
            scope.spawn(move || self.listen(kept, &self.kept)),
            scope.spawn(move || self.publish(&publishing.api())),
        ])
    }

    /// Ends what [`start`](Self::start) began.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// The next delivery from now on in the channel without a history.
    pub(super) fn next_delivery(&self, limit: Duration) -> Result<Instant> {
        next(&self.plain, limit).context("in the channel without a history")
    }

    /// The same in the channel with one.
    pub(super) fn next_kept_delivery(&self, limit: Duration) -> Result<Instant> {
        next(&self.kept, limit).context("in the channel with a history")
    }

    pub(super) fn verdict(&self) -> Verdict {
        let published = self.published.lock();
        let (plain, kept) = (self.plain.lock(), self.kept.lock());
        let plain_of_known = of_known(&plain, &published);
        let kept_of_known = of_known(&kept, &published);
        Verdict {
            published: published.len(),
            lost: undelivered(&published, &kept_of_known, true),
            repeated: twice(&plain) + twice(&kept),
            late: late(&plain_of_known) + late(&kept_of_known),
            told: kept.iter().filter(|event| matches!(event, Event::Told)).count(),
            missed: undelivered(&published, &plain_of_known, false),
        }
    }

    /// Publishes one number after another in both channels, and notes those that were answered with success.
    fn publish(&self, api: &Api) -> Result<()> {
        let channels = [PLAIN, KEPT].map(channel);
        let mut number = 0;
        while !self.is_over() {
            number += 1;
            // That some are refused is what an outage is about.
            if api.publish_each(&channels, number).is_ok() {
                self.published.lock().push(number);
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Notes what comes; begins anew whenever it is told to.
    fn listen(&self, mut subscriber: Subscriber<'_>, events: &Mutex<Vec<Event>>) -> Result<()> {
        loop {
            match subscriber.next() {
                Ok(Some(number)) => events.lock().push(Event::Delivery(number, Instant::now())),
                Ok(None) if self.is_over() => return Ok(()),
                Ok(None) => {}
                Err(_) => {
                    events.lock().push(Event::Told);
                    while subscriber.begin_anew().is_err() && !self.is_over() {
                        thread::sleep(PAUSE);
                    }
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// A client with one subscription.
struct Subscriber<'a> {
    server: &'a Server,
    channel: String,
    user: u32,
    visitor: Visitor,
}

impl<'a> Subscriber<'a> {
    fn connect(server: &'a Server, channel: String, user: u32) -> Result<Self> {
        let visitor = Visitor::subscribe(server, user, &channel)?;
        Ok(Self { server, channel, user, visitor })
    }

    /// The number of the next publication, if one comes soon.
    ///
    /// # Errors
    /// The subscription or the connection was ended.
    fn next(&mut self) -> Result<Option<u64>> {
        let Some(push) = self.visitor.push_within(PATIENCE)? else { return Ok(None) };
        let number = push["pub"]["data"]["seq"].as_str().context("the subscription was ended")?;
        Ok(Some(number.parse()?))
    }

    fn begin_anew(&mut self) -> Result<()> {
        self.visitor = Visitor::subscribe(self.server, self.user, &self.channel)?;
        Ok(())
    }
}

/// Waits for a delivery that comes from now on.
fn next(events: &Mutex<Vec<Event>>, limit: Duration) -> Result<Instant> {
    let (seen, deadline) = (events.lock().len(), Instant::now() + limit);
    while Instant::now() < deadline {
        let delivery = events.lock().iter().skip(seen).find_map(|event| match event {
            Event::Delivery(_, at) => Some(*at),
            Event::Told => None,
        });
        if let Some(at) = delivery {
            return Ok(at);
        }
        thread::sleep(POLL);
    }
    bail!("nothing is delivered within {} s", limit.as_secs())
}

/// Without the deliveries of publications that were not answered with success: what was sent on a connection that was
/// cut may reach Redis long after, and nobody has to expect it in its place.
fn of_known(events: &[Event], published: &[u64]) -> Vec<Event> {
    let is_known = |event: &&Event| match event {
        Event::Delivery(number, _) => published.binary_search(number).is_ok(),
        Event::Told => true,
    };
    events.iter().filter(is_known).copied().collect()
}

fn numbers(events: &[Event]) -> impl Iterator<Item = u64> {
    events.iter().filter_map(|event| match event {
        Event::Delivery(number, _) => Some(*number),
        Event::Told => None,
    })
}

/// How many deliveries came twice.
fn twice(events: &[Event]) -> usize {
    let mut seen = HashSet::new();
    numbers(events).filter(|number| !seen.insert(*number)).count()
}

/// How many deliveries came after a later one.
fn late(events: &[Event]) -> usize {
    let mut last = 0;
    let mut is_late = |number: u64| {
        let is_late = number < last;
        last = last.max(number);
        is_late
    };
    numbers(events).filter(|number| is_late(*number)).count()
}

/// How many of `published` were not delivered; those before and after which the subscriber was told so do not count
/// if `is_told_enough`.
fn undelivered(published: &[u64], events: &[Event], is_told_enough: bool) -> usize {
    let count = |gap: Range<u64>| published.iter().filter(|number| gap.contains(number)).count();
    let (mut next, mut is_told, mut missing) = (1, false, 0);
    for event in events {
        match event {
            Event::Told => is_told = is_told_enough,
            Event::Delivery(number, _) => {
                missing += if is_told { 0 } else { count(next..*number) };
                (next, is_told) = (number + 1, false);
            }
        }
    }
    missing + if is_told { 0 } else { count(next..u64::MAX) }
}
