//! The connection of one client: TCP and the WebSocket handshake.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::Response;
use tokio_tungstenite::tungstenite::http::header::RETRY_AFTER;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Result};

/// How long SDKs wait for a transport to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// What is read at once. Thousands of clients share one machine, and what they read is short.
const READ_BUFFER_BYTES: usize = 2 * 1024;

/// More than any server sends in one message.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// `None` if there was no answer of HTTP.
    pub(crate) status: Option<u16>,
    /// In seconds.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    /// There was no answer of HTTP.
    pub(crate) const SILENT: Self = Self { status: None, retry_after: None };
}

/// Connects to `target` from `source`, and shakes hands over `path_and_query`.
///
/// # Errors
/// Why not; also when that took longer than five seconds.
pub(crate) async fn open(
    target: SocketAddr,
    source: Option<IpAddr>,
    path_and_query: &str,
) -> Result<Socket, Refusal> {
    let url = format!("ws://{target}{path_and_query}");
    // The future is large, and is needed for a moment only.
    let opening = Box::pin(async move { shake_hands(connect(target, source).await?, &url).await });
    match time::timeout(OPEN_TIMEOUT, opening).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(Error::Http(response))) => Err(refusal(&response)),
        Ok(Err(_)) | Err(_) => Err(Refusal::SILENT),
    }
}

async fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn shake_hands(stream: TcpStream, url: &str) -> Result<Socket> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let request = url.into_client_request()?;
    let (socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
    Ok(socket)
}

fn refusal<T>(response: &Response<T>) -> Refusal {
    let retry_after = response.headers().get(RETRY_AFTER);
    let seconds = retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
    Refusal { status: Some(response.status().as_u16()), retry_after: seconds }
}
