//! The machine, or the container: files, queues, tables and memory that the system grants.

use std::fs;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::finding::Finding;
use crate::app::Means;
use crate::config::{Auto, Config};

/// With room for fewer connections than this somebody forgot the limit.
const CONNECTIONS_FEW: usize = 10_000;
/// A node never needs more files for itself, but for very many shards.
const RESERVE_MAX: usize = 1024;
/// What is suggested where nothing says how much is wanted.
const FILES_SUGGESTED: usize = 65_536;
/// Connections that a node opens itself, to Redis and to other nodes, with some to spare.
const OWN_CONNECTIONS: usize = 64;
/// Above this share of the table of connections there is little room left for a storm, in percent.
const CONNTRACK_FULL: usize = 80;
/// Above this share of its memory a node lets nobody in, in percent.
const MEMORY_CLOSED_ABOVE: usize = 85;
/// 2025 and 2100, in seconds since 1970.
const PLAUSIBLE: RangeInclusive<u64> = 1_735_689_600..=4_102_444_800;

/// What was found on this machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) means: Means,
    /// Most connections that the kernel holds for a listener.
    pub(super) somaxconn: Option<usize>,
    /// Connections that the firewall follows, and how many it can.
    pub(super) conntrack: Option<(usize, usize)>,
    /// Ports for connections to others.
    pub(super) ports: Option<RangeInclusive<u16>>,
    pub(super) now: SystemTime,
}

impl Machine {
    /// Looks at this one.
    pub(super) fn look(config: &Config) -> Self {
        let [count, max] = ["nf_conntrack_count", "nf_conntrack_max"]
            .map(|name| read(&format!("/proc/sys/net/netfilter/{name}")));
        Self {
            means: Means::of(config),
            somaxconn: read("/proc/sys/net/core/somaxconn"),
            conntrack: count.zip(max),
            ports: fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
                .ok()
                .and_then(|text| range(&text)),
            now: SystemTime::now(),
        }
    }

    /// What to say of it.
    pub(super) fn findings(&self, config: &Config) -> Vec<Finding> {
        vec![
            open_files(&self.means, config),
            accept_queue(self.somaxconn, self.means.backlog),
            conntrack(self.conntrack, config.client.connections_max),
            ports(self.ports.as_ref(), config),
            memory(&self.means),
            clock(self.now),
        ]
    }
}

fn read<T: FromStr>(path: &str) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `first last`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

fn open_files(means: &Means, config: &Config) -> Finding {
    let Means { files, files_attainable, files_reserved, connections_possible: possible, .. } = *means;
    let found = format!(
        "limit {} (now {}): room for {} connections, and {files_reserved} files for the node itself",
        amount(files_attainable),
        amount(files),
        amount(possible)
    );
    let finding = Finding::ok("open_files", found);
    let wanted = match config.client.connections_max {
        Auto::Fixed(max) => max,
        Auto::Auto => config.client.connections_soft_max,
    };
    let needed = if wanted == 0 { FILES_SUGGESTED } else { wanted + files_reserved.max(RESERVE_MAX) };
    let finding = match config.client.connections_max {
        _ if possible == 0 => finding.fails("nothing is left for clients"),
        Auto::Fixed(max) if max > possible => {
            finding.fails(format!("client.connections_max is {max}: the node would let in {possible}"))
        }
        _ if wanted > possible => {
            finding.warns(format!("client.connections_soft_max is {wanted}, which will never be reached"))
        }
        Auto::Auto if possible < CONNECTIONS_FEW => finding.warns("that is few for a node"),
        _ => return finding,
    };
    finding
        .remedy(format!("systemd: LimitNOFILE={needed}"))
        .remedy(format!("container: --ulimit nofile={needed}:{needed}"))
        .remedy(format!("shell: ulimit -Hn {needed}"))
}

/// A number, or that there is no limit.
fn amount(count: usize) -> String {
    // Half of it is what "unlimited, less a reserve" comes out as.
    if count > usize::MAX / 2 { "unlimited".into() } else { count.to_string() }
}

fn accept_queue(somaxconn: Option<usize>, backlog: usize) -> Finding {
    let name = "accept_queue";
    let Some(somaxconn) = somaxconn else {
        return Finding::unknown(name, "net.core.somaxconn cannot be read here");
    };
    let finding =
        Finding::ok(name, format!("net.core.somaxconn is {somaxconn}, and a listener asks for {backlog}"));
    if somaxconn >= backlog {
        return finding;
    }
    finding
        .warns(
            "of clients that come at once, those beyond it are dropped and try again after a second or more",
        )
        .remedy(format!("sysctl -w net.core.somaxconn={backlog}"))
        .remedy(format!("pod: securityContext.sysctls: [{{name: net.core.somaxconn, value: \"{backlog}\"}}]"))
}

fn conntrack(table: Option<(usize, usize)>, wanted: Auto<usize>) -> Finding {
    let name = "conntrack";
    let Some((count, max)) = table else {
        return Finding::ok(
            name,
            "no table of connections is seen here; look at the host as well if this is a container",
        );
    };
    let finding = Finding::ok(name, format!("{count} of {max} connections"));
    let enlarged = |entries: usize| format!("sysctl -w net.netfilter.nf_conntrack_max={entries}");
    if count.saturating_mul(100) > max.saturating_mul(CONNTRACK_FULL) {
        let wrong = "the table is nearly full: new connections will be dropped without a word";
        return finding.fails(wrong).remedy(enlarged(max.saturating_mul(4)));
    }
    match wanted {
        Auto::Fixed(wanted) if wanted > max => finding
            .warns(format!("client.connections_max is {wanted}: they do not fit into the table"))
            .remedy(enlarged(wanted.saturating_mul(2))),
        _ => finding,
    }
}

fn ports(range: Option<&RangeInclusive<u16>>, config: &Config) -> Finding {
    let name = "ports";
    let Some(range) = range else {
        return Finding::unknown(name, "net.ipv4.ip_local_port_range cannot be read here");
    };
    let (first, last) = (range.start(), range.end());
    let finding =
        Finding::ok(name, format!("{first} to {last} for connections to others, of which a node needs few"));
    if range.len() < OWN_CONNECTIONS {
        let wrong = "there are too few for connections to Redis and to other nodes";
        return finding.fails(wrong).remedy("sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"");
    }
    let own = [config.public.port, config.internal.port];
    let within: Vec<_> = own.iter().filter(|port| range.contains(port)).map(u16::to_string).collect();
    if within.is_empty() {
        return finding;
    }
    let within = within.join(",");
    finding
        .warns(format!(
            "{within} of this node is among them: while it restarts, another connection may take it"
        ))
        .remedy(format!("sysctl -w net.ipv4.ip_local_reserved_ports={within}"))
}

fn memory(means: &Means) -> Finding {
    let Means { memory_bytes, outboxes_bytes_max: outboxes, .. } = *means;
    let share = outboxes.saturating_mul(100) / memory_bytes.max(1);
    let found = format!(
        "{} for this process, {} of it for what waits for clients",
        size(memory_bytes),
        size(outboxes)
    );
    let finding = Finding::ok("memory", found);
    let finding = match share {
        share if share > MEMORY_CLOSED_ABOVE => {
            finding.fails("slow clients could have the process killed: that is more than it may use in all")
        }
        share if share > 50 => finding.warns("slow clients could take more than half of it"),
        _ => return finding,
    };
    finding
        .remedy("client.outbox_bytes_total_max: auto")
        .remedy(format!("container: --memory {}", size(outboxes.saturating_mul(8))))
}

/// A size that people can read.
fn size(bytes: usize) -> String {
    const MIB: usize = 1 << 20;
    if bytes >= 10 << 30 { format!("{} GiB", bytes >> 30) } else { format!("{} MiB", bytes.div_ceil(MIB)) }
}

fn clock(now: SystemTime) -> Finding {
    let finding = Finding::ok("clock", humantime::format_rfc3339_seconds(now).to_string());
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if PLAUSIBLE.contains(&seconds) {
        return finding;
    }
    finding.fails("it is wrong: every token would be too old or too new").remedy("timedatectl set-ntp true")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::finding::Level::{Ok, Problem, Unknown, Warning};
    use super::super::finding::is;
    use super::*;

    fn means(files: usize) -> Means {
        Means {
            files: files.min(1_024),
            files_attainable: files,
            files_reserved: 1_024,
            connections_possible: files.saturating_sub(1_024),
            memory_bytes: 4 << 30,
            outboxes_bytes_max: 512 << 20,
            backlog: 4_096,
        }
    }

    #[test]
    fn open_files_are_enough_for_the_connections_that_are_wanted() {
        let mut config = Config::default();
        is(&open_files(&means(usize::MAX), &config), Ok, &["limit unlimited (now 1024)"]);
        is(&open_files(&means(20_000), &config), Ok, &["room for 18976 connections"]);
        is(&open_files(&means(4_096), &config), Warning, &["few", "LimitNOFILE=65536"]);
        is(&open_files(&means(1_024), &config), Problem, &["nothing is left", "ulimit -Hn 65536"]);
        config.client.connections_soft_max = 20_000;
        is(
            &open_files(&means(20_000), &config),
            Warning,
            &["connections_soft_max is 20000", "LimitNOFILE=21024"],
        );
        config.client.connections_max = Auto::Fixed(20_000);
        is(&open_files(&means(20_000), &config), Problem, &["would let in 18976", "nofile=21024:21024"]);
        config.client.connections_max = Auto::Fixed(500);
        config.client.connections_soft_max = 0;
        is(&open_files(&means(4_096), &config), Ok, &[]);
    }

    #[test]
    fn the_kernel_holds_as_many_comers_as_a_listener_asks_for() {
        is(&accept_queue(Some(4_096), 4_096), Ok, &["somaxconn is 4096"]);
        is(&accept_queue(Some(128), 4_096), Warning, &["sysctl -w net.core.somaxconn=4096"]);
        is(&accept_queue(None, 4_096), Unknown, &["cannot be read"]);
    }

    #[test]
    fn the_table_of_connections_has_room() {
        is(&conntrack(None, Auto::Auto), Ok, &["no table"]);
        is(&conntrack(Some((800, 1_000)), Auto::Fixed(1_000)), Ok, &["800 of 1000"]);
        is(&conntrack(Some((801, 1_000)), Auto::Auto), Problem, &["nf_conntrack_max=4000"]);
        is(&conntrack(Some((8, 1_000)), Auto::Fixed(1_001)), Warning, &["nf_conntrack_max=2002"]);
    }

    #[test]
    fn ports_for_connections_to_others_are_there_and_are_not_ours() {
        let mut config = Config::default();
        is(&ports(Some(&(32_768..=60_999)), &config), Ok, &["32768 to 60999"]);
        is(&ports(Some(&(32_768..=32_800)), &config), Problem, &["too few"]);
        is(&ports(Some(&(1_024..=65_535)), &config), Warning, &["ip_local_reserved_ports=8000,9000"]);
        config.internal.port = 40_000;
        is(&ports(Some(&(32_768..=60_999)), &config), Warning, &["ip_local_reserved_ports=40000"]);
        is(&ports(None, &config), Unknown, &["cannot be read"]);
        assert_eq!(range("32768\t60999\n"), Some(32_768..=60_999));
    }

    #[test]
    fn slow_clients_cannot_take_all_memory() {
        let of = |outboxes_bytes_max| memory(&Means { outboxes_bytes_max, ..means(20_000) });
        is(&of(512 << 20), Ok, &["4096 MiB for this process, 512 MiB"]);
        is(&of(3 << 30), Warning, &["more than half", "client.outbox_bytes_total_max: auto"]);
        is(&of(4 << 30), Problem, &["killed", "--memory 32 GiB"]);
    }

    #[test]
    fn a_clock_that_was_never_set_is_seen() {
        is(&clock(SystemTime::now()), Ok, &[]);
        is(&clock(UNIX_EPOCH), Problem, &["1970-01-01", "timedatectl"]);
        is(&clock(UNIX_EPOCH + Duration::from_secs(4_200_000_000)), Problem, &["2103"]);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let config = Config::default();
        let machine = Machine::look(&config);
        assert!(machine.somaxconn.is_some() && machine.ports.is_some());
        assert_eq!(machine.findings(&config).len(), 6);
    }
}
