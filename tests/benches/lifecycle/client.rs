//! A client that costs as little as the peer's: one connection, one write, and the answer read to
//! its end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// Asks for operations of one instance over a connection that stays open.
pub(super) struct Client {
    connection: BufReader<TcpStream>,
    instance: String,
    token: String,
}

impl Client {
    pub(super) fn connect(address: SocketAddr, instance: &str, token: &str) -> Self {
        let connection = TcpStream::connect(address).unwrap();
        connection.set_nodelay(true).unwrap();
        Self {
            connection: BufReader::new(connection),
            instance: instance.into(),
            token: token.into(),
        }
    }

    /// Asks for an operation; returns when all of the answer has arrived.
    pub(super) fn ask(&mut self, operation: &str) {
        self.ask_with(operation, "{}", 200);
    }

    /// Asks for an operation with a body; `expected` is the status of the answer.
    pub(super) fn ask_with(&mut self, operation: &str, body: &str, expected: u16) {
        let instance = &self.instance;
        let token = &self.token;
        let request = format!(
            "POST /instances/{instance}/{operation} HTTP/1.1\r\nhost: bench\r\n\
             authorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.connection.get_mut().write_all(request.as_bytes()).unwrap();
        let status = self.line();
        assert!(status.starts_with(&format!("HTTP/1.1 {expected} ")), "{operation}: {status}");
        let mut length = None;
        loop {
            let header = self.line();
            match header.split_once(": ") {
                None => break,
                Some(("content-length", value)) => length = value.parse().ok(),
                Some(_) => {}
            }
        }
        let mut answer = vec![0; length.unwrap()];
        self.connection.read_exact(&mut answer).unwrap();
        assert!(
            answer.starts_with(b"{\"id\":"),
            "{operation}: {}",
            String::from_utf8_lossy(&answer)
        );
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.connection.read_line(&mut line).unwrap();
        line.trim_end().into()
    }
}
