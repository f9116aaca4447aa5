//! Commands and files in guests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The first message of `exec`: a command to run in the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// Run it in a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Variables beside the agent's own.
    #[serde(default)]
    pub env: Option<BTreeMap<String, String>>,
    /// The folder to run it in; `/` if absent.
    #[serde(default)]
    pub cwd: Option<String>,
    /// The user to run it as, `USER[:GROUP]` by name or number; root if absent.
    #[serde(default)]
    pub user: Option<String>,
    /// After how many seconds it is ended by force; never if absent or 0.
    #[serde(default)]
    pub timeout: Option<u64>,
    /// Seconds to wait for the agent of a guest that is still starting; 10 if absent.
    #[serde(default)]
    pub wait_for_agent: Option<u64>,
    /// Lines of the terminal; 24 if absent.
    #[serde(default)]
    pub rows: Option<u16>,
    /// Columns of the terminal; 80 if absent.
    #[serde(default)]
    pub cols: Option<u16>,
    /// Keep standard output and standard error apart: each binary message from the guest begins
    /// with the byte 1 or 2, and what fails is told in a message of its own.
    #[serde(default)]
    pub streams: bool,
}

/// A later text message of `exec` to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ExecControl {
    /// The terminal has another size.
    Resize {
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// A signal for the command and what it started, by number.
    Signal(i32),
    /// `true`: there is no more input.
    Eof(bool),
}

/// The first message of `cp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "direction", rename_all = "lowercase", deny_unknown_fields)]
pub enum CopyRequest {
    /// A file or a folder is written. Its content follows in binary messages, and
    /// `{"type":"end"}`.
    To {
        /// The place.
        guest_path: String,
        /// It is a folder, and has no content.
        #[serde(default)]
        is_dir: bool,
        /// Permissions; 0644 for a file and 0755 for a folder if absent.
        #[serde(default)]
        mode: Option<u32>,
        /// The owner; root, or the owner that a file has, if absent.
        #[serde(default)]
        uid: Option<u32>,
        /// The group.
        #[serde(default)]
        gid: Option<u32>,
    },
    /// A file, or a folder with all that is in it, is read.
    From {
        /// The subject.
        guest_path: String,
        /// Files that links point at are read in their place.
        #[serde(default)]
        follow_links: bool,
    },
}

/// A text message of `cp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum CopyMessage {
    /// The end of what is written; or of an entry that is read, `final` if it is the last one.
    End {
        /// No entry follows.
        #[serde(default, rename = "final")]
        is_final: bool,
    },
    /// The file or folder is written.
    Result {
        /// It is.
        success: bool,
        /// Bytes of its content.
        bytes_written: u64,
    },
    /// An entry; the content of a file follows in binary messages, and `end`.
    Header(CopyHeader),
    /// Something went wrong; nothing follows.
    Error {
        /// The subject.
        message: String,
        /// With which path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
}

/// A file, a folder or a link that is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyHeader {
    /// Path that begins with the name of what was asked for.
    pub path: String,
    /// Permissions.
    pub mode: u32,
    /// Bytes of content.
    pub size: u64,
    /// The time of its last change, in seconds since 1970.
    pub mtime: i64,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// It is a folder.
    pub is_dir: bool,
    /// It is a symbolic link.
    #[serde(default)]
    pub is_symlink: bool,
    /// The target of a link.
    #[serde(default)]
    pub link_target: String,
}

/// The thing at a path in a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathInfo {
    /// Something is.
    pub exists: bool,
    /// It is a folder.
    pub is_dir: bool,
    /// It is a file.
    pub is_file: bool,
    /// It is a symbolic link.
    pub is_symlink: bool,
    /// The target of a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_target: Option<String>,
    /// Permissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Bytes of content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The time of its last change, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// The owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The reason why it can't be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
