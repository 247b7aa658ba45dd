//! Calls by TLS: whom they trust, and what carries them.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use rustls::{ClientConnection, StreamOwned};
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};
use ureq::{Agent, Error};

use crate::config::TlsFiles;
use crate::tls::client::{self, Authorities, HandshakeFailure};

/// Whom a command believes that calls by TLS.
#[derive(Args)]
pub(super) struct Trusted {
    /// Whom alone to trust under TLS, in PEM: who signs certificates, or the one that is shown. By default whom the system
    /// trusts, and who shows the certificate of the configuration.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Trusted {
    /// For an address of the configuration: who shows the certificate of its listener, in `files`.
    pub(super) fn ourselves(&self, files: &TlsFiles) -> anyhow::Result<client::Connector> {
        match &self.ca_file {
            Some(_) => self.anybody(Some(files)),
            None => client::Connector::to_ourselves(files).map_err(|problem| anyhow!("{problem}")),
        }
    }

    /// For an address that was typed, and may be that of a proxy: also who can show that the name is its own.
    pub(super) fn anybody(&self, files: Option<&TlsFiles>) -> anyhow::Result<client::Connector> {
        let authorities = match &self.ca_file {
            Some(file) => Authorities::in_file("--ca-file", file),
            None => Ok(Authorities::of_system(files)),
        };
        let connector = authorities.and_then(|authorities| client::Connector::strict(files, authorities));
        connector.map_err(|problem| anyhow!("{problem}"))
    }

    /// Whether it was said whom to believe.
    pub(super) fn is_given(&self) -> bool {
        self.ca_file.is_some()
    }
}

/// An agent whose calls to `https` go through `tls`. The library's own way knows nothing but names and authorities.
pub(super) fn agent(config: Config, tls: Option<client::Connector>) -> Agent {
    let Some(tls) = tls else { return config.into() };
    let connector = ().chain(TcpConnector::default()).chain(Protection(tls));
    Agent::with_parts(config, connector, DefaultResolver::default())
}

/// Says of a call that failed in its handshake why.
pub(super) fn explain(error: Error) -> anyhow::Error {
    let failure = match &error {
        Error::Io(error) => HandshakeFailure::of(error),
        _ => None,
    };
    failure.map_or_else(|| error.into(), anyhow::Error::new)
}

#[derive(Debug)]
struct Protection(client::Connector);

impl<In: Transport> Connector<In> for Protection {
    type Out = Either<In, Protected>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let authority = details.uri.authority().map_or("", |authority| authority.as_str());
        let mut session = self.0.session(authority)?;
        let mut socket = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        session.complete_io(&mut socket)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Protected { buffers, stream: StreamOwned::new(session, socket) })))
    }
}

/// A call's connection.
struct Protected {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Protected {
    /// What came of a read or a write, or why the other side takes nothing any more, if it said so by TLS: one that wants
    /// a certificate says so only after the handshake, and what was written meanwhile finds a closed door.
    fn heard<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|error| self.last_words().unwrap_or(error))
    }

    /// Read past the library, which would first write what it has.
    fn last_words(&mut self) -> Option<io::Error> {
        let StreamOwned { conn, sock } = &mut self.stream;
        conn.read_tls(sock).ok()?;
        let said = conn.process_new_packets().err()?;
        Some(io::Error::new(io::ErrorKind::InvalidData, said))
    }
}

impl fmt::Debug for Protected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Protected")
    }
}

impl Transport for Protected {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let written = self.stream.write_all(&self.buffers.output()[..amount]);
        Ok(self.heard(written)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf());
        let read = self.heard(read)?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
