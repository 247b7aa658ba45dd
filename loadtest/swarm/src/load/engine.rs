//! The whole load: its threads, and what they do together.

use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::clock::LoadClock;
use super::findings::Findings;
use super::goal::Goal;
use super::published::Published;
use super::sequence::Sequence;
use super::settings::LoadSettings;
use super::tally::{Counts, Event, Tally};
use super::thread::Thread;
use super::trouble::Trouble;
use crate::outcome::distribution::Distribution;

/// Orders that wait for a thread; there are seldom two.
const JOBS_MAX: usize = 8;
/// How often clients are asked whether they have everything.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What a thread is told to do.
type Job = Box<dyn FnOnce(Rc<Thread>) + Send>;

/// What all threads know.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: LoadSettings,
    pub(super) clock: LoadClock,
    /// Tells the publications of this run from those of others.
    pub(super) run: u32,
    pub(super) goal: Goal,
    beginning: RwLock<Beginning>,
}

/// What a subscriber must be given first.
#[derive(Debug)]
enum Beginning {
    /// The first publication of its channel.
    First,
    /// Any: there are publications all the time.
    Any,
    /// The next one of its channel: there are none for a while. `None` where that is not known.
    Next(Vec<Option<u64>>),
}

impl Shared {
    /// The numbers of a subscriber to this channel that subscribes now.
    pub(super) fn nothing_seen(&self, channel: u32) -> Sequence {
        match &*self.beginning.read().unwrap_or_else(PoisonError::into_inner) {
            Beginning::First => Sequence::from(1),
            Beginning::Any => Sequence::anywhere(),
            Beginning::Next(next) => {
                let next = next.get(channel as usize).copied().flatten();
                next.map_or_else(Sequence::anywhere, Sequence::from)
            }
        }
    }

    fn begin(&self, beginning: Beginning) {
        *self.beginning.write().unwrap_or_else(PoisonError::into_inner) = beginning;
    }
}

/// Threads with clients. It lives on a runtime of its own, where plays are: what a play does costs clients nothing.
///
/// Dropping it ends all connections, and waits for the threads.
#[derive(Debug)]
pub struct Load {
    workers: Vec<Worker>,
    shared: Arc<Shared>,
    /// How many clients were opened; the next one has this number.
    opened: AtomicU32,
}

#[derive(Debug)]
struct Worker {
    /// `None` once it is to end.
    jobs: Option<mpsc::Sender<Job>>,
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts the threads. There are no clients yet.
    ///
    /// # Errors
    /// The system has no thread or no poller left.
    pub fn start(settings: LoadSettings) -> Result<Self> {
        ensure!(!settings.targets.is_empty() && settings.threads > 0, "a load needs a target and a thread");
        let shared = Arc::new(Shared {
            settings,
            clock: LoadClock::start(),
            run: rand::random(),
            goal: Goal::default(),
            beginning: RwLock::new(Beginning::First),
        });
        let workers = (0..shared.settings.threads).map(|index| Worker::start(index, &shared));
        Ok(Self { workers: workers.collect::<Result<_>>()?, shared, opened: AtomicU32::new(0) })
    }

    /// What it is made of.
    pub fn settings(&self) -> &LoadSettings {
        &self.shared.settings
    }

    /// Its time, by which publications are stamped.
    pub fn clock(&self) -> LoadClock {
        self.shared.clock
    }

    /// What tells the publications of this run from those of others.
    pub fn run(&self) -> u32 {
        self.shared.run
    }

    /// What was counted so far, by all threads. Cheap, and from any thread.
    pub fn counts(&self) -> Counts {
        self.workers.iter().map(|worker| &*worker.tally).collect()
    }

    /// A way to [`counts`](Self::counts) that can be sent elsewhere, such as to a display.
    pub fn counter(&self) -> impl Fn() -> Counts + Send + Sync + 'static {
        let tallies: Vec<Arc<Tally>> = self.workers.iter().map(|worker| Arc::clone(&worker.tally)).collect();
        move || tallies.iter().map(|tally| &**tally).collect()
    }

    /// Connects so many more clients, each subscribed to one channel, in turn, if there are any. Returns once each of
    /// them is connected or has failed; who failed is counted.
    ///
    /// The very first client goes alone.
    ///
    /// # Errors
    /// It cannot connect: nobody could.
    pub async fn open(&self, clients: u32) -> Result<()> {
        let first = self.opened.fetch_add(clients, Ordering::Relaxed);
        let end = first + clients;
        let begin = if first == 0 && clients > 0 { self.open_first().await? } else { first };
        let start = Instant::now();
        self.on_each(move |thread| async move { thread.open(begin, end, start).await }).await?;
        Ok(())
    }

    /// Has each thread do something with its clients, and returns what each answers, in the order of threads.
    ///
    /// This is how a play gets at clients: `job` runs on every thread, as a task beside all others. Dropped before it
    /// returns, it leaves the tasks running.
    ///
    /// # Errors
    /// A thread broke down.
    pub async fn on_each<T, F, Fut>(&self, job: F) -> Result<Vec<T>>
    where
        F: Fn(Rc<Thread>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let mut answers = Vec::new();
        for worker in &self.workers {
            let (tx, rx) = oneshot::channel();
            let job = job.clone();
            let job: Job = Box::new(move |thread| {
                let doing = job(Rc::clone(&thread));
                thread.spawn(async move {
                    // Whoever asked may be gone.
                    let _: std::result::Result<(), T> = tx.send(doing.await);
                });
            });
            let jobs = worker.jobs.as_ref().context("the load has ended")?;
            jobs.send(job).await.map_err(|_| broken_down())?;
            answers.push(rx);
        }
        let mut all = Vec::new();
        for answer in answers {
            all.push(answer.await.map_err(|_| broken_down())?);
        }
        Ok(all)
    }

    /// From now on there are publications: who subscribes later may begin with any of them. Before that, every subscriber
    /// must be given the first.
    pub fn publishing(&self) {
        self.shared.begin(Beginning::Any);
    }

    /// From now on nothing is `published` beyond this, until there is [again](Self::publishing): who subscribes meanwhile
    /// must be given whatever comes next.
    pub fn pausing(&self, published: &Published) {
        let channels = (0..).take(published.channels());
        self.shared.begin(Beginning::Next(channels.map(|channel| published.upcoming(channel)).collect()));
    }

    /// Deliveries of this run so far.
    pub fn delivered(&self) -> u64 {
        self.shared.goal.count()
    }

    /// Waits until there are so many deliveries in all, each publication counted once for each client. Cancel safe.
    ///
    /// # Errors
    /// A connection ended meanwhile, or they are not there within the patience of the settings.
    pub async fn wait_delivered(&self, deliveries: u64) -> Result<()> {
        let ended = self.counts().get(Event::Ended);
        let is_in_vain = || self.counts().get(Event::Ended) > ended;
        let patience = self.settings().patience;
        let waiting = timeout(patience, self.shared.goal.reach(deliveries, is_in_vain)).await;
        let missing = deliveries.saturating_sub(self.delivered());
        if missing > 0 && waiting.is_ok() {
            return Err(anyhow!("a connection ended while {missing} deliveries were still to come"));
        }
        ensure!(
            missing == 0,
            "{missing} deliveries did not come within {}",
            humantime::format_duration(patience)
        );
        Ok(())
    }

    /// Forgets all clients without a connection: they are owed nothing any more. That their connections ended is counted.
    ///
    /// # Errors
    /// A thread broke down.
    pub async fn forget_the_unconnected(&self) -> Result<()> {
        let forget = |thread: Rc<Thread>| async move {
            let clients = thread.clients().into_iter().filter(|client| !client.is_connected());
            clients.for_each(|client| thread.dismiss(&client));
        };
        self.on_each(forget).await.map(|_| ())
    }

    /// How many clients have no connection.
    ///
    /// # Errors
    /// A thread broke down.
    pub async fn unconnected(&self) -> Result<u64> {
        let count = |thread: Rc<Thread>| async move {
            thread.clients().iter().filter(|client| !client.is_connected()).count() as u64
        };
        Ok(self.on_each(count).await?.into_iter().sum())
    }

    /// How many deliveries of what was `published` clients have not been given so far.
    ///
    /// # Errors
    /// A thread broke down.
    pub async fn missing(&self, published: &Published) -> Result<u64> {
        let published = Arc::new(published.clone());
        let count = move |thread: Rc<Thread>| {
            let published = Arc::clone(&published);
            async move { thread.missing(&published) }
        };
        Ok(self.on_each(count).await?.into_iter().sum())
    }

    /// Waits until every client has what was `published`, or nothing of it has come for the patience of
    /// the settings; answers how many deliveries are missing. Cancel safe.
    ///
    /// It asks all clients again and again, so this is for when everything is published.
    ///
    /// # Errors
    /// A thread broke down.
    pub async fn wait_given(&self, published: &Published) -> Result<u64> {
        let (mut delivered, mut last) = (self.delivered(), Instant::now());
        loop {
            let missing = self.missing(published).await?;
            if self.delivered() > delivered {
                (delivered, last) = (self.delivered(), Instant::now());
            }
            if missing == 0 || last.elapsed() > self.settings().patience {
                return Ok(missing);
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// How long something took so far, by the name that it was taken down by, in all threads.
    ///
    /// # Errors
    /// A thread broke down.
    pub async fn distribution(&self, what: &'static str) -> Result<Distribution> {
        let of_each = self.on_each(move |thread| async move { thread.distribution(what) }).await?;
        let mut all = Distribution::of_times();
        of_each.iter().for_each(|one| all.add(one));
        Ok(all)
    }

    /// Judges whether clients have what was `published`, ends all connections, and says what was found.
    ///
    /// # Errors
    /// A thread broke down.
    pub async fn finish(self, published: Published) -> Result<Findings> {
        let published = Arc::new(published);
        let of_each = self
            .on_each(move |thread| {
                let published = Arc::clone(&published);
                async move { thread.judge_all(&published) }
            })
            .await?;
        let mut sum = Findings::default();
        of_each.into_iter().for_each(|findings| sum.add(findings));
        Ok(sum)
    }

    /// Connects client 0.
    async fn open_first(&self) -> Result<u32> {
        let outcomes = self
            .on_each(|thread| async move {
                if !thread.owns(0) {
                    return Ok(());
                }
                let channel = (!thread.settings().channels.is_empty()).then_some(0);
                let client = thread.client(0, channel);
                thread.admit(client, Instant::now()).await
            })
            .await?;
        let outcome: std::result::Result<Vec<()>, Trouble> = outcomes.into_iter().collect();
        let target = &self.settings().targets[0];
        outcome.with_context(|| format!("the first client cannot connect to {target}")).map(|_| 1)
    }
}

fn broken_down() -> anyhow::Error {
    anyhow!("a thread of the load broke down")
}

impl Worker {
    fn start(index: usize, shared: &Arc<Shared>) -> Result<Self> {
        let mut builder = Builder::new_current_thread();
        builder.enable_all();
        let nap = shared.settings.nap;
        if !nap.is_zero() {
            builder.on_thread_park(move || thread::sleep(nap));
        }
        let (jobs, mut orders) = mpsc::channel::<Job>(JOBS_MAX);
        let tally = Arc::new(Tally::default());
        let (shared, own) = (Arc::clone(shared), Arc::clone(&tally));
        let (started, is_started) = std::sync::mpsc::channel();
        let work = move || {
            let runtime = builder.build_local(LocalOptions::default());
            // Whoever started the thread waits for this.
            let _: std::result::Result<(), _> = started.send(runtime.as_ref().err().map(ToString::to_string));
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let thread = Rc::new(Thread::new(index, shared, own));
                thread.spawn(Rc::clone(&thread).tell_delays());
                while let Some(job) = orders.recv().await {
                    job(Rc::clone(&thread));
                }
                thread.end().await;
            });
        };
        let thread = thread::Builder::new().name(format!("clients {index}")).spawn(work)?;
        let failure = is_started.recv().context("a thread of the load did not start")?;
        ensure!(failure.is_none(), "a thread of the load did not start: {}", failure.unwrap_or_default());
        Ok(Self { jobs: Some(jobs), tally, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was told on standard error, and to whoever waited for an answer.
            let _: thread::Result<()> = thread.join();
        }
    }
}
