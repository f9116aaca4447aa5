//! An object store on a port of its own, which speaks as much S3 as archives need, and does wrong
//! when it is told to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

/// The name of its bucket.
pub const BUCKET: &str = "facts";

/// Something that it does wrong from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It answers 503.
    Down,
    /// It refuses the keys.
    Refuses,
    /// It does not answer, and does nothing.
    Silent,
    /// It does what it is asked for, and does not answer.
    Mute,
    /// It creates each object with one bit changed.
    Changes,
    /// It says that it has created objects, and has not.
    Loses,
    /// It answers with another object than the one that is asked for.
    Confuses,
    /// It goes over an object that is there, in spite of `If-None-Match`.
    Overwrites,
}

#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<String, Vec<u8>>,
    wrong: Option<Wrong>,
    /// The requests so far, as method and key.
    requests: Vec<String>,
    /// The number of the request that is not carried out, and is not answered.
    held: Option<usize>,
}

/// The store.
#[derive(Debug, Clone)]
pub struct Objects {
    address: SocketAddr,
    kept: Arc<(Mutex<Kept>, Condvar)>,
}

impl Objects {
    /// Starts a store without objects. It ends with the process.
    ///
    /// # Panics
    /// Panics if there is no port for it.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let store = Self { address, kept: Arc::default() };
        let serving = store.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let store = serving.clone();
                thread::spawn(move || store.serve(stream));
            }
        });
        store
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this wrong from now on, or nothing.
    pub fn does(&self, wrong: Option<Wrong>) {
        self.kept().wrong = wrong;
    }

    /// Holds the request after so many others: it is neither carried out nor answered.
    pub fn hold(&self, after: Option<usize>) {
        let mut kept = self.kept();
        kept.held = after.map(|after| kept.requests.len() + after);
    }

    /// Waits until the request that is held has come; returns it. None once `is_over`.
    pub fn held(&self, is_over: impl Fn() -> bool) -> Option<String> {
        let mut kept = self.kept();
        loop {
            let held = kept.held.expect("a request is held");
            if let Some(request) = kept.requests.get(held) {
                return Some(request.clone());
            }
            if is_over() {
                return None;
            }
            let tick = std::time::Duration::from_millis(20);
            kept = self.kept.1.wait_timeout(kept, tick).expect("no panic").0;
        }
    }

    /// The objects by name.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.kept().objects.clone()
    }

    /// Changes the objects as somebody would who has the keys.
    pub fn alter(&self, alter: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        alter(&mut self.kept().objects);
    }

    /// Number of requests so far.
    pub fn requests(&self) -> usize {
        self.kept().requests.len()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.0.lock().expect("no panic")
    }

    /// Answers one request. A client that goes away is no error.
    fn serve(&self, stream: TcpStream) {
        let _ = self.answer(stream);
    }

    fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let mut from = BufReader::new(stream.try_clone()?);
        let Some(request) = Request::read(&mut from)? else { return Ok(()) };
        let done = self.done(&request);
        match done {
            Some(answer) => write_answer(stream, &answer),
            // The connection stays open until the client has had enough.
            None => from.read_to_end(&mut Vec::new()).map(drop),
        }
    }

    /// Carries out a request; none if it is not answered.
    fn done(&self, request: &Request) -> Option<Answer> {
        let mut kept = self.kept();
        let number = kept.requests.len();
        kept.requests.push(format!("{} {}", request.method, request.key));
        self.kept.1.notify_all();
        if kept.held == Some(number) {
            return None;
        }
        match kept.wrong {
            Some(Wrong::Down) => return Some(Answer::refusal(503, "SlowDown")),
            Some(Wrong::Refuses) => return Some(Answer::refusal(403, "AccessDenied")),
            Some(Wrong::Silent) => return None,
            Some(_) | None => {}
        }
        let answer = kept.carry_out(request);
        (kept.wrong != Some(Wrong::Mute)).then_some(answer)
    }
}

impl Kept {
    fn carry_out(&mut self, request: &Request) -> Answer {
        match request.method.as_str() {
            "PUT" => self.create(request),
            "GET" if request.key.is_empty() => self.list(&request.prefix),
            "GET" if self.wrong == Some(Wrong::Confuses) && !request.key.is_empty() => {
                Answer { status: 200, body: b"another object".into() }
            }
            "GET" | "HEAD" => match self.objects.get(&request.key) {
                Some(bytes) => Answer { status: 200, body: bytes.clone() },
                None => Answer::refusal(404, "NoSuchKey"),
            },
            _ => Answer::refusal(405, "MethodNotAllowed"),
        }
    }

    fn create(&mut self, request: &Request) -> Answer {
        let is_there = self.objects.contains_key(&request.key);
        if is_there && request.is_creation && self.wrong != Some(Wrong::Overwrites) {
            return Answer::refusal(412, "PreconditionFailed");
        }
        let mut bytes = request.body.clone();
        match self.wrong {
            Some(Wrong::Loses) => return Answer::default(),
            Some(Wrong::Changes) => bytes[0] ^= 1,
            Some(_) | None => {}
        }
        self.objects.insert(request.key.clone(), bytes);
        Answer::default()
    }

    fn list(&self, prefix: &str) -> Answer {
        let mut text = "<ListBucketResult><IsTruncated>false</IsTruncated>".to_owned();
        for (key, bytes) in self.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let _ = write!(
                text,
                "<Contents><Key>{key}</Key><LastModified>2026-12-01T00:00:00.000Z</LastModified>\
                 <ETag>\"x\"</ETag><Size>{}</Size></Contents>",
                bytes.len()
            );
        }
        text.push_str("</ListBucketResult>");
        Answer { status: 200, body: text.into() }
    }
}

struct Request {
    method: String,
    key: String,
    prefix: String,
    is_creation: bool,
    body: Vec<u8>,
}

impl Request {
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').strip_prefix(BUCKET).unwrap_or_default();
        let key = key.trim_start_matches('/').to_owned();
        let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix="));
        let prefix = prefix.unwrap_or_default().replace("%2F", "/");
        let mut length = 0;
        let mut is_creation = false;
        loop {
            let mut header = String::new();
            from.read_line(&mut header)?;
            let header = header.trim_end().to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", text)) => length = text.parse().unwrap_or(0),
                Some(("if-none-match", text)) => is_creation = text == "*",
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        Ok(Some(Self { method, key, prefix, is_creation, body }))
    }
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Default for Answer {
    fn default() -> Self {
        Self { status: 200, body: Vec::new() }
    }
}

impl Answer {
    fn refusal(status: u16, code: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Self { status, body: body.into() }
    }
}

fn write_answer(mut to: TcpStream, answer: &Answer) -> io::Result<()> {
    write!(
        to,
        "HTTP/1.1 {} x\r\nconnection: close\r\netag: \"x\"\r\ncontent-length: {}\r\n\
         last-modified: Tue, 01 Dec 2026 00:00:00 GMT\r\n\r\n",
        answer.status,
        answer.body.len()
    )?;
    to.write_all(&answer.body)
}
