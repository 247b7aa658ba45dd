use std::net::SocketAddr;

use super::Raw;

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, as they came.
    pub(crate) head: String,
    /// What of it is no text is replaced.
    pub(crate) body: String,
}

impl Answer {
    /// The value of the header called `name`, in lower case; `None` if it is missing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.into_iter().find(|(its_name, _)| its_name.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The field `code` of the body.
    pub(crate) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).expect("a refusal is JSON");
        body["code"].as_str().expect("a refusal has a code").to_owned()
    }
}

/// `GET path` at `address`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    let mut raw = Raw::open(address).await;
    raw.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")).await;
    raw.answer().await
}

/// `POST path` at `address`.
pub(crate) async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    request(address, &format!("POST {path}"), headers, body).await
}

/// `line`, a method and a path, at `address`.
pub(crate) async fn request(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let mut raw = Raw::open(address).await;
    raw.send(format!(
        "{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))
    .await;
    raw.answer().await
}
