//! What is looked at while a load runs: the server, this process, and the counts, as series over time.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use super::clock::LoadClock;
use super::process::{Cpu, Meter};
use super::tally::{Counts, Event};
use crate::outcome::figure::Rule;
use crate::outcome::series::Series;

/// How often everything is looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// A thread that is on a CPU, or waits for one, for more than this share of the time is at its limit: what waits for it waits
/// long.
const SATURATED: f64 = 0.9;

/// How the counts are read, from a thread that has nothing to do with the load.
pub type Counter = Arc<dyn Fn() -> Counts + Send + Sync>;

/// Looks until it is stopped. Dropping it stops it too.
#[derive(Debug)]
pub struct Watch {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<Watched>>,
}

/// What was seen.
#[derive(Debug)]
pub struct Watched {
    /// Everything over time.
    pub series: Vec<Series>,
    /// How long a thread of this process was at its limit.
    pub saturated: Duration,
    /// Why a server can be looked at no longer, if that is so.
    pub lost: Option<String>,
}

impl Watch {
    /// Begins to look at the processes of `servers`, at this one, and at the counts.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(servers: Meter, counter: Counter, clock: LoadClock) -> Result<Self> {
        let (stop, is_stopped) = mpsc::channel();
        let mut looker = Looker::new(servers, counter, clock);
        let work = move || {
            while is_stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                looker.look();
            }
            looker.look();
            looker.watched()
        };
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Looks once more, and says what was seen; `None` if looking broke down.
    pub fn stop(mut self) -> Option<Watched> {
        self.stop = None;
        self.thread.take()?.join().ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
    }
}

struct Looker {
    servers: Meter,
    own: Meter,
    counter: Counter,
    clock: LoadClock,
    last: Look,
    connections: Series,
    deliveries: Series,
    errors: Series,
    server_cpu: Series,
    server_bytes: Series,
    server_files: Series,
    own_cpu: Series,
    own_busiest: Series,
    own_bytes: Series,
    saturated: Duration,
    lost: Option<String>,
}

/// What the next look is compared with.
#[derive(Default)]
struct Look {
    at: Duration,
    delivered: u64,
    server: Cpu,
    own: Cpu,
}

impl Looker {
    fn new(servers: Meter, counter: Counter, clock: LoadClock) -> Self {
        let own = Meter::own();
        let last = Look {
            at: clock.now(),
            delivered: counter().get(Event::Delivered),
            server: servers.cpu().unwrap_or_default(),
            own: own.cpu().unwrap_or_default(),
        };
        let shared = |name: &str, unit: &str| Series::new(name, unit, Rule::Max);
        Self {
            servers,
            own,
            counter,
            clock,
            last,
            connections: Series::new("connections", "connections", Rule::Sum),
            deliveries: Series::new("deliveries", "per second", Rule::Sum),
            errors: Series::new("connects failed and connections ended", "errors", Rule::Sum),
            server_cpu: shared("CPU of the server", "cores"),
            server_bytes: shared("memory of the server", "bytes"),
            server_files: shared("open files of the server", "files"),
            own_cpu: Series::new("CPU of swarm", "cores", Rule::Sum),
            own_busiest: shared("CPU of the busiest thread of swarm", "cores"),
            own_bytes: Series::new("memory of swarm", "bytes", Rule::Sum),
            saturated: Duration::ZERO,
            lost: None,
        }
    }

    fn look(&mut self) {
        let counts = (self.counter)();
        let at = self.clock.now();
        let passed = at - self.last.at;
        if passed.is_zero() {
            return;
        }
        let delivered = counts.get(Event::Delivered);
        self.connections.record(at, counts.open() as f64);
        let delivered_since = (delivered - self.last.delivered) as f64;
        self.deliveries.record(at, delivered_since / passed.as_secs_f64());
        let errors = counts.get(Event::Failed) + counts.get(Event::Ended);
        self.errors.record(at, errors as f64);
        if !self.servers.is_empty()
            && self.lost.is_none()
            && let Err(error) = self.look_at_servers(at, passed)
        {
            self.lost = Some(format!("{error:#}"));
        }
        // This process is there as long as it looks.
        self.look_at_own(at, passed, self.own.cpu().unwrap_or_default());
        (self.last.at, self.last.delivered) = (at, delivered);
    }

    fn look_at_own(&mut self, at: Duration, passed: Duration, own: Cpu) {
        let cores = |used: Duration| used.as_secs_f64() / passed.as_secs_f64();
        self.own_cpu.record(at, cores(own.since(&self.last.own)));
        self.own_busiest.record(at, cores(own.busiest(&self.last.own)));
        self.own_bytes.record(at, self.own.resident_bytes().unwrap_or_default() as f64);
        if cores(own.busy(&self.last.own)) > SATURATED {
            self.saturated += passed;
        }
        self.last.own = own;
    }

    fn look_at_servers(&mut self, at: Duration, passed: Duration) -> Result<()> {
        let cpu = self.servers.cpu()?;
        let used = cpu.since(&self.last.server).as_secs_f64();
        self.server_cpu.record(at, used / passed.as_secs_f64());
        self.server_bytes.record(at, self.servers.resident_bytes()? as f64);
        self.server_files.record(at, self.servers.open_files()? as f64);
        self.last.server = cpu;
        Ok(())
    }

    fn watched(self) -> Watched {
        let all = [
            self.connections,
            self.deliveries,
            self.errors,
            self.server_cpu,
            self.server_bytes,
            self.server_files,
            self.own_cpu,
            self.own_busiest,
            self.own_bytes,
        ];
        let series = all.into_iter().filter(|series| !series.points().is_empty()).collect();
        Watched { series, saturated: self.saturated, lost: self.lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads that are half busy are not one that is at its limit, and one that waits for a CPU is. Here each waits for
    /// twice as long as it is on one.
    #[test]
    fn a_thread_at_its_limit_is_noticed_and_only_that() {
        let nobody = Meter::new(&[]).unwrap();
        let mut looker = Looker::new(nobody, Arc::new(Counts::default), LoadClock::start());
        looker.last.own = Cpu::of(&[(1, 0), (2, 0)]);
        let second = Duration::from_secs(1);
        looker.look_at_own(second, second, Cpu::of(&[(1, 200_000_000), (2, 200_000_000)]));
        assert_eq!(looker.saturated, Duration::ZERO);
        looker.look_at_own(second * 2, second, Cpu::of(&[(1, 550_000_000), (2, 200_000_000)]));
        assert_eq!(looker.saturated, second);
        assert!((looker.own_cpu.max().unwrap() - 0.4).abs() < 1e-9);
    }

    #[test]
    fn this_process_is_always_seen_and_a_server_if_there_is_one() {
        let counter: Counter = Arc::new(Counts::default);
        let names = |servers: Meter| {
            let watch = Watch::start(servers, Arc::clone(&counter), LoadClock::start()).unwrap();
            let watched = watch.stop().unwrap();
            watched.series.into_iter().map(|series| series.name).collect::<Vec<_>>()
        };
        let alone = names(Meter::new(&[]).unwrap());
        assert!(alone.iter().any(|name| name == "CPU of swarm"), "{alone:?}");
        assert!(!alone.iter().any(|name| name.contains("server")), "{alone:?}");
        let with = names(Meter::new(&[std::process::id()]).unwrap());
        assert!(with.iter().any(|name| name == "memory of the server"), "{with:?}");
    }
}
