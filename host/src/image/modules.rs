//! Kernel modules in the order in which they load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The modules of one kernel, by name.
#[derive(Debug)]
pub(super) struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// A module ready to be loaded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

impl Modules {
    /// Finds the modules below `folder`, such as `lib/modules/6.1.0`.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        index(&folder.join("kernel"), &mut files)?;
        let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        Ok(Self {
            files,
            builtin: builtin.lines().filter_map(|line| name_of(Path::new(line))).collect(),
        })
    }

    /// Returns `wanted` and all their dependencies, dependencies first, without those built into
    /// the kernel. `read` gives the uncompressed content of a file; `missing` makes the error for
    /// a module that is nowhere.
    pub(super) fn in_load_order<E>(
        &self,
        wanted: &[&str],
        missing: impl Fn(&str) -> E,
        mut read: impl FnMut(&Path) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<Module>, E> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        // A name is visited twice: on the way down, and with its content on the way up, when all it
        // needs is loaded.
        let mut stack: Vec<(String, Option<Vec<u8>>)> =
            wanted.iter().rev().map(|&name| (name.into(), None)).collect();
        while let Some((name, content)) = stack.pop() {
            if let Some(content) = content {
                order.push(Module { name, content });
                continue;
            }
            if self.builtin.contains(&name) || !seen.insert(name.clone()) {
                continue;
            }
            let content = read(self.files.get(&name).ok_or_else(|| missing(&name))?)?;
            let needs = needs(&content);
            stack.push((name, Some(content)));
            stack.extend(needs.into_iter().rev().map(|name| (name, None)));
        }
        Ok(order)
    }
}

fn index(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            index(&entry.path(), files)?;
        } else if let Some(name) = name_of(&entry.path()) {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

/// Returns a module file's name, such as `virtio_blk` of `drivers/block/virtio-blk.ko.xz`: to the
/// kernel '-' and '_' are the same.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, compression) = file.split_once(".ko")?;
    matches!(compression, "" | ".xz" | ".zst" | ".gz").then(|| name.replace('-', "_"))
}

/// The names in a module's `depends=` entry.
fn needs(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let text = module[at + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(text);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[&str], builtin: &[&str]) -> Modules {
        Modules {
            files: files.iter().map(|name| ((*name).into(), PathBuf::from(name))).collect(),
            builtin: builtin.iter().map(|name| (*name).into()).collect(),
        }
    }

    fn content(path: &Path) -> Result<Vec<u8>, String> {
        let needs = match path.to_str() {
            Some("virtio_blk") => "virtio,virtio_ring,scsi-core",
            Some("virtio") => "virtio_ring",
            Some("a") => "b",
            Some("b") => "a",
            _ => "",
        };
        Ok(format!("\x7fELF..\0license=GPL\0depends={needs}\0name=x\0").into_bytes())
    }

    fn order(modules: &Modules, wanted: &[&str]) -> Result<Vec<String>, String> {
        let order = modules.in_load_order(wanted, |name| format!("no {name}"), content)?;
        Ok(order.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let modules = modules(&["virtio_blk", "virtio", "virtio_ring", "button"], &["scsi_core"]);
        assert_eq!(
            order(&modules, &["virtio", "button", "virtio_blk"]).expect("an order"),
            ["virtio_ring", "virtio", "button", "virtio_blk"]
        );
        assert_eq!(
            order(&modules, &["virtio_blk"]).expect("an order"),
            ["virtio_ring", "virtio", "virtio_blk"]
        );
    }

    #[test]
    fn a_module_that_is_nowhere_is_named() {
        assert_eq!(
            order(&modules(&["virtio_blk", "virtio_ring"], &["scsi_core"]), &["virtio_blk"]),
            Err("no virtio".into())
        );
    }

    #[test]
    fn a_circle_ends() {
        assert_eq!(order(&modules(&["a", "b"], &[]), &["a"]).expect("an order"), ["b", "a"]);
    }

    #[test]
    fn names_lose_their_compression_and_dashes() {
        for (path, name) in [
            ("kernel/drivers/block/virtio_blk.ko", Some("virtio_blk")),
            ("virtio-rng.ko.xz", Some("virtio_rng")),
            ("button.ko.zst", Some("button")),
            ("modules.order", None),
            ("button.kodak", None),
        ] {
            assert_eq!(name_of(Path::new(path)).as_deref(), name, "{path}");
        }
    }
}
