//! How a client comes to a connection: TCP, and the upgrade to WebSocket.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::target::Target;
use super::trouble::Trouble;

/// The key of RFC 6455 §1.3, and what answers it. One does for all: it is no secret, and no cache is in between.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const RESPONSE_BYTES_MAX: usize = 8 * 1024;

/// Connects to `target` from `source`.
pub(crate) async fn connect(target: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Trouble> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    // No TIME_WAIT: tens of thousands of them would be left to the next run.
    stream.set_zero_linger()?;
    Ok(stream)
}

/// Asks for a WebSocket, and returns what has come after the answer.
pub(crate) async fn upgrade(
    stream: &mut TcpStream,
    target: &Target,
    token: Option<&str>,
) -> Result<Vec<u8>, Trouble> {
    let query = token.map(|token| format!("token={token}"));
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n",
        target.path_with(query.as_deref()),
        target.authority()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::with_capacity(512);
    let end = loop {
        if response.len() >= RESPONSE_BYTES_MAX {
            return Err(Trouble::Broken("the answer to the upgrade does not end".into()));
        }
        if stream.read_buf(&mut response).await? == 0 {
            return Err(Trouble::HungUp);
        }
        if let Some(at) = response.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let rest = response.split_off(end);
    check(&String::from_utf8_lossy(&response))?;
    Ok(rest)
}

/// Whether the head of a response grants the upgrade.
fn check(head: &str) -> Result<(), Trouble> {
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status: u16 =
        status.ok_or_else(|| Trouble::Broken("the upgrade was not answered with HTTP/1.1".into()))?;
    let header = |name: &str| {
        let mut headers = lines.clone().filter_map(|line| line.split_once(':'));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    if status != 101 {
        let seconds = header("retry-after").and_then(|value| value.parse().ok());
        return Err(Trouble::Refused { status, retry_after: seconds.map(Duration::from_secs) });
    }
    if header("sec-websocket-accept") != Some(ACCEPT) {
        return Err(Trouble::Broken("the upgrade has a wrong Sec-WebSocket-Accept".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

    use super::*;

    #[test]
    fn the_key_is_answered_as_a_library_would() {
        assert_eq!(derive_accept_key(KEY.as_bytes()), ACCEPT);
    }

    #[test]
    fn an_upgrade_that_is_granted_is_told_from_one_that_is_not() {
        let granted = format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept:  {ACCEPT}\r\n\r\n");
        assert_eq!(check(&granted), Ok(()));
        let refused = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n\r\n";
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(check(refused), Err(Trouble::Refused { status: 503, retry_after }));
        for broken in
            ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 101 x\r\nSec-WebSocket-Accept: x\r\n\r\n", "HTTP/1.1 2\r\n\r\n"]
        {
            assert!(matches!(check(broken), Err(Trouble::Broken(_))), "{broken}");
        }
    }
}
