//! How one client's bytes come in: the handshakes that end in a connection of a shard.

// Bytes of strangers come here: none of them may panic.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

pub mod websocket;

use std::io;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// When the connection of a request was accepted; among the extensions of the request.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedAt(pub Instant);

/// How many files this process may have open.
pub fn open_files_max() -> usize {
    getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many files this process could have open once it raised its own limit as far as the system lets it.
pub fn open_files_attainable() -> usize {
    getrlimit(Resource::Nofile)
        .maximum
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How much address space this process may have, in bytes; `None` for no limit.
pub fn address_space_bytes_max() -> Option<usize> {
    let limit = getrlimit(Resource::As).current?;
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

/// The unit in which the system counts memory, in bytes.
pub fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Raises the limit of open files as far as the system lets us. A socket is a file.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Whether `error` says that this process or the system has no file descriptor left.
pub fn is_out_of_files(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
