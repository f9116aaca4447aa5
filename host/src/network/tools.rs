//! The programs that networks are made with, and what a host needs for them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::NetworkError;
use super::namespace::Namespace;

/// The switch of the host's forwarding.
pub(super) const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The device that taps are made with.
const TUN: &str = "/dev/net/tun";

/// A program, and the Debian package that holds it.
#[derive(Debug, Clone, Copy)]
struct Tool {
    program: &'static str,
    package: &'static str,
}

const IP: Tool = Tool { program: "ip", package: "iproute2" };
const NFT: Tool = Tool { program: "nft", package: "nftables" };

/// Carries out lines of `ip`, up to the first that fails, in the namespace of this thread.
pub(super) fn ip(lines: &[String]) -> Result<(), NetworkError> {
    let mut text = lines.join("\n");
    text.push('\n');
    IP.run(&["-batch", "-"], &text)
}

/// Carries out rules in the namespace of this thread, all or none.
pub(super) fn nft(rules: &Value) -> Result<(), NetworkError> {
    NFT.run(&["-j", "-f", "-"], &rules.to_string())
}

impl Tool {
    fn command(self) -> Command {
        let mut command = Command::new(self.program);
        // Where Debian has them is not on everybody's path.
        let mut search = std::env::var_os("PATH").unwrap_or_default();
        search.push(OsString::from(":/usr/sbin:/sbin"));
        command.env("PATH", search).env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn run(self, arguments: &[&str], input: &str) -> Result<(), NetworkError> {
        let failed =
            |source| NetworkError::Tool { program: self.program, package: self.package, source };
        let mut child = self.command().args(arguments).spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read says why on its standard error.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Err(NetworkError::Refused {
            program: self.program,
            status: output.status.to_string(),
            said: said.join("; "),
        })
    }

    fn is_there(self) -> bool {
        let probed = self.command().arg("-V").stderr(Stdio::null()).stdin(Stdio::null()).status();
        probed.is_ok()
    }
}

/// Something that a host lacks for networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortcoming {
    /// The fault, in words.
    pub fault: String,
    /// The remedy: a command, or words.
    pub remedy: &'static str,
}

/// Finds what this host lacks for networks of guests; nothing if it can have them. Changes nothing.
pub fn examine() -> Vec<Shortcoming> {
    let mut lacks = Vec::new();
    let mut lack = |fault: String, remedy| lacks.push(Shortcoming { fault, remedy });
    if !IP.is_there() {
        lack("`ip` can't be run".into(), "apt-get install iproute2");
    }
    if !NFT.is_there() {
        lack("`nft` can't be run".into(), "apt-get install nftables");
    }
    if let Err(error) = File::options().read(true).write(true).open(TUN) {
        let remedy = "run as root, or let the daemon's user read and write /dev/net/tun";
        lack(format!("{TUN} can't be opened: {error}"), remedy);
    }
    if let Err(error) = Namespace::new() {
        let remedy = "run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN";
        lack(crate::causes::in_words(&error), remedy);
    }
    if !fs::read_to_string(FORWARDING).is_ok_and(|text| text.trim() == "1") {
        lack("the host does not forward packets".into(), "sysctl -w net.ipv4.ip_forward=1");
    }
    lacks
}
