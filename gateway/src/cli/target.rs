//! Where a WebSocket is, and the way there: a socket, and TLS if the address says so.

use std::io;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Uri;

use super::call::Listener;
use super::protected::Trusted;
use crate::tls::client::Connector;

/// What a WebSocket is spoken over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A WebSocket that somebody has at an address.
pub(super) struct Target {
    uri: Uri,
    tls: Option<Connector>,
}

impl Target {
    /// The WebSocket of `listener`, if that believes whom `trusted` says.
    ///
    /// # Errors
    /// If it is no address of a WebSocket, or nobody is to be believed.
    pub(super) fn new(listener: &Listener, trusted: &Trusted) -> anyhow::Result<Self> {
        Ok(Self { uri: address(&listener.base, "ws")?, tls: listener.connector(trusted)? })
    }

    /// Its address, with `path` where it has none.
    pub(super) fn url(&self, path: &str) -> String {
        let path = if self.uri.path() == "/" { path } else { self.uri.path() };
        let query = self.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let scheme = if self.is_protected() { "wss" } else { "ws" };
        format!("{scheme}://{}{path}{query}", self.authority())
    }

    /// Whether it is called by TLS.
    pub(super) fn is_protected(&self) -> bool {
        self.tls.is_some()
    }

    /// A connection to its host.
    ///
    /// # Errors
    /// What the network says.
    pub(super) async fn reach(&self) -> io::Result<TcpStream> {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.uri.port_u16().unwrap_or(if self.is_protected() { 443 } else { 80 });
        TcpStream::connect((host, port)).await
    }

    /// The connection with what the address wants around it, which is nothing without TLS.
    ///
    /// # Errors
    /// What the handshake came to; [`HandshakeFailure`](crate::tls::client::HandshakeFailure) reads it.
    pub(super) async fn protect(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(self.authority(), stream).await?),
        })
    }

    fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }
}

/// An address of the `scheme`, or of that with TLS.
pub(super) fn address(text: &str, scheme: &str) -> anyhow::Result<Uri> {
    let uri: Uri = text.parse().with_context(|| format!("`{text}` is no address"))?;
    let found = uri.scheme_str().unwrap_or_default();
    if found.strip_prefix(scheme).is_some_and(|rest| rest.is_empty() || rest == "s")
        && uri.host().is_some_and(|host| !host.is_empty())
    {
        return Ok(uri);
    }
    bail!("must be {scheme}://HOST:PORT or {scheme}s://HOST:PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_their_scheme_with_tls_or_without() {
        assert_eq!(address("ws://h:8000", "ws").unwrap().port_u16(), Some(8000));
        for good in ["ws://[::1]:8000/x", "wss://h"] {
            assert!(address(good, "ws").is_ok(), "{good}");
        }
        for (bad, words) in [
            ("http://h", "must be ws://HOST:PORT or wss://HOST:PORT"),
            ("wsx://h", "must be ws://"),
            ("h:8000", "must be ws://"),
            ("", "is no address"),
            ("ws://", "is no address"),
        ] {
            let error = address(bad, "ws").unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
