//! Guests that say what no agent says: the host never panics, never waits longer than it said, and
//! serves the next agent that keeps to the protocol.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent::fields::Writer;
use agent::frame;
use agent::link::Link;
use agent::message::{Ending, Exec, FromGuest, FromHost, Message, Open, VERSION, What};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// Connections of a usual run.
const ROUNDS: u64 = 300;

/// Longest wait for an agent that says nothing of use.
const PATIENCE: Duration = Duration::from_millis(30);

fn exec() -> Open {
    let exec = Exec { argv: vec![b"true".to_vec()], ..Exec::default() };
    Open { what: What::Exec(exec), timeout_ms: 0 }
}

/// Messages of a guest as they might come, for the host's first session.
fn messages() -> Vec<FromGuest> {
    vec![
        FromGuest::Synced { before_ns: i64::MIN, after_ns: i64::MAX, seeded: false },
        FromGuest::Opened { session: 1 },
        FromGuest::Output { session: 1, is_error: true, bytes: vec![b'x'; 900] },
        FromGuest::Grant { session: 1, bytes: 1 },
        FromGuest::Refused { session: 1, errno: i32::MIN, text: "no".into() },
        FromGuest::Held { done: true },
        FromGuest::Ended { session: 1, ending: Ending::Code(0) },
        FromGuest::Ended { session: 9, ending: Ending::Signal(9) },
        FromGuest::Ack,
        FromGuest::Bye,
    ]
}

fn framed(number: u32, taken: u32, message: &FromGuest, out: &mut Vec<u8>) {
    let mut writer = Writer::default();
    writer.u32(number).u32(taken);
    message.write(&mut writer);
    frame::encode(&writer.0, out);
}

/// An answer to a `Hello`: right at its beginning, mostly, and anything afterwards.
fn nonsense(nonce: u128, dice: &mut StdRng) -> Vec<u8> {
    let mut out = Vec::new();
    let version = if dice.random_bool(0.9) { VERSION } else { dice.random() };
    framed(0, 0, &FromGuest::Welcome { version, nonce }, &mut out);
    let known = messages();
    for number in 1..dice.random_range(1..9) {
        let message = &known[dice.random_range(0..known.len())];
        let number = if dice.random_bool(0.95) { number } else { dice.random() };
        let taken = if dice.random_bool(0.8) { 0 } else { dice.random_range(0..9) };
        framed(number, taken, message, &mut out);
    }
    for _ in 0..dice.random_range(0..4) {
        let at = dice.random_range(0..out.len());
        match dice.random_range(0..3) {
            0 => out[at] = dice.random(),
            1 => out.insert(at, dice.random()),
            _ => out.truncate(at.max(1)),
        }
    }
    out
}

/// Waits for the `Hello` of a connection.
async fn greeted(stream: &mut UnixStream, link: &mut Link) -> io::Result<u128> {
    let mut buffer = [0; 4_096];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = &buffer[..count];
        while let Ok(Some(message)) = link.receive::<FromHost>(&mut bytes) {
            if let FromHost::Hello { nonce, .. } = message {
                return Ok(nonce);
            }
        }
    }
}

async fn speak_nonsense(stream: &mut UnixStream, dice: &mut StdRng) -> io::Result<()> {
    let nonce = greeted(stream, &mut Link::guest()).await?;
    stream.write_all(&nonsense(nonce, dice)).await?;
    let mut buffer = [0; 4_096];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// An agent that keeps to the protocol, and has every command end at once.
async fn serve(mut stream: UnixStream) -> io::Result<()> {
    let mut link = Link::guest();
    let mut buffer = [0; 4_096];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let mut out = Vec::new();
        let mut bytes = &buffer[..count];
        while let Ok(Some(message)) = link.receive::<FromHost>(&mut bytes) {
            match message {
                FromHost::Hello { nonce, .. } => {
                    link.send(&FromGuest::Welcome { version: VERSION, nonce }, &mut out);
                }
                FromHost::Sync { wall_ns, .. } => {
                    let synced =
                        FromGuest::Synced { before_ns: 0, after_ns: wall_ns, seeded: true };
                    link.send(&synced, &mut out);
                }
                FromHost::Open { session, .. } => {
                    link.send(&FromGuest::Opened { session }, &mut out);
                    let ending = Ending::Code(0);
                    link.send(&FromGuest::Ended { session, ending }, &mut out);
                }
                _ => {}
            }
        }
        stream.write_all(&out).await?;
    }
}

/// Opens a session and follows it to its end, if it has one.
async fn visit(guest: &Guest, patience: Duration) -> Result<Ending, GuestError> {
    let mut session = guest.open(exec(), patience).await?;
    loop {
        let next = timeout(patience, session.next()).await;
        match next.map_err(|_| GuestError::Silent(patience))?? {
            SessionEvent::Ended(ending) => return Ok(ending),
            SessionEvent::Output { .. } => {}
        }
    }
}

#[tokio::test]
async fn a_guest_may_say_what_it_likes_and_harms_itself_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let way = Way { socket, vsock_port: None };
    let (tell, mut told) = tokio::sync::watch::channel(0_u64);
    let agents = tokio::spawn(async move {
        let mut dice = StdRng::seed_from_u64(20);
        loop {
            let (mut stream, _) = listener.accept().await.expect("the host comes");
            if *told.borrow_and_update() < ROUNDS {
                // A host that has had enough goes.
                let _ = speak_nonsense(&mut stream, &mut dice).await;
            } else {
                tokio::spawn(serve(stream));
            }
        }
    });
    for round in 0..ROUNDS {
        tell.send_replace(round);
        let guest = Guest::new(way.clone());
        let _ = visit(&guest, PATIENCE).await;
        guest.close(Cut::Standby).await;
    }
    tell.send_replace(ROUNDS);
    let guest: Arc<Guest> = Guest::new(way);
    guest.hold().await;
    let ending = visit(&guest, Duration::from_secs(20)).await;
    assert_eq!(ending.expect("a good agent"), Ending::Code(0));
    agents.abort();
}
