//! `tallyman instance cp` and `stat`.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use futures::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Socket};
use super::output::{self, Output};
use crate::api::model::{CopyHeader, CopyMessage, CopyRequest, PathInfo};

/// Bytes of content in one message.
const CONTENT_BYTES: usize = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct Copy {
    /// A file or a folder: a path here, or INSTANCE:/PATH
    from: String,
    /// The place to copy to: INSTANCE:/PATH, or a path here
    to: String,
    /// Keep owners
    #[arg(long, short)]
    archive: bool,
    /// Copy what links in the guest point at
    #[arg(long, short = 'L')]
    follow_links: bool,
}

#[derive(Debug, Args)]
pub(super) struct Stat {
    /// INSTANCE:/PATH
    path: String,
    /// Look at what a link points at
    #[arg(long, short = 'L')]
    follow_links: bool,
}

/// The amount that was copied.
#[derive(Debug, Default, Serialize)]
struct Copied {
    entries: u64,
    bytes: u64,
}

/// An instance and a path in its guest; none for a path here.
fn in_guest(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(id, path)| !id.contains('/') && path.starts_with('/'))
}

impl Copy {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let copied = match (in_guest(&self.from), in_guest(&self.to)) {
            (None, Some((id, path))) => {
                self.upload(client, id, Path::new(&self.from), path).await?
            }
            (Some((id, path)), None) => {
                self.download(client, id, path, Path::new(&self.to)).await?
            }
            (Some(_), Some(_)) | (None, None) => {
                bail!("one of the two is in a guest, as in `cp notes.txt web:/root/notes.txt`")
            }
        };
        output.show(&copied, |copied| format!("{} bytes are copied", copied.bytes))
    }

    async fn upload(
        &self,
        client: &Client,
        id: &str,
        from: &Path,
        to: &str,
    ) -> anyhow::Result<Copied> {
        // Into a folder that is there goes the thing under its own name.
        let info = stat(client, id, to, true).await?;
        let name = from.file_name().map(|name| name.to_string_lossy().into_owned());
        let to = match name.filter(|_| info.is_dir) {
            Some(name) => format!("{}/{name}", to.trim_end_matches('/')),
            None => to.to_owned(),
        };
        let mut copied = Copied::default();
        let mut waiting = vec![(from.to_owned(), to)];
        while let Some((path, guest_path)) = waiting.pop() {
            let data =
                fs::metadata(&path).with_context(|| format!("can't read {}", path.display()))?;
            if data.is_dir() {
                for one in fs::read_dir(&path)? {
                    let one = one?;
                    let name = one.file_name();
                    let name = name.to_str().ok_or_else(|| anyhow!("{name:?} is not UTF-8"))?;
                    waiting.push((one.path(), format!("{guest_path}/{name}")));
                }
            }
            let owner = |id| self.archive.then_some(id);
            let request = CopyRequest::To {
                guest_path,
                is_dir: data.is_dir(),
                mode: Some(data.mode() & 0o7777),
                uid: owner(data.uid()),
                gid: owner(data.gid()),
            };
            copied.bytes += send(client, id, &path, data.is_dir(), &request).await?;
            copied.entries += 1;
        }
        Ok(copied)
    }

    async fn download(
        &self,
        client: &Client,
        id: &str,
        from: &str,
        to: &Path,
    ) -> anyhow::Result<Copied> {
        let request =
            CopyRequest::From { guest_path: from.into(), follow_links: self.follow_links };
        let mut socket = ask(client, id, &request).await?;
        let mut target = Target::new(to, self.archive);
        loop {
            match hear(&mut socket).await? {
                Message::Binary(bytes) => target.content(&bytes)?,
                Message::Text(text) => match serde_json::from_str(&text)? {
                    CopyMessage::Header(header) => target.begin(header)?,
                    CopyMessage::End { is_final } => {
                        target.end()?;
                        if is_final {
                            return Ok(std::mem::take(&mut target.copied));
                        }
                    }
                    CopyMessage::Error { message, path } => return Err(failed(&message, path)),
                    CopyMessage::Result { .. } => bail!("the daemon said something unexpected"),
                },
                _ => {}
            }
        }
    }
}

fn failed(message: &str, path: Option<String>) -> anyhow::Error {
    match path {
        Some(path) => anyhow!("{path}: {message}"),
        None => anyhow!("{message}"),
    }
}

async fn ask(client: &Client, id: &str, request: &CopyRequest) -> anyhow::Result<Socket> {
    let mut socket = client.socket(&["instances", id, "cp"]).await?;
    socket.send(Message::text(serde_json::to_string(request)?)).await?;
    Ok(socket)
}

async fn hear(socket: &mut Socket) -> anyhow::Result<Message> {
    match socket.next().await {
        Some(Ok(Message::Close(Some(close)))) => bail!("{}", close.reason),
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(error).context("the copy broke off"),
        None => bail!("the copy broke off"),
    }
}

/// Sends one entry; answers how many bytes the guest has of it.
async fn send(
    client: &Client,
    id: &str,
    path: &Path,
    is_folder: bool,
    request: &CopyRequest,
) -> anyhow::Result<u64> {
    let mut socket = ask(client, id, request).await?;
    if !is_folder {
        let mut file =
            File::open(path).with_context(|| format!("can't read {}", path.display()))?;
        let mut content = vec![0; CONTENT_BYTES];
        loop {
            let count = file.read(&mut content)?;
            if count == 0 {
                break;
            }
            let sent = socket.send(Message::binary(content[..count].to_vec())).await;
            if sent.is_err() {
                // What was wrong has been said.
                break;
            }
        }
    }
    let end = serde_json::to_string(&CopyMessage::End { is_final: true })?;
    let _ = socket.send(Message::text(end)).await;
    loop {
        if let Message::Text(text) = hear(&mut socket).await? {
            return match serde_json::from_str(&text)? {
                CopyMessage::Result { bytes_written, .. } => Ok(bytes_written),
                CopyMessage::Error { message, path } => Err(failed(&message, path)),
                CopyMessage::Header(_) | CopyMessage::End { .. } => {
                    bail!("the daemon said something unexpected")
                }
            };
        }
    }
}

/// The place for what comes out of a guest. Nothing of it leads elsewhere.
struct Target {
    /// The folder that takes it.
    folder: PathBuf,
    /// The name that it gets there instead of its own.
    name: Option<PathBuf>,
    archive: bool,
    entry: Option<(CopyHeader, PathBuf)>,
    file: Option<tempfile::NamedTempFile>,
    /// Permissions of folders, set when all is in them.
    folders: Vec<(PathBuf, u32)>,
    copied: Copied,
}

impl Target {
    fn new(to: &Path, archive: bool) -> Self {
        let (folder, name) = match to.is_dir() {
            true => (to.to_owned(), None),
            false => {
                let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
                let folder = parent.unwrap_or(Path::new(".")).to_owned();
                (folder, to.file_name().map(PathBuf::from))
            }
        };
        let copied = Copied::default();
        Self { folder, name, archive, entry: None, file: None, folders: Vec::new(), copied }
    }

    /// The place of an entry. The guest chooses the path: it stays inside, and passes no link.
    fn place(&self, path: &str) -> anyhow::Result<PathBuf> {
        let plain = Path::new(path);
        let mut parts = plain.components();
        let is_plain = plain.components().all(|part| matches!(part, Component::Normal(_)));
        let first = parts.next().filter(|_| is_plain);
        let first = first
            .with_context(|| format!("the guest sent a path that leads elsewhere: {path:?}"))?;
        let first = self.name.as_deref().unwrap_or(Path::new(first.as_os_str()));
        let mut place = self.folder.join(first);
        for part in parts {
            let is_link = fs::symlink_metadata(&place).is_ok_and(|data| data.is_symlink());
            ensure!(!is_link, "{} is a link; nothing is written through it", place.display());
            place.push(part);
        }
        Ok(place)
    }

    fn begin(&mut self, header: CopyHeader) -> anyhow::Result<()> {
        ensure!(self.entry.is_none(), "the daemon began an entry inside another one");
        let place = self.place(&header.path)?;
        let parent = place.parent().unwrap_or(Path::new("."));
        if header.is_dir {
            let is_there = fs::symlink_metadata(&place).is_ok_and(|data| data.is_dir());
            if !is_there {
                fs::create_dir(&place)
                    .with_context(|| format!("can't make {}", place.display()))?;
            }
            self.folders.push((place.clone(), header.mode));
        } else if header.is_symlink {
            if fs::symlink_metadata(&place).is_ok_and(|data| !data.is_dir()) {
                fs::remove_file(&place)?;
            }
            symlink(&header.link_target, &place)
                .with_context(|| format!("can't make the link {}", place.display()))?;
        } else {
            let file = tempfile::NamedTempFile::new_in(parent);
            self.file = Some(file.with_context(|| format!("can't write in {}", parent.display()))?);
        }
        self.entry = Some((header, place));
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let file = self.file.as_mut().context("the daemon sent content that is of no file")?;
        self.copied.bytes += bytes.len() as u64;
        Ok(file.write_all(bytes)?)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let (header, place) = self.entry.take().context("the daemon ended an entry twice")?;
        self.copied.entries += 1;
        if let Some(file) = self.file.take() {
            file.as_file().set_permissions(fs::Permissions::from_mode(header.mode))?;
            file.persist(&place).with_context(|| format!("can't write {}", place.display()))?;
        }
        if self.archive {
            std::os::unix::fs::lchown(&place, Some(header.uid), Some(header.gid))
                .with_context(|| format!("can't give {} its owner", place.display()))?;
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for (folder, mode) in self.folders.iter().rev() {
            // What was copied is there, with usual permissions.
            let _ = fs::set_permissions(folder, fs::Permissions::from_mode(*mode));
        }
    }
}

async fn stat(client: &Client, id: &str, path: &str, follow: bool) -> anyhow::Result<PathInfo> {
    let query = [("path", path), ("follow_links", if follow { "true" } else { "false" })];
    client.get(&["instances", id, "stat"], &query).await
}

impl Stat {
    pub(super) async fn run(self, client: &Client, output: Output) -> anyhow::Result<()> {
        let (id, path) = in_guest(&self.path)
            .with_context(|| format!("write it like web:/etc/hostname, not '{}'", self.path))?;
        let info = stat(client, id, path, self.follow_links).await?;
        if let Some(error) = &info.error {
            bail!("{path}: {error}");
        }
        ensure!(info.exists, "{path}: nothing is there");
        output.show(&info, details)
    }
}

fn details(info: &PathInfo) -> String {
    let kind = match info {
        PathInfo { is_dir: true, .. } => "folder",
        PathInfo { is_file: true, .. } => "file",
        PathInfo { is_symlink: true, .. } => "link",
        PathInfo { .. } => "device, socket or pipe",
    };
    let owner = info.uid.zip(info.gid).map(|(uid, gid)| format!("{uid}:{gid}"));
    let rows = [
        ("kind", Some(kind.to_owned())),
        ("points at", info.link_target.clone()),
        ("mode", info.mode.map(|mode| format!("{mode:04o}"))),
        ("owner", owner),
        ("bytes", info.size.map(|size| size.to_string())),
    ];
    output::pairs(rows.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_named_before_an_absolute_path() {
        assert_eq!(in_guest("web:/etc/x"), Some(("web", "/etc/x")));
        for text in ["web", "./a:/b", "a:b", "/a:/b"] {
            assert_eq!(in_guest(text), None, "{text}");
        }
    }

    #[test]
    fn no_path_of_a_guest_leads_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        symlink("/", folder.path().join("link")).expect("a link");
        let target = Target::new(folder.path(), false);
        assert_eq!(target.place("a/b").expect("inside"), folder.path().join("a/b"));
        for path in ["", "/etc/passwd", "../x", "a/../../x", "link/etc/passwd"] {
            target.place(path).expect_err(path);
        }
        let renamed = Target::new(&folder.path().join("new"), false);
        assert_eq!(renamed.place("a/b").expect("inside"), folder.path().join("new/b"));
    }
}
