//! One thread of a load: its clients, which are tasks, and one read buffer for all of them.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use super::client::Client;
use super::engine::Shared;
use super::findings::{CONNECT_TIME, DELAY, Findings, Times};
use super::heard::{Heard, Numbering};
use super::published::Published;
use super::settings::LoadSettings;
use super::stamp::Stamp;
use super::talk::Talk;
use super::tally::{Event, Tally};
use super::trouble::Trouble;
use crate::outcome::distribution::Distribution;

const READ_BUFFER_BYTES: usize = 64 * 1024;
const TELL_INTERVAL: Duration = Duration::from_secs(1);
/// What a thread of the load has, and what its clients found. Everything of it is used on its thread only.
#[derive(Debug)]
pub struct Thread {
    index: usize,
    shared: Arc<Shared>,
    tally: Arc<Tally>,
    clients: RefCell<Vec<Rc<Client>>>,
    tasks: RefCell<JoinSet<()>>,
    findings: RefCell<Findings>,
    talk: RefCell<Talk>,
    buffer: RefCell<Box<[u8]>>,
    /// Deliveries that were not added to those of all threads yet.
    unflushed: Cell<u64>,
}

impl Thread {
    pub(super) fn new(index: usize, shared: Arc<Shared>, tally: Arc<Tally>) -> Self {
        Self {
            index,
            shared,
            tally,
            clients: RefCell::default(),
            tasks: RefCell::default(),
            findings: RefCell::default(),
            talk: RefCell::default(),
            buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into()),
            unflushed: Cell::new(0),
        }
    }

    /// What the load is made of.
    pub fn settings(&self) -> &LoadSettings {
        &self.shared.settings
    }

    /// The counts of this thread.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The name of a channel, by its number.
    ///
    /// # Panics
    /// If there is no such channel.
    pub fn channel(&self, number: u32) -> &str {
        &self.settings().channels[number as usize]
    }

    /// Nanoseconds since the start of the run.
    pub fn now_ns(&self) -> u64 {
        self.shared.clock.now_ns()
    }

    /// The clients of this thread, in the order in which they were made. A play may hold on to them.
    pub fn clients(&self) -> Vec<Rc<Client>> {
        self.clients.borrow().clone()
    }

    /// Whether client `number` belongs to this thread.
    pub fn owns(&self, number: u32) -> bool {
        number as usize % self.settings().threads == self.index
    }

    /// Makes a client that subscribes to `channels` when it [connects](Client::connect).
    pub fn client(self: &Rc<Self>, number: u32, channels: impl IntoIterator<Item = u32>) -> Rc<Client> {
        let client = Rc::new(Client::new(Rc::clone(self), number, channels));
        self.clients.borrow_mut().push(Rc::clone(&client));
        client
    }

    /// Runs a task of a client, or of a play, until it ends, or the load does.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(task);
    }

    /// Connects a client, and takes down how long that took, measured from when it was `due`; then listens until its
    /// connection ends, in a task of its own.
    ///
    /// # Errors
    /// It could not connect. That is counted already.
    pub async fn admit(self: &Rc<Self>, client: Rc<Client>, due: Instant) -> Result<(), Trouble> {
        match client.connect().await {
            Ok(()) => {
                self.took(CONNECT_TIME, due.elapsed());
                let thread = Rc::clone(self);
                self.spawn(async move {
                    let trouble = client.listen().await;
                    thread.ended(&client, &trouble);
                });
                Ok(())
            }
            Err(trouble) => {
                self.refused(&client, &trouble);
                Err(trouble)
            }
        }
    }

    /// Connects clients, each subscribed to the channel with its number, in turn. As many at a time as the settings say;
    /// client `first` is due at `start`. Who does not get in is counted.
    pub(super) async fn open(self: &Rc<Self>, first: u32, end: u32, start: Instant) {
        let channels = u32::try_from(self.settings().channels.len()).expect("channels are numbered");
        let numbers: Rc<RefCell<_>> = Rc::new(RefCell::new(first..end));
        let mut openers = JoinSet::new();
        for _ in 0..(self.settings().handshakes_max / self.settings().threads).max(1) {
            let (thread, numbers) = (Rc::clone(self), Rc::clone(&numbers));
            openers.spawn_local(async move {
                loop {
                    let next = numbers.borrow_mut().find(|number| thread.owns(*number));
                    let Some(number) = next else { return };
                    let due = thread.due(number - first, start).await;
                    let client = thread.client(number, number.checked_rem(channels));
                    if thread.admit(Rc::clone(&client), due).await.is_err() {
                        // It is counted, and the others go on. Who was never there is owed nothing.
                        thread.clients.borrow_mut().retain(|one| !Rc::ptr_eq(one, &client));
                    }
                }
            });
        }
        openers.join_all().await;
    }

    /// Waits until it is the turn of the client `turn`, and says when that was.
    async fn due(&self, turn: u32, start: Instant) -> Instant {
        let Some(rate) = self.settings().connects_per_second else { return Instant::now() };
        let due = start + Duration::from_secs_f64(f64::from(turn) / rate);
        sleep_until(due).await;
        due
    }

    /// A client could not connect.
    pub fn refused(&self, client: &Client, trouble: &Trouble) {
        if *trouble != Trouble::Left {
            self.tally.add(Event::Failed, 1);
            let target = self.settings().target(client.number());
            self.error(&trouble.kind(), || {
                format!("connecting client {} to {target}: {trouble}", client.number())
            });
        }
    }

    /// The connection of a client has ended.
    pub fn ended(&self, client: &Client, trouble: &Trouble) {
        if *trouble == Trouble::Left {
            return self.tally.add(Event::Left, 1);
        }
        self.tally.add(Event::Ended, 1);
        let mut findings = self.findings.borrow_mut();
        *findings.closings.entry(trouble.kind()).or_default() += 1;
        findings.wrong.say(format!("the connection of client {} ended: {trouble}", client.number()));
        self.shared.goal.disturb();
    }

    /// Something took so long, and it ended now.
    pub fn took(&self, what: &'static str, time: Duration) {
        self.took_at(what, Duration::from_nanos(self.now_ns()), time);
    }

    /// Something failed of which `kind` are counted, and the first of which are told in words.
    pub fn error(&self, kind: &str, words: impl FnOnce() -> String) {
        let mut findings = self.findings.borrow_mut();
        match findings.errors.get_mut(kind) {
            Some(count) => *count += 1,
            None => _ = findings.errors.insert(kind.to_owned(), 1),
        }
        findings.wrong.say(words());
    }

    /// Something is wrong, in words.
    pub(super) fn say(&self, words: impl FnOnce() -> String) {
        self.findings.borrow_mut().wrong.say(words());
    }

    pub(super) fn fault(&self, event: Event, count: u64, words: impl FnOnce() -> String) {
        self.tally.add(event, count);
        self.findings.borrow_mut().wrong.say(words());
    }

    pub(super) fn is_ours(&self, stamp: &Stamp) -> bool {
        stamp.run == self.shared.run
    }

    /// Of a subscription to this channel that begins now.
    pub(super) fn nothing_heard(&self, channel: u32) -> Heard {
        match self.settings().numbering {
            Numbering::Speakers => Heard::Speakers(BTreeMap::new()),
            Numbering::Channel => Heard::Channel(self.shared.nothing_seen(channel)),
        }
    }

    /// A publication came to a client for the first time.
    pub(super) fn delivered(&self, stamp: &Stamp, now_ns: u64) {
        self.tally.add(Event::Delivered, 1);
        self.unflushed.set(self.unflushed.get() + 1);
        let delay = Duration::from_nanos(now_ns.saturating_sub(stamp.at_ns));
        self.took_at(DELAY, Duration::from_nanos(stamp.at_ns), delay);
    }

    /// Tells whoever waits for deliveries of all threads; once for all of one read.
    pub(super) fn flush_deliveries(&self) {
        let count = self.unflushed.take();
        if count > 0 {
            self.shared.goal.add(count);
        }
    }

    pub(super) fn buffer(&self) -> RefMut<'_, Box<[u8]>> {
        self.buffer.borrow_mut()
    }

    /// Ends the connection of a client, and forgets it: it is owed nothing any more.
    pub fn dismiss(&self, client: &Rc<Client>) {
        client.leave();
        self.clients.borrow_mut().retain(|one| !Rc::ptr_eq(one, client));
    }

    /// Nobody need have this: it was not published, or nobody knows.
    pub fn doubt(&self, channel: u32, number: u64) {
        self.talk.borrow_mut().doubtful.insert((channel, number));
    }

    /// What clients published and the server refused: channel and number.
    pub fn doubtful(&self) -> Vec<(u32, u64)> {
        self.talk.borrow().doubtful.iter().copied().collect()
    }

    /// What clients published and the server has not answered yet: channel and number.
    pub fn unanswered(&self) -> Vec<(u32, u64)> {
        self.clients.borrow().iter().flat_map(|client| client.unanswered()).collect()
    }

    /// Hands over what clients said and heard.
    pub fn take_talk(&self) -> Talk {
        let unanswered = self.unanswered();
        let mut talk = self.talk.take();
        talk.doubtful.extend(unanswered);
        talk
    }

    pub(super) fn talk(&self) -> RefMut<'_, Talk> {
        self.talk.borrow_mut()
    }

    /// How long something took so far, by the name that it was [taken](Self::took) down by.
    pub fn distribution(&self, what: &str) -> Distribution {
        let findings = self.findings.borrow();
        findings.times.get(what).map_or_else(Distribution::of_times, |times| times.distribution.clone())
    }

    /// How many deliveries clients were not given of what was published, for sure.
    pub(super) fn missing(&self, published: &Published) -> u64 {
        let clients = self.clients.borrow();
        let of_each = clients.iter().map(|client| {
            let forgotten = client.forgotten(published);
            client.missing(published).len() as u64 + forgotten.iter().map(|(_, count)| count).sum::<u64>()
        });
        of_each.sum()
    }

    /// Takes down what a client was not given of what was published, for sure. For when it is not asked again.
    pub fn judge(&self, client: &Client, published: &Published) {
        let mut findings = self.findings.borrow_mut();
        let who = client.number();
        for (channel, number) in client.missing(published) {
            findings.lost += 1;
            let channel = self.channel(channel);
            findings.wrong.say(format!("client {who} was not given publication {number} of {channel}"));
        }
        for (channel, count) in client.forgotten(published) {
            findings.lost += count;
            let channel = self.channel(channel);
            findings.wrong.say(format!("client {who} was not given {count} more publications of {channel}"));
        }
    }

    /// [Judges](Self::judge) all clients, and hands over everything that was found.
    pub(super) fn judge_all(&self, published: &Published) -> Findings {
        self.clients.borrow().iter().for_each(|client| self.judge(client, published));
        self.findings.take()
    }

    /// Ends all connections and tasks.
    pub(super) async fn end(&self) {
        let mut tasks = self.tasks.take();
        tasks.shutdown().await;
        // They hold on to the thread, and the thread to them.
        self.clients.take();
    }

    /// Says again and again what the worst delays are, for whoever looks.
    pub(super) async fn tell_delays(self: Rc<Self>) {
        let mut interval = interval(TELL_INTERVAL);
        loop {
            interval.tick().await;
            let findings = self.findings.borrow();
            let p99 = findings.times.get(DELAY).map_or(0, |times| times.distribution.quantile(0.99));
            self.tally.set_p99(p99);
        }
    }

    fn took_at(&self, what: &'static str, at: Duration, time: Duration) {
        let mut findings = self.findings.borrow_mut();
        let times = findings.times.entry(what).or_insert_with(|| Times::new(self.shared.clock));
        times.distribution.record_time(time);
        times.timeline.record(at, time);
    }
}
