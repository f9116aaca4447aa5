//! Writes a tree as an EROFS image: read-only, uncompressed, the same bytes for the same tree.
//!
//! The layout is that of the kernel's `fs/erofs/erofs_fs.h`: a superblock, all inodes with their
//! attributes and the tails of what they hold, then whole blocks of content. Every inode is of the
//! extended form, so that owners, times and sizes have no bounds that matter.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;

use super::tree::{Attributes, Content, Kind, Node, NodeId, ROOT, Tree};

const BLOCK: u64 = 4_096;
const MAGIC: u32 = 0xe0f5_e1e2;
const SUPERBLOCK_AT: u64 = 1_024;
const SUPERBLOCK_BYTES: u64 = 128;
const INODE_BYTES: u64 = 64;
/// Inodes begin at multiples of this; their number is their place in such units.
const SLOT: u64 = 32;
const XATTR_HEADER_BYTES: u64 = 12;
const DIRENT_BYTES: usize = 12;
const FLAT_PLAIN: u16 = 0;
const FLAT_INLINE: u16 = 2;

/// The parts of an inode, and its place.
struct Planned {
    node: NodeId,
    size: u64,
    xattrs: Vec<u8>,
    /// Bytes at the end of its content that stand behind the inode itself.
    tail: u64,
    at: u64,
    first_block: u64,
    links: u32,
}

/// The whole image.
struct Plan<'a> {
    tree: &'a Tree,
    inodes: Vec<Planned>,
    /// The place in `inodes` of each node.
    of: HashMap<NodeId, usize>,
    blocks: u64,
}

/// Writes the image; the content of files is read from `spool`. Answers its length.
pub(super) fn write(tree: &Tree, spool: &File, out: &File) -> io::Result<u64> {
    let plan = Plan::new(tree)?;
    let mut out = BufWriter::with_capacity(1 << 20, out);
    out.write_all(&plan.metadata(spool)?)?;
    for planned in &plan.inodes {
        plan.write_blocks(planned, spool, &mut out)?;
    }
    out.flush()?;
    Ok(plan.blocks * BLOCK)
}

impl<'a> Plan<'a> {
    fn new(tree: &'a Tree) -> io::Result<Self> {
        let mut links: HashMap<NodeId, u32> = HashMap::new();
        let order = tree.reached();
        for &node in &order {
            for place in tree.children(node).into_iter().flat_map(|children| children.values()) {
                *links.entry(place.node).or_default() += 1;
            }
        }
        let mut at = SUPERBLOCK_AT + SUPERBLOCK_BYTES;
        let mut inodes = Vec::with_capacity(order.len());
        for node in order {
            let mut planned = planned(tree, node)?;
            planned.links = links_of(tree, node, links.get(&node).copied().unwrap_or(0));
            at = place(&mut planned, at);
            inodes.push(planned);
        }
        let mut block = at.div_ceil(BLOCK);
        for planned in &mut inodes {
            planned.first_block = block;
            block += whole_blocks(planned);
        }
        let of = inodes.iter().enumerate().map(|(index, planned)| (planned.node, index)).collect();
        Ok(Self { tree, inodes, of, blocks: block })
    }

    fn number(&self, node: NodeId) -> u64 {
        self.of.get(&node).map_or(0, |&index| self.inodes[index].at / SLOT)
    }

    fn metadata(&self, spool: &File) -> io::Result<Vec<u8>> {
        let end = self.inodes.iter().map(|planned| planned.at + length(planned)).max();
        let end = end.unwrap_or(SUPERBLOCK_AT + SUPERBLOCK_BYTES).next_multiple_of(BLOCK);
        let mut metadata = vec![0; usize(end)?];
        metadata[usize(SUPERBLOCK_AT)?..][..usize(SUPERBLOCK_BYTES)?]
            .copy_from_slice(&self.superblock()?);
        for (number, planned) in (1_u32..).zip(&self.inodes) {
            let mut bytes = self.inode(number, planned)?;
            bytes.extend_from_slice(&planned.xattrs);
            if planned.tail > 0 {
                let content =
                    self.content(planned, planned.size - planned.tail, planned.tail, spool)?;
                bytes.extend(content);
            }
            metadata[usize(planned.at)?..][..bytes.len()].copy_from_slice(&bytes);
        }
        Ok(metadata)
    }

    fn superblock(&self) -> io::Result<Vec<u8>> {
        let root = u16::try_from(self.number(ROOT)).map_err(|_| too_large())?;
        let mut out = Fields::default();
        // Magic number, checksum, features that may be ignored; the block's size as a power of two.
        out.u32(MAGIC).u32(0).u32(0).u8(12).u8(0).u16(root);
        out.u64(self.inodes.len() as u64).u64(0).u32(0);
        out.u32(u32::try_from(self.blocks).map_err(|_| too_large())?).u32(0).u32(0);
        out.0.resize(usize(SUPERBLOCK_BYTES)?, 0);
        Ok(out.0)
    }

    fn inode(&self, number: u32, planned: &Planned) -> io::Result<Vec<u8>> {
        let Node { kind, attributes } = &self.tree.nodes[planned.node];
        let Attributes { mode, uid, gid, mtime, .. } = attributes;
        let (kind_bits, device) = match kind {
            Kind::File(_) => (0o100_000, None),
            Kind::Folder(_) => (0o040_000, None),
            Kind::Link(_) => (0o120_000, None),
            Kind::Device { is_block: true, major, minor } => (0o060_000, Some((major, minor))),
            Kind::Device { is_block: false, major, minor } => (0o020_000, Some((major, minor))),
            Kind::Pipe => (0o010_000, None),
        };
        let layout = if planned.tail > 0 { FLAT_INLINE } else { FLAT_PLAIN };
        let xattr_words = match planned.xattrs.len() as u64 {
            0 => 0,
            bytes => {
                u16::try_from((bytes - XATTR_HEADER_BYTES) / 4 + 1).map_err(|_| too_large())?
            }
        };
        let place = match device {
            // As `new_encode_dev` of the kernel packs it.
            Some((major, minor)) => (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12),
            None => u32::try_from(planned.first_block).map_err(|_| too_large())?,
        };
        let mut out = Fields::default();
        let mode = u16::try_from((mode & 0o7777) | kind_bits).map_err(|_| too_large())?;
        out.u16(1 | layout << 1).u16(xattr_words).u16(mode).u16(0);
        out.u64(planned.size).u32(place).u32(number).u32(*uid).u32(*gid);
        out.u64(*mtime).u32(0).u32(planned.links);
        out.0.resize(usize(INODE_BYTES)?, 0);
        Ok(out.0)
    }

    /// Part of what an inode holds.
    fn content(
        &self,
        planned: &Planned,
        from: u64,
        bytes: u64,
        spool: &File,
    ) -> io::Result<Vec<u8>> {
        let mut part = vec![0; usize(bytes)?];
        match &self.tree.nodes[planned.node].kind {
            Kind::File(Content { offset, .. }) => spool.read_exact_at(&mut part, offset + from)?,
            Kind::Link(target) => part.copy_from_slice(&target[usize(from)?..][..usize(bytes)?]),
            Kind::Folder(_) => {
                let all = self.folder(planned.node);
                part.copy_from_slice(&all[usize(from)?..][..usize(bytes)?]);
            }
            Kind::Device { .. } | Kind::Pipe => {}
        }
        Ok(part)
    }

    fn write_blocks(
        &self,
        planned: &Planned,
        spool: &File,
        out: &mut impl Write,
    ) -> io::Result<()> {
        const PART: u64 = 256 << 10;
        let end = planned.size - planned.tail;
        let mut at = 0;
        while at < end {
            let count = PART.min(end - at);
            let mut part = self.content(planned, at, count, spool)?;
            at += count;
            part.resize(usize(count.next_multiple_of(BLOCK))?, 0);
            out.write_all(&part)?;
        }
        Ok(())
    }

    /// The blocks of a folder: in each, entries in the order of their names, then the names.
    fn folder(&self, node: NodeId) -> Vec<u8> {
        let entries = entries(self.tree, node);
        let mut out = Vec::new();
        for block in blocks_of(&entries) {
            out.resize(out.len().next_multiple_of(usize::try_from(BLOCK).unwrap_or(1)), 0);
            let mut name_at = block.len() * DIRENT_BYTES;
            let mut heads = Fields::default();
            let mut names = Vec::new();
            for (name, child) in block {
                let kind = file_type(&self.tree.nodes[*child].kind);
                let offset = u16::try_from(name_at).unwrap_or(u16::MAX);
                heads.u64(self.number(*child)).u16(offset).u8(kind).u8(0);
                name_at += name.len();
                names.extend_from_slice(name);
            }
            out.extend(heads.0);
            out.extend(names);
        }
        out
    }
}

type Entry = (Vec<u8>, NodeId);

/// The entries of a folder with `.` and `..`, in the order of their names.
fn entries(tree: &Tree, node: NodeId) -> Vec<Entry> {
    let children = tree.children(node).into_iter().flatten();
    let mut entries: Vec<Entry> =
        children.map(|(name, place)| (name.clone(), place.node)).collect();
    entries.push((b".".to_vec(), node));
    entries.push((b"..".to_vec(), tree.parent(node)));
    entries.sort();
    entries
}

/// Entries as they fit into blocks.
fn blocks_of(entries: &[Entry]) -> Vec<&[Entry]> {
    let mut blocks = Vec::new();
    let mut from = 0;
    let mut used = 0;
    for (index, (name, _)) in entries.iter().enumerate() {
        let bytes = DIRENT_BYTES + name.len();
        if (used + bytes) as u64 > BLOCK {
            blocks.push(&entries[from..index]);
            (from, used) = (index, 0);
        }
        used += bytes;
    }
    blocks.push(&entries[from..]);
    blocks
}

fn file_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Folder(_) => 2,
        Kind::Device { is_block: false, .. } => 3,
        Kind::Device { is_block: true, .. } => 4,
        Kind::Pipe => 5,
        Kind::Link(_) => 7,
    }
}

fn planned(tree: &Tree, node: NodeId) -> io::Result<Planned> {
    let Node { kind, attributes } = &tree.nodes[node];
    let size = match kind {
        Kind::File(content) => content.bytes,
        Kind::Link(target) => target.len() as u64,
        Kind::Folder(_) => {
            let entries = entries(tree, node);
            let blocks = blocks_of(&entries);
            let last = blocks.last().into_iter().flat_map(|block| block.iter());
            let last: usize = last.map(|(name, _)| DIRENT_BYTES + name.len()).sum();
            (blocks.len() as u64 - 1) * BLOCK + last as u64
        }
        Kind::Device { .. } | Kind::Pipe => 0,
    };
    let xattrs = xattrs(attributes)?;
    let tail = size % BLOCK;
    let fits = INODE_BYTES + xattrs.len() as u64 + tail <= BLOCK;
    let tail = if fits { tail } else { 0 };
    Ok(Planned { node, size, xattrs, tail, at: 0, first_block: 0, links: 0 })
}

fn length(planned: &Planned) -> u64 {
    INODE_BYTES + planned.xattrs.len() as u64 + planned.tail
}

/// Finds the inode a place from `at` on; answers the first one behind it. A tail may not lie in two
/// blocks.
fn place(planned: &mut Planned, at: u64) -> u64 {
    let mut at = at.next_multiple_of(SLOT);
    let room = BLOCK - at % BLOCK;
    if planned.tail > 0 && length(planned) > room {
        at = at.next_multiple_of(BLOCK);
    }
    planned.at = at;
    at + length(planned)
}

fn whole_blocks(planned: &Planned) -> u64 {
    (planned.size - planned.tail).div_ceil(BLOCK)
}

/// The number of names: for a folder its own two, and the `..` of each folder in it.
fn links_of(tree: &Tree, node: NodeId, names: u32) -> u32 {
    let Some(children) = tree.children(node) else { return names.max(1) };
    let folders = children.values().filter(|place| tree.children(place.node).is_some()).count();
    u32::try_from(folders).unwrap_or(u32::MAX).saturating_add(2)
}

/// The attributes of an inode beside the usual ones.
fn xattrs(attributes: &Attributes) -> io::Result<Vec<u8>> {
    const PREFIXES: [(&[u8], u8); 5] = [
        (b"user.", 1),
        (b"system.posix_acl_access", 2),
        (b"system.posix_acl_default", 3),
        (b"trusted.", 4),
        (b"security.", 6),
    ];
    if attributes.xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = Fields(vec![0; usize(XATTR_HEADER_BYTES)?]);
    for (name, value) in &attributes.xattrs {
        let found =
            PREFIXES.iter().find_map(|(prefix, index)| Some((name.strip_prefix(*prefix)?, *index)));
        let Some((rest, index)) = found else { continue };
        let length = u8::try_from(rest.len()).map_err(|_| too_large())?;
        out.u8(length).u8(index).u16(u16::try_from(value.len()).map_err(|_| too_large())?);
        out.0.extend_from_slice(rest);
        out.0.extend_from_slice(value);
        out.0.resize(out.0.len().next_multiple_of(4), 0);
    }
    match out.0.len() as u64 > XATTR_HEADER_BYTES {
        true => Ok(out.0),
        false => Ok(Vec::new()),
    }
}

fn usize(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| too_large())
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "the image is larger than its file system can be")
}

/// Little-endian numbers one after the other.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }
}
