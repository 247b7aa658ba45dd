use procfs::WithCurrentSystemInfo;
use procfs::process::{LimitValue, Stat};
use prometheus::{Counter, IntGauge};
use tikv_jemalloc_ctl::{epoch, stats};

use super::{Maker, Metrics, level, raise};

/// What the process is and uses. Those that every process has are called as everywhere, without our prefix.
#[derive(Debug)]
pub(super) struct Process {
    cpu: Counter,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    start_time: prometheus::Gauge,
    threads: IntGauge,
    open_files: IntGauge,
    open_files_max: IntGauge,
    allocated_bytes: IntGauge,
    allocator_resident_bytes: IntGauge,
    memory_limit_bytes: IntGauge,
}

impl Process {
    pub(super) fn register(make: &Maker<'_>) -> Self {
        let labels = ["version", "commit", "rustc"];
        let node_info = make.gauges("node_info", "Always 1; says which build runs.", &labels);
        let build = [env!("CARGO_PKG_VERSION"), env!("CLARION_COMMIT"), env!("CLARION_RUSTC")];
        node_info.with_label_values(&build).set(1);
        let common = make.with_prefix("process");
        Self {
            cpu: common.seconds_spent("cpu_seconds_total", "User and system time that the process has used."),
            resident_bytes: common.gauge("resident_memory_bytes", "Resident memory."),
            virtual_bytes: common.gauge("virtual_memory_bytes", "Address space."),
            start_time: common.seconds("start_time_seconds", "When the process began, since the Unix epoch."),
            threads: common.gauge("threads", "Threads of the process."),
            open_files: common.gauge("open_fds", "Open files, sockets included."),
            open_files_max: common.gauge("max_fds", "Most open files."),
            allocated_bytes: make.gauge("jemalloc_allocated_bytes", "Bytes that the program has allocated."),
            allocator_resident_bytes: make
                .gauge("jemalloc_resident_bytes", "Resident bytes that the allocator holds."),
            memory_limit_bytes: make.gauge(
                "memory_limit_bytes",
                "Memory that the process may use: of the machine, or its control group.",
            ),
        }
    }

    /// Reads all of it from the system; what the system does not tell stays as it was.
    pub(super) fn look(&self) {
        if let Ok(process) = procfs::process::Process::myself() {
            self.look_at(&process);
        }
        // The numbers are those of the last epoch; there are none under another allocator.
        if epoch::advance().is_ok()
            && let (Ok(allocated), Ok(resident)) = (stats::allocated::read(), stats::resident::read())
        {
            self.allocated_bytes.set(level(allocated));
            self.allocator_resident_bytes.set(level(resident));
        }
    }

    fn look_at(&self, process: &procfs::process::Process) {
        if let Ok(stat) = process.stat() {
            self.set(&stat);
        }
        if let Ok(count) = process.fd_count() {
            self.open_files.set(level(count));
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(max) = limits.max_open_files.soft_limit
        {
            self.open_files_max.set(i64::try_from(max).unwrap_or(i64::MAX));
        }
    }

    fn set(&self, stat: &Stat) {
        let ticks_per_second = procfs::ticks_per_second() as f64;
        raise(&self.cpu, (stat.utime + stat.stime) as f64 / ticks_per_second);
        self.resident_bytes.set(i64::try_from(stat.rss_bytes().get()).unwrap_or(i64::MAX));
        self.virtual_bytes.set(i64::try_from(stat.vsize).unwrap_or(i64::MAX));
        self.threads.set(stat.num_threads);
        if let Ok(boot_time) = procfs::boot_time_secs() {
            self.start_time.set(boot_time as f64 + stat.starttime as f64 / ticks_per_second);
        }
    }
}

impl Metrics {
    /// How much resident memory the process may use, in bytes.
    pub fn memory_limit(&self, bytes: usize) {
        self.process.memory_limit_bytes.set(level(bytes));
    }
}
