//! The way to a guest's agent.

use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longest answer of a virtual machine monitor that is asked for a guest's port.
const ANSWER_BYTES_MAX: usize = 64;

/// The way to a guest's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The socket of the virtual machine monitor.
    pub socket: PathBuf,
    /// The guest's port behind the socket of a vsock device; none for the socket of a port of its
    /// own.
    pub vsock_port: Option<u32>,
}

impl Way {
    /// A connection to the agent. For a vsock, the guest has accepted it.
    pub(super) async fn dial(&self) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        if let Some(port) = self.vsock_port {
            stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
            accepted(&mut stream).await?;
        }
        Ok(stream)
    }
}

/// Reads the line that says that the guest has accepted the connection, and not a byte of what
/// follows it.
async fn accepted(stream: &mut UnixStream) -> io::Result<()> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() >= ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer is no line"));
        }
        line.push(stream.read_u8().await?);
    }
    match line.starts_with(b"OK ") {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&line).trim().to_owned())),
    }
}
