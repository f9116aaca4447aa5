//! Toolchains whose components behave otherwise than their source seems to say.

use wasmparser::{Parser, Payload};

/// A toolchain with traps that no test of a component can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toolchain {
    /// componentize-py, for Python.
    ComponentizePy,
    /// componentize-js, for JavaScript.
    ComponentizeJs,
}

/// The instance that componentize-py exports beside the contract.
const OF_COMPONENTIZE_PY: &str = "exports";
/// The name of componentize-js in the section `producers`.
const NAME_OF_COMPONENTIZE_JS: &[u8] = b"ComponentizeJS";

impl Toolchain {
    /// Returns the toolchain of a component, if it is one of these.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.ok()? {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    let mut names = exports.into_iter().flatten().map(|export| export.name.name);
                    if names.any(|name| name == OF_COMPONENTIZE_PY) {
                        return Some(Self::ComponentizePy);
                    }
                }
                Payload::CustomSection(section) if depth == 1 && section.name() == "producers" => {
                    let name = NAME_OF_COMPONENTIZE_JS;
                    if section.data().windows(name.len()).any(|part| part == name) {
                        return Some(Self::ComponentizeJs);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Warnings for its users, in one sentence each.
    pub fn warnings(self) -> &'static [&'static str] {
        match self {
            Self::ComponentizePy => &[
                "each build of the same Python source is another component: keep this one",
                "the order of a set of texts and random numbers are the same in every call, and \
                 others in the next build: sort, and draw none",
                "the clock, files and an import inside a function end the call",
            ],
            Self::ComponentizeJs => &[
                "each build of the same JavaScript source is another component: keep this one",
                "Date.now() is the time of the build for ever, and Math.random() one number in all \
                 builds: use neither",
                "a BigInt past 64 bits wraps around without an error: bound what you multiply",
            ],
        }
    }
}
