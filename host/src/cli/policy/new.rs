//! `tallyman policy new`, which creates the source of a policy from a template; and `wrap`, which
//! makes a component from a core module.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::output::Output;
use crate::policy::{self, CONTRACT};

/// A language with a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Lang {
    /// Rust, with the library of the shipped policies; accounts and measures
    Rust,
    /// C; accounts and measures
    C,
    /// Python, by componentize-py; measures
    Python,
    /// JavaScript, by componentize-js; measures
    Js,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct New {
    /// Name of the policy: 1 to 63 of a-z, 0-9 and '-', beginning with a letter
    name: String,
    /// Language of the policy
    #[arg(long)]
    lang: Lang,
    /// The folder to create, which must not exist yet; the policy's name if absent
    #[arg(long)]
    into: Option<PathBuf>,
}

/// The written files, as JSON output.
#[derive(Debug, Serialize)]
struct Written {
    folder: PathBuf,
    files: Vec<PathBuf>,
}

/// A file of a template: its path in the new folder, and its text, in which `{{name}}` stands for
/// the policy's name, `{{crate}}` for its form as a Rust crate, and `{{version}}` for the version
/// of this program.
type File = (&'static str, &'static str);

/// A source file of the library for policies in Rust. Its tests are not copied.
macro_rules! library {
    ($path:literal) => {
        include_str!(concat!("../../../../guest-tracker/src/", $path))
    };
}

const RUST: &[File] = &[
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("templates/rust/lib.rs.txt")),
    ("guest-tracker/Cargo.toml", include_str!("templates/rust/guest-tracker.toml.txt")),
    ("guest-tracker/src/lib.rs", library!("lib.rs")),
    ("guest-tracker/src/columns.rs", library!("columns.rs")),
    ("guest-tracker/src/heap.rs", library!("heap.rs")),
    ("guest-tracker/src/tracker.rs", library!("tracker.rs")),
    ("guest-tracker/src/metering/mod.rs", library!("metering/mod.rs")),
    ("guest-tracker/src/metering/meter.rs", library!("metering/meter.rs")),
    ("guest-tracker/src/metering/options.rs", library!("metering/options.rs")),
    ("guest-tracker/src/metering/plan.rs", library!("metering/plan.rs")),
    ("guest-tracker/src/metering/standard.rs", library!("metering/standard.rs")),
    ("guest-tracker/src/metering/text.rs", library!("metering/text.rs")),
    ("README.md", include_str!("templates/rust/README.md")),
];
const C: &[File] = &[
    ("rules.c", include_str!("templates/c/rules.c")),
    ("tallyman.h", include_str!("templates/c/tallyman.h")),
    ("Makefile", include_str!("templates/c/Makefile.txt")),
    ("README.md", include_str!("templates/c/README.md")),
];
const PYTHON: &[File] = &[
    ("app.py", include_str!("templates/python/app.py")),
    ("requirements.txt", include_str!("templates/python/requirements.txt")),
    ("README.md", include_str!("templates/python/README.md")),
];
const JS: &[File] = &[
    ("policy.js", include_str!("templates/js/policy.js")),
    ("build.mjs", include_str!("templates/js/build.mjs")),
    ("package.json", include_str!("templates/js/package.json")),
    ("README.md", include_str!("templates/js/README.md")),
];

impl Lang {
    fn files(self) -> &'static [File] {
        match self {
            Lang::Rust => RUST,
            Lang::C => C,
            Lang::Python => PYTHON,
            Lang::Js => JS,
        }
    }
}

impl New {
    pub(in crate::cli) fn run(self, output: Output) -> anyhow::Result<()> {
        let name = &self.name;
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(inner)
                && name.len() <= 63,
            "'{name}' is not a name for a policy; use 1 to 63 of a-z, 0-9 and '-', beginning with \
             a letter"
        );
        let folder = self.into.unwrap_or_else(|| PathBuf::from(name));
        if folder.exists() {
            bail!("{} is there already; choose another folder with --into", folder.display());
        }
        let mut files = Vec::new();
        for (path, text) in self.lang.files() {
            let text = text.replace("{{name}}", name).replace("{{crate}}", &name.replace('-', "_"));
            let text = text.replace("{{version}}", env!("CARGO_PKG_VERSION"));
            files.push(write(&folder, path, text.as_bytes())?);
        }
        for (file, text) in CONTRACT {
            files.push(write(&folder, &format!("wit/{file}"), text.as_bytes())?);
        }
        if self.lang == Lang::C {
            for (file, bytes) in bindings::of_the_contract()? {
                files.push(write(&folder, &format!("bindings/{file}"), &bytes)?);
            }
        }
        output.show(&Written { folder, files }, |written| {
            format!("{} is written; its README.md says how to build it", written.folder.display())
        })
    }
}

fn write(folder: &Path, path: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let file = folder.join(path);
    let parent = file.parent().unwrap_or(folder);
    fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
    fs::write(&file, bytes).with_context(|| format!("can't write {}", file.display()))?;
    Ok(file)
}

/// Makes a component from a core module.
pub(in crate::cli) fn wrap(module: &Path, component: &Path, output: Output) -> anyhow::Result<()> {
    let core = fs::read(module).with_context(|| format!("can't read {}", module.display()))?;
    let bytes = policy::wrap(&core)
        .with_context(|| format!("{} can't be made a component", module.display()))?;
    fs::write(component, &bytes).with_context(|| format!("can't write {}", component.display()))?;
    let written = serde_json::json!({"component": component, "size_bytes": bytes.len()});
    output.show(&written, |_| format!("{} has {} bytes", component.display(), bytes.len()))
}

/// The bindings of the contract for C.
mod bindings {
    use anyhow::Context;
    use wit_bindgen_core::Files;
    use wit_bindgen_core::wit_parser::{Resolve, SourceMap};

    use crate::policy::CONTRACT;

    /// The generated files with their names.
    pub(super) fn of_the_contract() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
        let mut sources = SourceMap::new();
        for (name, text) in CONTRACT {
            sources.push_str(name, text);
        }
        let mut resolve = Resolve::default();
        let group =
            sources.parse().map_err(|(_, error)| error).context("can't read the contract")?;
        let package = resolve.push_group(group).context("can't read the contract")?;
        let world = resolve
            .select_world(&[package], Some("policy"))
            .context("the contract has no such world")?;
        let mut files = Files::default();
        let mut generator = wit_bindgen_c::Opts::default().build();
        wit_bindgen_core::WorldGenerator::generate(
            &mut *generator,
            &mut resolve,
            world,
            &mut files,
        )
        .context("can't write the contract down for C")?;
        Ok(files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect())
    }
}
