//! The counters in a namespace, read over one socket that was opened there.
//!
//! Reading by the kernel's own interface takes microseconds where a program would take
//! milliseconds. Nothing is ever reset: a reset while anybody changes a table may lose what was
//! counted.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::NetworkError;
use super::rules::{IN, OUT, TABLE};
use crate::vm::Traffic;

/// Number of the kernel's subsystem of these tables, of its request for objects, and of the answer.
const SUBSYSTEM: u16 = 10 << 8;
const GET_OBJECT: u16 = SUBSYSTEM | 19;
const NEW_OBJECT: u16 = SUBSYSTEM | 18;

/// Kinds of messages that every subsystem has.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// A request, for all that there is.
const FLAGS: u16 = 0x1 | 0x300;

/// The family `ip`.
const IPV4: u8 = 2;

/// Attributes of an object, and of a counter in it.
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const COUNTER_BYTES: u16 = 1;
const COUNTER_PACKETS: u16 = 2;

/// The type of an object that is a counter.
const COUNTER: u32 = 1;

/// Bytes of a message's head, of the subsystem's head behind it, and of an attribute's.
const HEAD: usize = 16;
const SUBSYSTEM_HEAD: usize = 4;
const ATTRIBUTE_HEAD: usize = 4;

/// Most bytes of one answer of the kernel.
const ANSWER_BYTES_MAX: usize = 32 << 10;

/// A socket to the counters of the namespace that it was opened in. It keeps that namespace alive.
#[derive(Debug)]
pub struct Counters(OwnedFd);

impl Counters {
    /// Opens the counters of the namespace of this thread.
    ///
    /// # Errors
    /// [`NetworkError::System`].
    pub fn open() -> Result<Self, NetworkError> {
        let flags = SocketFlags::CLOEXEC;
        let netfilter = Some(netlink::NETFILTER);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, netfilter);
        socket
            .map(Self)
            .map_err(io::Error::from)
            .map_err(NetworkError::system("open a socket to the counters"))
    }

    /// Reads the traffic that was counted.
    ///
    /// # Errors
    /// [`NetworkError::System`], and [`NetworkError::Answer`] where the counters are missing.
    pub fn read(&self) -> Result<Traffic, NetworkError> {
        let failed = |error: rustix::io::Errno| NetworkError::System {
            act: "read the counters",
            source: error.into(),
        };
        send(&self.0, &request(), SendFlags::empty()).map_err(failed)?;
        let mut found = Found::default();
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        loop {
            let (length, _) = recv(&self.0, &mut *buffer, RecvFlags::empty()).map_err(failed)?;
            if found.take(&buffer[..length])? {
                return found.traffic();
            }
        }
    }
}

/// The request for all counters of the table.
fn request() -> Vec<u8> {
    let mut body = vec![IPV4, 0, 0, 0];
    attribute(&mut body, OBJECT_TABLE, format!("{TABLE}\0").as_bytes());
    attribute(&mut body, OBJECT_TYPE, &COUNTER.to_be_bytes());
    let length = (HEAD + body.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(GET_OBJECT.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (ATTRIBUTE_HEAD + value.len()) as u16;
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// The counters that an answer has told so far: bytes and packets.
#[derive(Debug, Default)]
struct Found {
    received: Option<(u64, u64)>,
    sent: Option<(u64, u64)>,
}

impl Found {
    /// Takes messages. Returns true after the last one.
    fn take(&mut self, mut messages: &[u8]) -> Result<bool, NetworkError> {
        while !messages.is_empty() {
            let (kind, body, rest) = message(messages)?;
            match kind {
                DONE => return Ok(true),
                ERROR => return Err(refusal(body)),
                NEW_OBJECT => {
                    let body = body.get(SUBSYSTEM_HEAD..).ok_or(SHORT)?;
                    self.take_object(body)?;
                }
                _ => {}
            }
            messages = rest;
        }
        Ok(false)
    }

    fn take_object(&mut self, body: &[u8]) -> Result<(), NetworkError> {
        let name = find(body, OBJECT_NAME)?.unwrap_or_default();
        let Some(data) = find(body, OBJECT_DATA)? else { return Ok(()) };
        let number = |kind| {
            let value = find(data, kind)?.and_then(|value| value.try_into().ok());
            value.map(u64::from_be_bytes).ok_or(NetworkError::Answer("a counter without a number"))
        };
        let place = match name.strip_suffix(b"\0").unwrap_or(name) {
            name if name == IN.as_bytes() => &mut self.received,
            name if name == OUT.as_bytes() => &mut self.sent,
            _ => return Ok(()),
        };
        *place = Some((number(COUNTER_BYTES)?, number(COUNTER_PACKETS)?));
        Ok(())
    }

    fn traffic(&self) -> Result<Traffic, NetworkError> {
        let (Some(received), Some(sent)) = (self.received, self.sent) else {
            return Err(NetworkError::Answer("a counter is missing"));
        };
        Ok(Traffic::of([received.0, received.1, sent.0, sent.1]))
    }
}

const SHORT: NetworkError = NetworkError::Answer("it ends in the middle");

/// The first message: its kind and its body, and what comes after it.
fn message(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), NetworkError> {
    let head = bytes.get(..HEAD).ok_or(SHORT)?;
    let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let kind = u16::from_ne_bytes([head[4], head[5]]);
    let body = bytes.get(HEAD..length).ok_or(SHORT)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Ok((kind, body, rest))
}

/// The value of the first attribute of a kind; none without one.
fn find(mut attributes: &[u8], wanted: u16) -> Result<Option<&[u8]>, NetworkError> {
    /// The bits of a kind that are no flags.
    const KIND: u16 = 0x3fff;
    while !attributes.is_empty() {
        let head = attributes.get(..ATTRIBUTE_HEAD).ok_or(SHORT)?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = attributes.get(ATTRIBUTE_HEAD..length).ok_or(SHORT)?;
        if u16::from_ne_bytes([head[2], head[3]]) & KIND == wanted {
            return Ok(Some(value));
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

/// The kernel's refusal of a request.
fn refusal(body: &[u8]) -> NetworkError {
    let number = body.get(..4).and_then(|number| number.try_into().ok());
    let number = number.map_or(0, i32::from_ne_bytes);
    let source = io::Error::from_raw_os_error(number.saturating_neg());
    NetworkError::System { act: "read the counters", source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEAD + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn counter(name: &str, bytes: u64, packets: u64) -> Vec<u8> {
        let mut data = Vec::new();
        attribute(&mut data, COUNTER_BYTES, &bytes.to_be_bytes());
        attribute(&mut data, COUNTER_PACKETS, &packets.to_be_bytes());
        let mut body = vec![IPV4, 0, 0, 0];
        attribute(&mut body, OBJECT_NAME, format!("{name}\0").as_bytes());
        // The kernel says of a list that it is one.
        attribute(&mut body, OBJECT_DATA | 0x8000, &data);
        answer(NEW_OBJECT, &body)
    }

    #[test]
    fn an_answer_in_parts_gives_both_counters_whole() {
        let mut found = Found::default();
        let first = [counter(IN, u64::MAX, 1 << 63), counter("other", 1, 2)].concat();
        assert!(!found.take(&first).expect("well-formed"));
        assert!(found.traffic().is_err(), "one is missing");
        let last = [counter(OUT, 3, 4), answer(DONE, &[0; 4])].concat();
        assert!(found.take(&last).expect("well-formed"));
        assert_eq!(found.traffic().ok(), Some(Traffic::of([u64::MAX, 1 << 63, 3, 4])));
    }

    #[test]
    fn a_refusal_has_the_kernels_reason() {
        let refused = answer(ERROR, &(-1_i32).to_ne_bytes());
        let error = Found::default().take(&refused).expect_err("refused");
        let NetworkError::System { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
    }

    proptest! {
        /// Any bytes are read or refused.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Found::default().take(&bytes);
            let _ = Found::default().take(&answer(NEW_OBJECT, &bytes));
        }
    }
}
