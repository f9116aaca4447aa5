//! The file that names the receivers.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::sign::Secret;
use crate::id::TenantId;
use crate::limits::delivery as limits;

/// Name of the file in the data folder.
pub const FILE: &str = "receivers.json";

/// A kind of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Intervals that have ended.
    Usage,
    /// Documents that were made final.
    Documents,
    /// Matters that need an operator: policies in quarantine, time that is unknown.
    Alerts,
    /// Policies that failed, machines that crashed.
    Faults,
}

/// The fact from which a new receiver gets events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Begin {
    /// The end of the journal at the first start with this receiver.
    #[default]
    Now,
    /// The first fact.
    Start,
}

/// A receiver of events.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Name, also of its cursor: lower-case letters, digits and hyphens.
    pub name: String,
    /// Address that events are sent to.
    pub(super) url: String,
    /// Topics of the events that it gets.
    pub(super) send: Vec<Topic>,
    /// The tenant whose events it gets; absent for all tenants.
    pub(super) tenant: Option<TenantId>,
    /// Secrets that requests are signed with, each: two while one is replaced.
    #[serde(default)]
    pub(super) secrets: Vec<Secret>,
    /// Token for the header `Authorization`; absent for none.
    pub(super) token: Option<String>,
    /// Most events in one request. With 1, a request is one event and no list.
    #[serde(default = "one")]
    pub(super) batch: usize,
    /// The first event.
    #[serde(default)]
    pub(super) begin: Begin,
}

fn one() -> usize {
    1
}

/// The content of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Receivers {
    receivers: Vec<Receiver>,
}

/// Error of the file of receivers.
#[derive(Debug, thiserror::Error)]
pub enum ReceiversError {
    /// The file can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("{} holds secrets and is open to others (mode {mode:o}); chmod 600 it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no list of receivers.
    #[error("{} is not a list of receivers", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The place and the reason.
        #[source]
        source: serde_json::Error,
    },
    /// A receiver can't be as it is.
    #[error("{}: receiver '{name}': {problem}", path.display())]
    Receiver {
        /// The file.
        path: PathBuf,
        /// The receiver.
        name: String,
        /// The fault, and what is valid.
        problem: String,
    },
}

/// Reads the receivers that a file names; none if there is no file.
///
/// # Errors
/// [`ReceiversError`].
pub fn read(path: &Path) -> Result<Vec<Receiver>, ReceiversError> {
    let failed = |source| ReceiversError::Read { path: path.into(), source };
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(failed)?,
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(ReceiversError::Open { path: path.into(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let form = |source| ReceiversError::Form { path: path.into(), source };
    let Receivers { receivers } = serde_json::from_str(&text).map_err(form)?;
    check(&receivers).map_err(|(name, problem)| ReceiversError::Receiver {
        path: path.into(),
        name,
        problem,
    })?;
    Ok(receivers)
}

fn check(receivers: &[Receiver]) -> Result<(), (String, String)> {
    for (at, receiver) in receivers.iter().enumerate() {
        let fault = |problem: &str| Err((receiver.name.clone(), problem.to_owned()));
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = &receiver.name;
        if name.is_empty() || name.len() > 40 || !name.chars().all(is_name) {
            return fault("a name has 1 to 40 lower-case letters, digits and hyphens");
        }
        if receivers[..at].iter().any(|other| other.name == *name) {
            return fault("the name is there twice");
        }
        let url = reqwest::Url::parse(&receiver.url);
        if !url.is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host()) {
            return fault("its url is none; write it like https://example.com/events");
        }
        if receiver.send.is_empty() {
            return fault("`send` names no topic; there are usage, documents, alerts, faults");
        }
        if receiver.batch == 0 || receiver.batch > limits::BATCH_MAX {
            return fault(&format!("`batch` is 1 to {}", limits::BATCH_MAX));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn told(text: &str, mode: u32) -> Result<Vec<Receiver>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
        read(&path).map_err(|error| {
            error.to_string()
                + &std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
        })
    }

    #[test]
    fn a_receiver_has_a_name_an_address_and_topics() {
        assert!(read(Path::new("/nowhere/receivers.json")).expect("none").is_empty());
        let one = r#"{"name": "a", "url": "http://x/y", "send": ["usage", "alerts"]}"#;
        let read = told(&format!(r#"{{"receivers": [{one}]}}"#), 0o600).expect("a receiver");
        assert_eq!(read[0].send, [Topic::Usage, Topic::Alerts]);
        assert_eq!((read[0].batch, read[0].begin), (1, Begin::Now));
        let rows = [
            (format!("{one},{one}"), "twice"),
            (one.replace("\"a\"", "\"A\""), "lower-case"),
            (one.replace("http:", "ftp:"), "https://example.com"),
            (one.replace("\"usage\", \"alerts\"", ""), "no topic"),
            (one.replace("usage", "use"), "unknown variant"),
            (one.replace("\"send\"", "\"batch\": 0, \"send\""), "1 to 1000"),
            (one.replace("\"send\"", "\"retry\": 0, \"send\""), "unknown field"),
            (one.replace("\"send\"", "\"secrets\": [\"x\"], \"send\""), "whsec_"),
        ];
        for (text, words) in rows {
            let error = told(&format!(r#"{{"receivers": [{text}]}}"#), 0o600).expect_err(words);
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(told("{\"receivers\": []}", 0o640).expect_err("open").contains("chmod 600"));
    }
}
