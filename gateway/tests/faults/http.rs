//! As much of an HTTP client as a back end needs: one request at a time on a connection that stays open.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::wait;

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of the header called `name`, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(its_name, _)| its_name == name).map(|(_, value)| value.as_str())
    }
}

/// A connection to one server, opened when it is needed.
#[derive(Debug)]
pub(crate) struct Http {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Http {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    pub(crate) async fn get(&mut self, path: &str, patience: Duration) -> Result<Answer> {
        self.get_with(path, "", patience).await
    }

    /// `headers` are whole lines, each with its end.
    pub(crate) async fn get_with(&mut self, path: &str, headers: &str, patience: Duration) -> Result<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
        self.exchange(&request, path, patience).await
    }

    /// `headers` are whole lines, each with its end.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        headers: &str,
        body: &str,
        patience: Duration,
    ) -> Result<Answer> {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{headers}\r\n{body}"
        );
        self.exchange(&request, path, patience).await
    }

    /// After an error the next request has a connection of its own: who did not answer may do so later.
    async fn exchange(&mut self, request: &str, path: &str, patience: Duration) -> Result<Answer> {
        let address = self.address;
        let open = self.stream.take();
        let exchanging = async {
            let mut stream = match open {
                Some(stream) => stream,
                None => BufReader::new(TcpStream::connect(address).await?),
            };
            stream.write_all(request.as_bytes()).await?;
            let answer = read(&mut stream).await?;
            Ok((answer, stream))
        };
        let (answer, stream) = wait::within(&format!("the answer to {path}"), patience, exchanging).await?;
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Result<Answer> {
    let line = line(stream).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut answer = Answer { status: status.context(line)?, headers: Vec::new(), body: String::new() };
    loop {
        let line = self::line(stream).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        answer.headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    if answer.status == 101 {
        return Ok(answer);
    }
    let length = answer.header("content-length").context("an answer has a length")?.parse()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    answer.body = String::from_utf8(body)?;
    Ok(answer)
}

async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        bail!("the connection has ended");
    }
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::net::TcpListener;

    use super::*;

    crate::own::tests!(; answers_are_read_one_after_another, a_server_that_says_nothing_is_given_up);

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Serves one connection with these answers, in turn, and counts on a request that ends with `}`.
    async fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut request = Vec::new();
                while !request.ends_with(b"}") {
                    stream.read_buf(&mut request).await.unwrap();
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    async fn answers_are_read_one_after_another() {
        let address = server(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes",
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\ncontent-length: 2\r\n\r\nno",
        ])
        .await;
        let mut http = Http::to(address);
        let answer = http.post("/x", "x-api-key: k\r\n", "{}", PATIENCE).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "yes"));
        let answer = http.post("/x", "", "{}", PATIENCE).await.unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert!(http.post("/x", "", "{}", PATIENCE).await.is_err(), "the server has gone");
    }

    async fn a_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut http = Http::to(listener.local_addr().unwrap());
        assert!(http.get("/", Duration::from_millis(50)).await.is_err());
    }
}
