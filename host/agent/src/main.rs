//! The program inside a guest: it runs commands and moves files for the host, sets the clock, and
//! stirs the random pool.
//!
//! ```text
//! tallyman-agent init              brings a machine up as its first process
//! tallyman-agent network           sets the network card up, as the kernel's command line says
//! tallyman-agent serve             waits for the host on the machine's port, in the background
//! tallyman-agent serve --fd N      speaks on an open socket; leaves clock and random pool alone
//! tallyman-agent helper ...        moves one file, for the agent
//! ```

mod agent;
mod card;
mod helper;
mod hold;
mod init;
mod port;
mod power;
mod session;
mod spawn;
mod sync;
mod user;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use crate::agent::Agent;
use crate::port::Port;

const USAGE: &str = "usage: tallyman-agent serve [--fd NUMBER]";

fn main() -> ExitCode {
    session::heed_signals();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let outcome = match words.as_slice() {
        ["serve"] => serve(),
        ["serve", "--fd", number] => serve_on(number),
        ["network"] => card::set_up(),
        ["init"] => init::run(),
        ["helper", ..] => return helper::run(&arguments[1..]),
        _ => Err(io::Error::other(USAGE)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tallyman-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the port of this machine from the background. What started us goes on when we listen.
fn serve() -> io::Result<()> {
    let port = Port::find()?;
    // SAFETY: no other thread was started.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            rustix::process::setsid()?;
            sync::take_precedence();
            Agent::new(port, true)?.run()
        }
        _ => Ok(()),
    }
}

fn serve_on(number: &str) -> io::Result<()> {
    let number = number.parse().map_err(|_| io::Error::other(USAGE))?;
    Agent::new(Port::inherited(number)?, false)?.run()
}
