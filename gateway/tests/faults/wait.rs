//! Waiting for facts that nobody announces.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Looks again and again until `holds` does; answers how long it took.
///
/// # Errors
/// `holds` failed, or did not hold within `patience`.
pub(crate) async fn until(
    what: &str,
    patience: Duration,
    mut holds: impl AsyncFnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    while !holds().await? {
        if start.elapsed() > patience {
            bail!("still waiting for {what} after {patience:?}");
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(start.elapsed())
}

/// What `future` brings, if it comes in time.
///
/// # Errors
/// It fails, or does not end within `patience`.
pub(crate) async fn within<T>(
    what: &str,
    patience: Duration,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(patience, future).await {
        Ok(result) => result,
        Err(_) => bail!("still waiting for {what} after {patience:?}"),
    }
}

/// A port of loopback that nobody has. It may be taken before it is used, by others who look for one.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
