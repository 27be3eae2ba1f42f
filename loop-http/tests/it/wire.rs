//! Requests byte by byte, for what a well-behaved client does not do.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), unread: Vec::new() }
    }

    /// Sends all of this. Fails if the server is no longer there to take it.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.unwrap()
    }

    /// Reads one answer, interim ones such as `100 Continue` included.
    pub(crate) async fn answer(&mut self) -> io::Result<RawAnswer> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await?;
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let length = length.map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length {
            self.read().await?;
        }
        Ok(RawAnswer { status, head, body: self.unread.drain(..length).collect() })
    }

    async fn read(&mut self) -> io::Result<()> {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.unwrap()? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Whether the server closes the connection, without another byte, before so much time has passed.
    pub(crate) async fn is_closed_within(&mut self, limit: Duration) -> bool {
        match timeout(limit, self.stream.read_buf(&mut self.unread)).await {
            Ok(Ok(length)) => length == 0,
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }
}

/// The head of a request with this key and these further headers.
pub(crate) fn head(method: &str, path: &str, key: Option<&str>, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    let bearer = key.map(|key| format!("Bearer {key}"));
    let authorization = bearer.as_deref().map(|bearer| ("Authorization", bearer));
    for (name, value) in headers.iter().copied().chain(authorization) {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head + "\r\n"
}
