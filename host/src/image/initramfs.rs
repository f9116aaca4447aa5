//! Initial RAM disks: cpio archives in the "new" (newc) format, the same bytes for the same
//! content.

use std::collections::BTreeMap;

/// The files of an initial RAM disk by path, without a leading slash. Folders come before their
/// content because paths are sorted.
#[derive(Debug, Default)]
pub(super) struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    content: Vec<u8>,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

impl Initramfs {
    pub(super) fn folder(&mut self, path: &str) {
        self.add(path, FOLDER | 0o755, Vec::new());
    }

    pub(super) fn file(&mut self, path: &str, content: Vec<u8>) {
        self.add(path, FILE | 0o644, content);
    }

    pub(super) fn program(&mut self, path: &str, content: Vec<u8>) {
        self.add(path, FILE | 0o755, content);
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) {
        self.add(path, SYMLINK | 0o777, target.into());
    }

    fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        if let Some((folder, _)) = path.rsplit_once('/')
            && !self.entries.contains_key(folder)
        {
            self.folder(folder);
        }
        self.entries.insert(path.into(), Entry { mode, content });
    }

    /// Returns the archive. Owner and times are zero, inode numbers count up.
    pub(super) fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (inode, (path, entry)) in (1..).zip(&self.entries) {
            append(&mut out, inode, path, entry);
        }
        append(&mut out, 0, "TRAILER!!!", &Entry { mode: 0, content: Vec::new() });
        out
    }
}

/// Appends an entry in the layout of `Documentation/driver-api/early-userspace/buffer-format.rst`
/// in the Linux tree.
fn append(out: &mut Vec<u8>, inode: usize, path: &str, entry: &Entry) {
    let links = 1;
    let [owner, group, time, device, check] = [0; 5];
    let mode = entry.mode as usize;
    let content = entry.content.len();
    let name = path.len() + 1;
    out.extend_from_slice(b"070701");
    for field in [
        inode, mode, owner, group, links, time, content, device, device, device, device, name,
        check,
    ] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_gives_the_same_bytes_in_any_order() {
        let mut one = Initramfs::default();
        one.program("bin/sh", vec![1, 2, 3]);
        one.symlink("bin/ls", "sh");
        one.folder("dev");
        let mut other = Initramfs::default();
        other.folder("dev");
        other.symlink("bin/ls", "sh");
        other.program("bin/sh", vec![1, 2, 3]);
        assert_eq!(one.archive(), other.archive());
    }

    #[test]
    fn a_folder_comes_before_what_it_holds() {
        let mut files = Initramfs::default();
        files.file("a/b/c", vec![]);
        assert_eq!(files.entries.keys().collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
        assert_eq!(files.entries["a/b"].mode, 0o040_755);
    }

    #[test]
    fn the_header_is_as_the_kernel_reads_it() {
        let mut files = Initramfs::default();
        files.program("init", b"hello".to_vec());
        let archive = files.archive();
        let header = "070701\
            00000001000081ed000000000000000000000001000000000000000500000000000000000000000000000000\
            0000000500000000";
        assert_eq!(&archive[..110], header.as_bytes());
        assert_eq!(&archive[110..116], b"init\0\0");
        assert_eq!(&archive[116..124], b"hello\0\0\0");
        assert!(archive.len().is_multiple_of(4));
    }
}
