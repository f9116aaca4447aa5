//! Numbers and acknowledgements.
//!
//! Each message of a connection has a number, counted from 1, and says up to which number those of
//! the other side were taken. A number that is left out is a message that was lost: the connection
//! is over, and so are its sessions. The message that begins a connection has the number 0.

use crate::fields::{Malformed, Reader, Writer};
use crate::frame::{self, Decoder};
use crate::message::Message;

/// Most messages that are sent before one of them was acknowledged.
pub const UNACKNOWLEDGED_MAX: u32 = 256;

/// Messages that are taken before they are acknowledged by a message of its own.
const ACKNOWLEDGE_AFTER: u32 = UNACKNOWLEDGED_MAX / 4;

/// The reason why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A message was lost.
    Lost {
        /// The number that was to come.
        expected: u32,
        /// The one that came.
        found: u32,
    },
    /// A message that was never sent was acknowledged.
    Acknowledged,
    /// A message can't be read.
    Malformed(Malformed),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost { expected, found } => {
                write!(f, "message {expected} was lost; {found} came instead")
            }
            Self::Acknowledged => f.write_str("a message that was never sent was acknowledged"),
            Self::Malformed(malformed) => malformed.fmt(f),
        }
    }
}

impl std::error::Error for Broken {}

/// The message for which a side waits before it takes any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// None: the connection has begun.
    Begun,
    /// The one that begins a connection; whoever may begin another one at any time waits for any.
    Any,
    /// The answer with this nonce.
    Answer(u128),
}

/// One side of a connection.
#[derive(Debug)]
pub struct Link {
    decoder: Decoder,
    waits: Waits,
    /// The other side may begin a new connection in the place of this one.
    is_guest: bool,
    /// The number of the last message that was sent.
    sent: u32,
    /// Up to which the other side has taken them.
    taken: u32,
    /// The number of the last message that came.
    received: u32,
    /// Up to which the other side was told so.
    told: u32,
}

impl Link {
    /// The side that begins a connection with a `Hello` of this nonce.
    pub fn host(nonce: u128) -> Self {
        Self::new(Waits::Answer(nonce), false)
    }

    /// The side that answers.
    pub fn guest() -> Self {
        Self::new(Waits::Any, true)
    }

    fn new(waits: Waits, is_guest: bool) -> Self {
        let decoder = Decoder::default();
        Self { decoder, waits, is_guest, sent: 0, taken: 0, received: 0, told: 0 }
    }

    /// Returns whether the other side has begun its part of the connection.
    pub fn has_begun(&self) -> bool {
        self.waits == Waits::Begun
    }

    /// Appends the frame of a message.
    pub fn send<M: Message>(&mut self, message: &M, out: &mut Vec<u8>) {
        if message.begins().is_some() {
            // Whatever was left half written ends here.
            out.push(frame::END);
        } else {
            self.sent += 1;
        }
        let number = if message.begins().is_some() { 0 } else { self.sent };
        let mut writer = Writer::default();
        writer.u32(number).u32(self.received);
        self.told = self.received;
        message.write(&mut writer);
        frame::encode(&writer.0, out);
    }

    /// Takes up a message that begins a connection; answers whether it is one that was waited for.
    fn begin(&mut self, nonce: u128) -> Result<bool, Broken> {
        match self.waits {
            Waits::Answer(wanted) if wanted == nonce => {}
            Waits::Answer(_) => return Ok(false),
            Waits::Any | Waits::Begun if self.is_guest => (self.sent, self.taken) = (0, 0),
            Waits::Any | Waits::Begun => {
                return Err(Broken::Malformed(Malformed("the connection has begun already")));
            }
        }
        self.waits = Waits::Begun;
        (self.received, self.told) = (0, 0);
        Ok(true)
    }

    /// Returns whether one more message may be sent now.
    pub fn has_room(&self) -> bool {
        self.sent - self.taken < UNACKNOWLEDGED_MAX
    }

    /// Returns whether everything that was sent has been taken.
    pub fn is_settled(&self) -> bool {
        self.sent == self.taken
    }

    /// Returns whether the other side should hear soon what was taken.
    pub fn owes_ack(&self) -> bool {
        self.received - self.told >= ACKNOWLEDGE_AFTER
    }

    /// The next message in what was read, of which it takes as much as it needs; none if that ends
    /// before one does. What comes before the connection has begun is passed over.
    ///
    /// # Errors
    /// [`Broken`]; the connection is over.
    pub fn receive<M: Message>(&mut self, bytes: &mut &[u8]) -> Result<Option<M>, Broken> {
        while let Some(frame) = self.decoder.next(bytes) {
            // What was cut ends a connection only by the number that is missing then: it may be the
            // rest of an earlier one.
            let Ok(body) = frame else { continue };
            let mut reader = Reader::new(&body);
            let mut read = || Ok((reader.u32()?, reader.u32()?, M::read(&mut reader)?));
            let (number, taken, message) = match read() {
                Ok(read) => read,
                Err(_) if !self.has_begun() => continue,
                Err(malformed) => return Err(Broken::Malformed(malformed)),
            };
            match message.begins() {
                Some(nonce) if self.begin(nonce)? => return Ok(Some(message)),
                None if self.has_begun() => {
                    self.take(number, taken)?;
                    return Ok(Some(message));
                }
                Some(_) | None => {}
            }
        }
        Ok(None)
    }

    fn take(&mut self, number: u32, taken: u32) -> Result<(), Broken> {
        let expected = self.received.wrapping_add(1);
        if number != expected {
            return Err(Broken::Lost { expected, found: number });
        }
        if taken < self.taken || taken > self.sent {
            return Err(Broken::Acknowledged);
        }
        (self.received, self.taken) = (number, taken);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::message::{FromGuest, FromHost, VERSION};

    fn hello(nonce: u128) -> FromHost {
        FromHost::Hello { version: VERSION, nonce }
    }

    fn all<M: Message>(link: &mut Link, mut bytes: &[u8]) -> Result<Vec<M>, Broken> {
        let mut found = Vec::new();
        while let Some(message) = link.receive(&mut bytes)? {
            found.push(message);
        }
        Ok(found)
    }

    fn input(byte: u8) -> FromHost {
        FromHost::Input { session: 1, bytes: vec![byte] }
    }

    #[test]
    fn what_was_left_of_an_earlier_connection_does_not_disturb_a_new_one() {
        let mut host = Link::host(1);
        let mut guest = Link::guest();
        let mut wire = Vec::new();
        host.send(&hello(1), &mut wire);
        host.send(&input(1), &mut wire);
        wire.truncate(wire.len() - 3);
        assert_eq!(all(&mut guest, &wire), Ok(vec![hello(1)]));
        let mut wire = Vec::new();
        let mut host = Link::host(2);
        host.send(&hello(2), &mut wire);
        host.send(&input(2), &mut wire);
        assert_eq!(all(&mut guest, &wire), Ok(vec![hello(2), input(2)]));
    }

    #[test]
    fn acknowledgements_make_room() {
        let mut host = Link::host(1);
        let mut guest = Link::guest();
        let mut wire = Vec::new();
        host.send(&hello(1), &mut wire);
        while host.has_room() {
            host.send(&input(0), &mut wire);
        }
        let taken = all::<FromHost>(&mut guest, &wire).expect("whole");
        assert_eq!(taken.len(), 1 + UNACKNOWLEDGED_MAX as usize);
        assert!(guest.owes_ack() && !host.is_settled());
        let mut back = Vec::new();
        let welcome = FromGuest::Welcome { version: VERSION, nonce: 1 };
        guest.send(&welcome, &mut back);
        guest.send(&FromGuest::Ack, &mut back);
        assert_eq!(guest.told, guest.received);
        assert_eq!(all(&mut host, &back), Ok(vec![welcome, FromGuest::Ack]));
        assert!(host.is_settled() && host.has_room());
    }

    #[test]
    fn a_message_that_was_never_sent_can_not_be_acknowledged() {
        let mut host = Link::host(1);
        let mut guest = Link::guest();
        let mut wire = Vec::new();
        guest.send(&FromGuest::Welcome { version: VERSION, nonce: 1 }, &mut wire);
        assert_eq!(all::<FromGuest>(&mut host, &wire).map(|all| all.len()), Ok(1));
        wire.clear();
        guest.received = 7;
        guest.send(&FromGuest::Ack, &mut wire);
        assert_eq!(all::<FromGuest>(&mut host, &wire), Err(Broken::Acknowledged));
    }

    #[test]
    fn an_answer_to_another_host_is_passed_over() {
        let mut host = Link::host(2);
        let mut guest = Link::guest();
        let mut wire = Vec::new();
        for nonce in [1, 2] {
            guest.send(&FromGuest::Welcome { version: VERSION, nonce }, &mut wire);
            guest.send(&FromGuest::Bye, &mut wire);
            guest = Link::guest();
        }
        let welcome = FromGuest::Welcome { version: VERSION, nonce: 2 };
        assert_eq!(all(&mut host, &wire), Ok(vec![welcome, FromGuest::Bye]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn a_lost_message_is_noticed_by_the_next(count in 2..20usize, lost in 0..19usize) {
            let mut host = Link::host(1);
            let mut guest = Link::guest();
            let lost = lost % (count - 1);
            let mut wire = Vec::new();
            host.send(&hello(1), &mut wire);
            for number in 0..count {
                let before = wire.len();
                host.send(&input(0), &mut wire);
                if number == lost {
                    wire.truncate(before);
                }
            }
            let lost = u32::try_from(lost).expect("small") + 1;
            prop_assert_eq!(all::<FromHost>(&mut guest, &wire), Err(Broken::Lost { expected: lost, found: lost + 1 }));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..3_000)) {
            let _ = all::<FromHost>(&mut Link::guest(), &bytes);
            let _ = all::<FromGuest>(&mut Link::host(0), &bytes);
        }

        #[test]
        fn no_frames_make_it_panic(bodies in vec(vec(any::<u8>(), 0..60), 0..20)) {
            let mut wire = Vec::new();
            for body in bodies {
                frame::encode(&body, &mut wire);
            }
            let _ = all::<FromHost>(&mut Link::guest(), &wire);
            let _ = all::<FromGuest>(&mut Link::host(0), &wire);
        }
    }
}
