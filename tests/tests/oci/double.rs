//! A registry of our own that says what a test wants it to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

/// An answer to give.
pub(crate) struct Answer {
    status: u16,
    headers: String,
    body: Body,
}

enum Body {
    Whole(Vec<u8>),
    /// The first bytes of a body that is said to be longer.
    Cut(Vec<u8>, usize),
    /// Bytes without an end.
    Endless,
    /// Nothing, and the connection stays open.
    Silent,
}

impl Answer {
    pub(crate) fn of(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: String::new(), body: Body::Whole(body.into()) }
    }

    pub(crate) fn status(status: u16, headers: &str) -> Self {
        Self { status, headers: format!("{headers}\r\n"), body: Body::Whole(Vec::new()) }
    }

    pub(crate) fn part(body: &[u8], from: usize) -> Self {
        let last = body.len() - 1;
        let headers = format!("Content-Range: bytes {from}-{last}/{}\r\n", body.len());
        Self { status: 206, headers, body: Body::Whole(body[from..].to_vec()) }
    }

    pub(crate) fn cut(body: &[u8], at: usize) -> Self {
        let cut = Body::Cut(body[..at].to_vec(), body.len());
        Self { status: 200, headers: String::new(), body: cut }
    }

    pub(crate) fn endless() -> Self {
        Self { status: 200, headers: String::new(), body: Body::Endless }
    }

    pub(crate) fn silent() -> Self {
        Self { status: 200, headers: String::new(), body: Body::Silent }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(307, &format!("Location: {to}"))
    }

    fn send(self, to: &mut TcpStream) -> std::io::Result<()> {
        let Self { status, headers, body } = self;
        let head = |length: &str| {
            format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}{length}\r\n\r\n")
        };
        match body {
            Body::Whole(body) => {
                to.write_all(head(&format!("Content-Length: {}", body.len())).as_bytes())?;
                to.write_all(&body)
            }
            Body::Cut(body, length) => {
                to.write_all(head(&format!("Content-Length: {length}")).as_bytes())?;
                to.write_all(&body)
            }
            Body::Endless => {
                to.write_all(head("X: y").as_bytes())?;
                loop {
                    to.write_all(&[b' '; 65_536])?;
                }
            }
            Body::Silent => {
                to.write_all(head("Content-Length: 1").as_bytes())?;
                // Until the client goes.
                BufReader::new(to).read_line(&mut String::new()).map(drop)
            }
        }
    }
}

/// A registry that listens until the process ends.
pub(crate) struct Double {
    /// Its port.
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Double {
    /// Starts one whose answers `answer` makes.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let log = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                let log = log.clone();
                thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Self { port, asked }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Asked) -> Answer, log: &Mutex<Vec<Asked>>) {
    let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut asked = Asked { path, authorization: None, range: None };
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => asked.authorization = Some(value.to_owned()),
            "range" => asked.range = Some(value.to_owned()),
            _ => {}
        }
    }
    log.lock().expect("no panic").push(asked.clone());
    // The client may have gone.
    let _ = answer(&asked).send(&mut stream);
}
