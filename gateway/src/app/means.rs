use super::files::Files;
use super::machine;
use crate::config::Config;
use crate::server::accept::BACKLOG;
use crate::transport;

/// What a node would have of this machine if it started here and now, in this container, by this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// Files that it may have open now.
    pub files: usize,
    /// Files that it may have open once it raised that limit by itself, as it does at its start.
    pub files_attainable: usize,
    /// Of these, those that are not for clients.
    pub files_reserved: usize,
    /// Connections that the rest is enough for.
    pub connections_possible: usize,
    /// Memory that it may use, in bytes: of its control group, its address space or the machine.
    pub memory_bytes: usize,
    /// What of it may be queued for clients, in bytes.
    pub outboxes_bytes_max: usize,
    /// Connections that each of its listeners asks the kernel to hold until they are accepted.
    pub backlog: usize,
}

impl Means {
    /// Those of a node with `config`.
    pub fn of(config: &Config) -> Self {
        let files_attainable = transport::open_files_attainable();
        let files = Files::share_out(files_attainable, config.shards.or_else(machine::cpus));
        Self {
            files: transport::open_files_max(),
            files_attainable,
            files_reserved: files.reserve,
            connections_possible: files.clients,
            memory_bytes: machine::memory_bytes(),
            outboxes_bytes_max: machine::outboxes_bytes_max(config),
            backlog: BACKLOG as usize,
        }
    }
}
