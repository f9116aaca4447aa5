//! `tallyman instance exec`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use futures::stream::SplitSink;
use futures::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::args::duration;
use super::client::{Client, Socket};
use super::output::Output;
use super::terminal::{Raw, size};
use crate::api::ErrorBody;
use crate::api::model::{ExecControl, ExecRequest};

/// Bytes of input in one message.
const INPUT_BYTES: usize = 32 << 10;

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// Its id, its name, or its id's unique beginning
    id: String,
    /// Pass standard input on
    #[arg(long, short)]
    interactive: bool,
    /// Run it in a terminal
    #[arg(long, short)]
    tty: bool,
    /// A variable
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = super::args::tag)]
    env: Vec<(String, String)>,
    /// The folder to run it in
    #[arg(long, short = 'w')]
    cwd: Option<String>,
    /// The user to run it as: a name or a number, and after a colon a group
    #[arg(long, short)]
    user: Option<String>,
    /// End it by force after so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Time to wait for a guest that is still starting
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    wait_for_agent: Duration,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The command has ended with this code, which is ours too.
#[derive(Debug, thiserror::Error)]
#[error("the command ended with {0}")]
pub(super) struct ExitCode(pub(super) u8);

/// Output of the command, for `--json`.
#[derive(Debug, Default, Serialize)]
struct Collected {
    exit_code: i32,
    stdout: String,
    stderr: String,
}

/// A text message of the daemon.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Told {
    Ended {
        #[serde(rename = "exitCode")]
        exit_code: i32,
    },
    Failed {
        error: ErrorBody,
    },
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl Exec {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        if self.tty && output.is_json() {
            bail!("--json prints what a command wrote when it has ended; a terminal can't wait");
        }
        let mut socket = client.socket(&["instances", &self.id, "exec"]).await?;
        let request = serde_json::to_string(&self.request())?;
        socket.send(Message::text(request)).await.context("the daemon has gone")?;
        let raw = match self.interactive && self.tty && io::stdin().is_terminal() {
            true => Some(Raw::set()?),
            false => None,
        };
        let outcome = self.talk(socket, output).await;
        drop(raw);
        let collected = outcome?;
        if output.is_json() {
            output.show(&collected, |_| String::new())?;
        }
        match u8::try_from(collected.exit_code) {
            Ok(0) => Ok(()),
            Ok(code) => Err(ExitCode(code).into()),
            Err(_) => Err(ExitCode(u8::MAX).into()),
        }
    }

    fn request(&self) -> ExecRequest {
        let (rows, cols) = size().filter(|_| self.tty).unzip();
        let env: BTreeMap<_, _> = self.env.iter().cloned().collect();
        ExecRequest {
            command: self.command.clone(),
            tty: self.tty,
            env: Some(env),
            cwd: self.cwd.clone(),
            user: self.user.clone(),
            timeout: self.timeout.map(seconds),
            wait_for_agent: Some(seconds(self.wait_for_agent)),
            rows,
            cols,
            streams: true,
        }
    }

    async fn talk(&self, socket: Socket, output: Output) -> anyhow::Result<Collected> {
        let (mut sink, mut stream) = socket.split();
        if !self.interactive {
            control(&mut sink, &ExecControl::Eof(true)).await?;
        }
        let mut collected = Collected::default();
        let mut resized = signal(SignalKind::window_change())?;
        let mut input = if self.interactive { Some(input()) } else { None };
        loop {
            tokio::select! {
                message = stream.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => show(&bytes, output, &mut collected)?,
                    Some(Ok(Message::Text(text))) => {
                        collected.exit_code = ended(&text)?;
                        return Ok(collected);
                    }
                    Some(Ok(Message::Close(Some(close)))) => bail!("{}", close.reason),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error).context("the session broke off"),
                    None => bail!("the session broke off"),
                },
                Some(read) = next(&mut input) => match read {
                    Some(bytes) => sink.send(Message::binary(bytes)).await?,
                    None => {
                        input = None;
                        control(&mut sink, &ExecControl::Eof(true)).await?;
                    }
                },
                Some(()) = resized.recv(), if self.tty => {
                    if let Some((rows, cols)) = size() {
                        control(&mut sink, &ExecControl::Resize { rows, cols }).await?;
                    }
                }
            }
        }
    }
}

/// Standard input, which a thread reads: the end of the command does not wait for a
/// key.
fn input() -> mpsc::Receiver<Vec<u8>> {
    let (read, input) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut buffer = vec![0; INPUT_BYTES];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut buffer) {
            if read.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    input
}

/// The next input, or its end; none if there is none to come.
async fn next(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Option<Vec<u8>>> {
    match input {
        Some(input) => Some(input.recv().await),
        None => None,
    }
}

async fn control(
    sink: &mut SplitSink<Socket, Message>,
    control: &ExecControl,
) -> anyhow::Result<()> {
    let text = serde_json::to_string(control)?;
    // Whoever does not take it any more says so by what we read.
    let _ = sink.send(Message::text(text)).await;
    Ok(())
}

fn ended(text: &str) -> anyhow::Result<i32> {
    match serde_json::from_str(text).context("the daemon said something unexpected")? {
        Told::Ended { exit_code } => Ok(exit_code),
        Told::Failed { error } => Err(anyhow!("{} [{}]", error.message, error.code)),
    }
}

/// Prints what the command wrote as it is, or keeps it.
fn show(bytes: &[u8], output: Output, collected: &mut Collected) -> anyhow::Result<()> {
    let Some((&stream, bytes)) = bytes.split_first() else { return Ok(()) };
    let is_error = stream == 2;
    if output.is_json() {
        let kept = if is_error { &mut collected.stderr } else { &mut collected.stdout };
        kept.push_str(&String::from_utf8_lossy(bytes));
        return Ok(());
    }
    if is_error {
        io::stderr().write_all(bytes)?;
    } else {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
    }
    Ok(())
}
