//! Asking other nodes directly, when nothing comes through the broker.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::config::TlsFiles;
use crate::tls::client::Connector;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Most nodes that are asked: in a large cluster some are enough.
const ASKED_MAX: usize = 16;
/// What a node answers that hears; a status line is at least so long (RFC 9112 §4).
const HEARS: &[u8] = b"HTTP/1.1 200 ";

/// Whether one of the nodes whose internal listeners are at `addresses` says that it hears its broker.
///
/// With `tls`, they speak it, and those that want a certificate are shown the one in these files. Takes a second at the
/// most.
pub(super) async fn one_hears(mut addresses: Vec<String>, tls: Option<&TlsFiles>) -> bool {
    addresses.retain(|address| !address.is_empty());
    let connector = match tls.map(|files| Connector::to_anybody(Some(files))).transpose() {
        Ok(connector) => connector,
        Err(problem) => {
            tracing::warn!(%problem, "other nodes cannot be asked whether they hear the broker");
            return false;
        }
    };
    let mut asked = JoinSet::new();
    while asked.len() < ASKED_MAX && !addresses.is_empty() {
        let address = addresses.swap_remove(rand::random_range(0..addresses.len()));
        let connector = connector.clone();
        asked.spawn(async move {
            let answer = tokio::time::timeout(TIMEOUT, hears(&address, connector.as_ref())).await;
            matches!(answer, Ok(Ok(true)))
        });
    }
    while let Some(answer) = asked.join_next().await {
        if matches!(answer, Ok(true)) {
            return true;
        }
    }
    false
}

async fn hears(address: &str, connector: Option<&Connector>) -> io::Result<bool> {
    let stream = TcpStream::connect(address).await?;
    match connector {
        None => ask(stream, address).await,
        Some(connector) => ask(connector.connect(address, stream).await?, address).await,
    }
}

/// Asks for `/readyz/broker` and reads the status line, no more.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, address: &str) -> io::Result<bool> {
    let request = format!("GET /readyz/broker HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; HEARS.len()];
    stream.read_exact(&mut status).await?;
    Ok(status == HEARS)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::tls::{Keeper, Listener};

    /// A listener that answers every request so, or never if it is empty.
    async fn peer(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(answer.as_bytes()).await.unwrap();
                open.push(stream);
            }
        });
        address
    }

    #[tokio::test]
    async fn one_that_hears_is_enough_and_others_do_not_hold_it_up() {
        let (hears, deaf) = (peer("HTTP/1.1 200 OK\r\n\r\n").await, peer("HTTP/1.1 503 Sorry\r\n\r\n").await);
        let (silent, gone) = (peer("").await, "127.0.0.1:1".to_owned());
        assert!(
            one_hears(vec![silent.clone(), deaf.clone(), String::new(), gone.clone(), hears], None).await
        );
        assert!(!one_hears(vec![silent, deaf, gone, "nonsense".into()], None).await);
        assert!(!one_hears(Vec::new(), None).await);
    }

    /// A certificate for loopback with its key, in files, as an internal listener reads them.
    fn files(directory: &std::path::Path) -> TlsFiles {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let write = |name: &str, text: String| {
            let file = directory.join(name);
            std::fs::write(&file, text).unwrap();
            Some(file)
        };
        let tls = crate::config::InternalTls {
            cert_file: write("cert.pem", made.cert.pem()),
            key_file: write("key.pem", made.signing_key.serialize_pem()),
            client_ca_file: write("ca.pem", made.cert.pem()),
        };
        tls.files().unwrap()
    }

    #[tokio::test]
    async fn nodes_that_speak_tls_are_asked_with_a_certificate() {
        let directory = std::env::temp_dir().join(format!("clarion-peers-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&directory).unwrap();
        let files = files(&directory);
        let metrics = std::sync::Arc::new(crate::metrics::Metrics::new());
        let keeper = Keeper::new(Listener::Internal, files.clone(), metrics).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who shows no certificate gets no further.
                let Ok(mut stream) = keeper.accept(stream).await else { continue };
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            }
        });
        assert!(one_hears(vec![address.clone()], Some(&files)).await);
        assert!(!one_hears(vec![address], None).await, "it does not hear who speaks HTTP");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
