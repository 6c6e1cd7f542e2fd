//! A minimal HTTP/1.1 client on one connection: its own cost must not show in what it measures. Understands only answers
//! with a Content-Length.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::Result;

/// A kept-alive connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

/// A status and a body.
pub(crate) struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// The body, if the status is the expected one.
    pub(crate) fn expect(self, status: u16) -> Result<Vec<u8>> {
        if self.status != status {
            return Err(
                format!("expected {status}, got {}: {}", self.status, String::from_utf8_lossy(&self.body)).into()
            );
        }
        Ok(self.body)
    }
}

impl Connection {
    pub(crate) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: format!("127.0.0.1:{port}") })
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn send(&mut self, method: &str, path: &str, media_type: &str, body: &[u8]) -> Result<Answer> {
        let mut message = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        message.extend_from_slice(body);
        self.stream.get_mut().write_all(&message)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no status line")?;
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let mut body = vec![0; length.ok_or("an answer without Content-Length")?];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }
}
