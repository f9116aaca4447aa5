//! A file system in memory: names and attributes. The content of files lies in one spool file.
//!
//! Layers are put on top of each other here and nowhere else: no path of an image ever meets the
//! host's file system.

use std::collections::{BTreeMap, HashMap};

/// A place in the list of nodes.
pub(super) type NodeId = usize;

/// The root folder's place.
pub(super) const ROOT: NodeId = 0;

/// Most links that a path is led through.
const LINKS_MAX: usize = 40;

/// Longest name of a file.
const NAME_BYTES_MAX: usize = 255;

/// The place of a file's content in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Kinds of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File(Content),
    Folder(BTreeMap<Vec<u8>, Place>),
    Link(Vec<u8>),
    Device { is_block: bool, major: u32, minor: u32 },
    Pipe,
}

/// An entry of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: NodeId,
    /// The layer that wrote it last.
    layer: usize,
}

/// Owner, permissions and times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: u64,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A file, a folder, or something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
}

/// Reasons why a path does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    #[error("it leads out of the image")]
    Escapes,
    #[error("a name in it is longer than {NAME_BYTES_MAX} bytes, or has a NUL")]
    Name,
    #[error("it leads through more than {LINKS_MAX} links")]
    Links,
    #[error("it leads through something that is no folder")]
    NoFolder,
    #[error("it names nothing that is there")]
    Missing,
    #[error("a folder has no second name")]
    FolderLink,
}

/// The file system.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    /// The folder that each folder is in.
    above: HashMap<NodeId, NodeId>,
    layer: usize,
}

/// A path with its links followed: a folder, and a name in it.
struct Found {
    folder: NodeId,
    /// None for the root folder itself.
    name: Option<Vec<u8>>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![folder()], above: HashMap::new(), layer: 0 }
    }
}

fn folder() -> Node {
    let attributes = Attributes { mode: 0o755, ..Attributes::default() };
    Node { kind: Kind::Folder(BTreeMap::new()), attributes }
}

/// The names of a path, without those that say nothing.
fn parts(path: &[u8]) -> Result<Vec<Vec<u8>>, PathError> {
    let mut parts = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(PathError::Escapes),
            name if name.len() > NAME_BYTES_MAX || name.contains(&0) => {
                return Err(PathError::Name);
            }
            name => parts.push(name.to_vec()),
        }
    }
    Ok(parts)
}

impl Tree {
    /// Begins the next layer: all that is written from now on belongs to it.
    pub(super) fn next_layer(&mut self) {
        self.layer += 1;
    }

    pub(super) fn children(&self, node: NodeId) -> Option<&BTreeMap<Vec<u8>, Place>> {
        match &self.nodes[node].kind {
            Kind::Folder(children) => Some(children),
            Kind::File(_) | Kind::Link(_) | Kind::Device { .. } | Kind::Pipe => None,
        }
    }

    /// The folder that a folder is in; of the root the root.
    pub(super) fn parent(&self, node: NodeId) -> NodeId {
        self.above.get(&node).copied().unwrap_or(ROOT)
    }

    fn children_mut(&mut self, node: NodeId) -> Option<&mut BTreeMap<Vec<u8>, Place>> {
        match &mut self.nodes[node].kind {
            Kind::Folder(children) => Some(children),
            Kind::File(_) | Kind::Link(_) | Kind::Device { .. } | Kind::Pipe => None,
        }
    }

    fn child(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        self.children(folder)?.get(name).map(|place| place.node)
    }

    /// Finds where a path leads, within the image; links in it are followed, but not one at its
    /// end. Folders that are not there are made if `make`.
    fn find(&mut self, path: &[u8], make: bool) -> Result<Found, PathError> {
        let mut waiting = parts(path)?;
        waiting.reverse();
        let mut above = vec![ROOT];
        let mut links = 0;
        while let Some(name) = waiting.pop() {
            let folder = *above.last().unwrap_or(&ROOT);
            if name == b".." {
                // Out of a link's target; above the root is the root.
                if above.len() > 1 {
                    above.pop();
                }
                continue;
            }
            if waiting.is_empty() {
                return Ok(Found { folder, name: Some(name) });
            }
            let node = match self.child(folder, &name) {
                Some(node) => node,
                None if make => self.put(folder, name, self.nodes.len(), Some(self::folder())),
                None => return Err(PathError::Missing),
            };
            match &self.nodes[node].kind {
                Kind::Folder(_) => above.push(node),
                Kind::Link(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(PathError::Links);
                    }
                    if target.starts_with(b"/") {
                        above.truncate(1);
                    }
                    let mut inside: Vec<_> = target
                        .split(|&byte| byte == b'/')
                        .filter(|part| !part.is_empty() && *part != b".")
                        .map(<[u8]>::to_vec)
                        .collect();
                    inside.reverse();
                    waiting.append(&mut inside);
                }
                Kind::File(_) | Kind::Device { .. } | Kind::Pipe => {
                    return Err(PathError::NoFolder);
                }
            }
        }
        Ok(Found { folder: *above.last().unwrap_or(&ROOT), name: None })
    }

    fn put(&mut self, folder: NodeId, name: Vec<u8>, node: NodeId, new: Option<Node>) -> NodeId {
        self.nodes.extend(new);
        if self.children(node).is_some() {
            self.above.insert(node, folder);
        }
        let place = Place { node, layer: self.layer };
        if let Some(children) = self.children_mut(folder) {
            children.insert(name, place);
        }
        node
    }

    /// Puts a node at a path. A folder at the place of a folder keeps what is in it.
    pub(super) fn insert(&mut self, path: &[u8], node: Node) -> Result<(), PathError> {
        let Found { folder, name } = self.find(path, true)?;
        let Some(name) = name else {
            // The root folder can only be a folder.
            return match node.kind {
                Kind::Folder(_) => {
                    self.nodes[folder].attributes = node.attributes;
                    Ok(())
                }
                Kind::File(_) | Kind::Link(_) | Kind::Device { .. } | Kind::Pipe => {
                    Err(PathError::NoFolder)
                }
            };
        };
        let there = self.child(folder, &name).filter(|&there| self.children(there).is_some());
        match (&node.kind, there) {
            (Kind::Folder(_), Some(there)) => {
                self.nodes[there].attributes = node.attributes;
                self.put(folder, name, there, None);
            }
            (_, _) => {
                self.put(folder, name, self.nodes.len(), Some(node));
            }
        }
        Ok(())
    }

    /// Gives what is at `target` a second name.
    pub(super) fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), PathError> {
        let found = self.find(target, false)?;
        let name = found.name.ok_or(PathError::FolderLink)?;
        let node = self.child(found.folder, &name).ok_or(PathError::Missing)?;
        if self.children(node).is_some() {
            return Err(PathError::FolderLink);
        }
        let Found { folder, name } = self.find(path, true)?;
        let name = name.ok_or(PathError::FolderLink)?;
        self.put(folder, name, node, None);
        Ok(())
    }

    /// Takes away what lower layers have at a path.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), PathError> {
        let found = match self.find(path, false) {
            // What is not there need not be taken away.
            Err(PathError::Missing) => return Ok(()),
            found => found?,
        };
        let Some(name) = found.name else { return Ok(()) };
        let layer = self.layer;
        let place = self.children(found.folder).and_then(|children| children.get(&name)).copied();
        match place {
            Some(place) if place.layer < layer => {
                if let Some(children) = self.children_mut(found.folder) {
                    children.remove(&name);
                }
            }
            Some(place) => self.keep_own(place.node),
            None => {}
        }
        Ok(())
    }

    /// Takes away what lower layers have in the folder at a path.
    pub(super) fn make_opaque(&mut self, path: &[u8]) -> Result<(), PathError> {
        let found = match self.find(path, false) {
            Err(PathError::Missing) => return Ok(()),
            found => found?,
        };
        let node = match found.name {
            None => Some(found.folder),
            Some(name) => self.child(found.folder, &name),
        };
        if let Some(node) = node {
            self.keep_own(node);
        }
        Ok(())
    }

    /// Leaves in a folder, and in those in it, only what this layer has written.
    fn keep_own(&mut self, node: NodeId) {
        let layer = self.layer;
        let mut waiting = vec![node];
        while let Some(node) = waiting.pop() {
            if let Some(children) = self.children_mut(node) {
                children.retain(|_, place| place.layer == layer);
                waiting.extend(children.values().map(|place| place.node));
            }
        }
    }

    /// The nodes that are reached from the root, each once, folders before what is in them.
    pub(super) fn reached(&self) -> Vec<NodeId> {
        let mut seen = vec![false; self.nodes.len()];
        let mut order = vec![ROOT];
        seen[ROOT] = true;
        let mut next = 0;
        while let Some(&node) = order.get(next) {
            next += 1;
            for place in self.children(node).into_iter().flat_map(BTreeMap::values) {
                if !std::mem::replace(&mut seen[place.node], true) {
                    order.push(place.node);
                }
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Node {
        let content = Content { offset: 0, bytes: 0 };
        Node { kind: Kind::File(content), attributes: Attributes::default() }
    }

    fn link(target: &str) -> Node {
        Node { kind: Kind::Link(target.into()), attributes: Attributes::default() }
    }

    /// All paths, folders with a slash.
    fn paths(tree: &Tree) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![(ROOT, String::new())];
        while let Some((node, path)) = waiting.pop() {
            for (name, place) in tree.children(node).into_iter().flatten() {
                let path = format!("{path}/{}", String::from_utf8_lossy(name));
                let is_folder = tree.children(place.node).is_some();
                found.push(if is_folder { format!("{path}/") } else { path.clone() });
                waiting.push((place.node, path));
            }
        }
        found.sort();
        found
    }

    fn with(names: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for name in names {
            tree.insert(name.as_bytes(), file()).expect("it fits");
        }
        tree.next_layer();
        tree
    }

    #[test]
    fn a_whiteout_takes_away_what_lower_layers_have_and_nothing_of_its_own() {
        let mut tree = with(&["a/old", "b", "keep"]);
        tree.insert(b"b", file()).expect("it fits");
        tree.remove(b"b").expect("a path");
        tree.remove(b"a").expect("a path");
        tree.remove(b"none/at/all").expect("a path");
        assert_eq!(paths(&tree), ["/b", "/keep"]);
        let mut tree = with(&["a/old", "a/deep/old"]);
        tree.insert(b"a/new", file()).expect("it fits");
        tree.insert(b"a", folder()).expect("it fits");
        tree.remove(b"a").expect("a path");
        assert_eq!(paths(&tree), ["/a/", "/a/new"]);
    }

    #[test]
    fn an_opaque_folder_has_what_its_layer_wrote_before_and_after() {
        let mut tree = with(&["a/old", "a/deep/old", "b"]);
        tree.insert(b"a/before", file()).expect("it fits");
        tree.make_opaque(b"a").expect("a path");
        tree.insert(b"a/after", file()).expect("it fits");
        assert_eq!(paths(&tree), ["/a/", "/a/after", "/a/before", "/b"]);
        tree.next_layer();
        tree.make_opaque(b"").expect("a path");
        assert_eq!(paths(&tree), [""; 0]);
    }

    #[test]
    fn links_on_the_way_are_followed_inside_the_image_only() {
        let mut tree = with(&["usr/lib/x"]);
        tree.insert(b"lib", link("usr/lib")).expect("it fits");
        tree.insert(b"out", link("../../../etc")).expect("it fits");
        tree.insert(b"abs", link("/usr/lib")).expect("it fits");
        tree.insert(b"lib/y", file()).expect("it fits");
        tree.insert(b"abs/z", file()).expect("it fits");
        tree.insert(b"out/passwd", file()).expect("it fits");
        let expected = ["/abs", "/etc/", "/etc/passwd", "/lib", "/out", "/usr/", "/usr/lib/"];
        let found = paths(&tree);
        assert_eq!(found[..7], expected);
        assert_eq!(found[7..], ["/usr/lib/x", "/usr/lib/y", "/usr/lib/z"]);
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused() {
        let mut tree = with(&["file"]);
        tree.insert(b"loop", link("loop/x")).expect("it fits");
        let long = vec![b'x'; 256];
        let rows: [(&[u8], PathError); 5] = [
            (b"../x", PathError::Escapes),
            (b"a/../../x", PathError::Escapes),
            (&long, PathError::Name),
            (b"file/x", PathError::NoFolder),
            (b"loop/x", PathError::Links),
        ];
        for (path, expected) in rows {
            assert_eq!(tree.insert(path, file()), Err(expected), "{path:?}");
        }
        assert_eq!(tree.hard_link(b"b", b"none"), Err(PathError::Missing));
        tree.insert(b"d", folder()).expect("it fits");
        assert_eq!(tree.hard_link(b"b", b"d"), Err(PathError::FolderLink));
        assert_eq!(tree.insert(b"/", file()), Err(PathError::NoFolder));
    }

    #[test]
    fn a_second_name_is_the_same_node_also_across_layers() {
        let mut tree = with(&["a"]);
        tree.hard_link(b"deep/b", b"/a").expect("it is there");
        assert_eq!(tree.reached().len(), 3);
        tree.next_layer();
        tree.insert(b"a", file()).expect("it fits");
        assert_eq!(tree.reached().len(), 4, "what is replaced keeps its other name");
    }
}
