//! What a component must show before it may account for anybody: the cheap questions first, and
//! nothing is compiled before all are answered.

use std::sync::Arc;

use wasmparser::{Encoding, Parser, Payload};

use super::component::World;
use super::difference;
use super::profile::Profile;
use super::selftest::{SelfTest, SelfTestError};
use super::wit::{ACCOUNTING, METERING, PACKAGE, TYPES, VERSION, contract};
use crate::id::Digest;

/// Function that componentize-qjs exports beside the contract. Componentize-py exports an interface
/// `exports`, with which nothing is wrong.
const OF_COMPONENTIZE_QJS: &str = "init";

/// A component that passed every check which needs no compiler. Made by
/// [`super::PolicyHost::inspect`], used up by [`super::PolicyHost::examine`].
#[derive(Debug, Clone)]
pub struct Inspected {
    pub(super) bytes: Arc<[u8]>,
    pub(super) digest: Digest,
    pub(super) world: World,
    pub(super) profile: Profile,
}

impl Inspected {
    /// Inspects bytes whose digest is known.
    ///
    /// # Errors
    /// [`AdmissionError`], with what would be right.
    pub(super) fn new(
        bytes: Arc<[u8]>,
        digest: Digest,
        profile: Profile,
    ) -> Result<Self, AdmissionError> {
        let world = inspect(&bytes, profile)?;
        Ok(Self { bytes, digest, world, profile })
    }

    /// The component's bytes.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// SHA-256 of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The world that it was built for.
    pub fn world(&self) -> World {
        self.world
    }

    /// The bounds that it was inspected under.
    pub fn profile(&self) -> Profile {
        self.profile
    }
}

/// What admission found out about a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// SHA-256 of its bytes: its name from here on.
    pub digest: Digest,
    /// Which world it is for.
    pub world: World,
    /// Which bounds it runs under.
    pub profile: Profile,
    /// Its size.
    pub size_bytes: usize,
    /// How it did on the golden vectors.
    pub self_test: SelfTest,
    /// How long the compiler took, in milliseconds; 0 if it was known already.
    pub compile_ms: u64,
}

/// Why a component is not admitted. Nothing of it stays on the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// Too many bytes to be compiled in a bounded time.
    #[error(
        "the component has {bytes} bytes; at most {} are admitted in profile {profile}{}",
        profile.bounds().component_bytes_max, larger(*profile)
    )]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// Under which bounds.
        profile: Profile,
    },
    /// Not WebAssembly at all.
    #[error(
        "not a WebAssembly component: it does not begin with the bytes 00 61 73 6d 0d 00 01 00"
    )]
    NotAComponent,
    /// WebAssembly, but not a component.
    #[error("this is a core module, not a component: wrap it with `wasm-tools component new`")]
    CoreModule,
    /// It begins like a component and goes on as something else.
    #[error("the component can't be read: {reason}")]
    Malformed {
        /// What the parser says, with the place.
        reason: String,
    },
    /// So many functions that compiling takes too long.
    #[error(
        "the component has {functions} functions; at most {} are admitted in profile {profile}{}",
        profile.bounds().functions_max, larger(*profile)
    )]
    TooManyFunctions {
        /// How many it has.
        functions: u32,
        /// Under which bounds.
        profile: Profile,
    },
    /// A custom section that is large for no good reason.
    #[error(
        "custom section '{name}' has {bytes} bytes; at most {} are admitted in profile {profile}",
        profile.bounds().custom_section_bytes_max
    )]
    CustomSection {
        /// Its name.
        name: String,
        /// Its size.
        bytes: usize,
        /// Under which bounds.
        profile: Profile,
    },
    /// It would account, slowly, on the path of everybody's transitions.
    #[error(
        "profile large is for world `meter`, which exports {METERING} alone: accounting is on the path of every transition; build this one for profile compact, or leave {ACCOUNTING} out"
    )]
    LargeAccounts,
    /// It wants something from the host. A policy gets all it needs as arguments.
    #[error("the component imports {}; a policy may import nothing but {TYPES}", names.join(", "))]
    Imports {
        /// What it wants.
        names: Vec<String>,
    },
    /// It was built for another version of the contract.
    #[error(
        "the component exports {has}; this host serves {wants}{}{}",
        moved(has),
        listed(differs)
    )]
    WrongVersion {
        /// What this host has.
        wants: String,
        /// What the component has.
        has: String,
        /// Where the two versions differ, function by function.
        differs: Vec<String>,
    },
    /// It was built for something else altogether.
    #[error(
        "the component is for another world: it exports {}; world `policy` exports {ACCOUNTING} and {METERING}, world `meter` {METERING} alone",
        or_nothing(exports)
    )]
    WrongWorld {
        /// What it exports.
        exports: Vec<String>,
    },
    /// Half of the contract is missing.
    #[error(
        "the component does not export {missing}; world `policy` exports {ACCOUNTING} and {METERING}, world `meter` {METERING} alone"
    )]
    MissingExport {
        /// What is missing.
        missing: String,
    },
    /// Names and version are right, but the functions' types differ.
    #[error(
        "the component's types differ from those of {PACKAGE}*@{VERSION}; build it against this host's wit/: {reason}{}",
        listed(differs)
    )]
    WrongTypes {
        /// What the first difference is, as the type checker says it.
        reason: String,
        /// Where they differ, function by function.
        differs: Vec<String>,
    },
    /// Its language has fewer bits than time.
    #[error(
        "the component exports `{OF_COMPONENTIZE_QJS}`, as componentize-qjs makes it: its 64-bit integers are rounded to 53 bits, an instant by hundreds of nanoseconds; build it with componentize-js"
    )]
    Rounds,
    /// The engine will not have it.
    #[error("the component does not compile under this host's limits: {reason}")]
    Compile {
        /// What the engine says.
        reason: String,
    },
    /// It answered the golden vectors wrongly, or not at all.
    #[error("the component failed its self-test")]
    SelfTest(#[source] SelfTestError),
    /// The bytes are not those that were named.
    #[error("the component's digest is {is}, not {named}")]
    Digest {
        /// The digest asked for.
        named: Digest,
        /// The digest of the bytes.
        is: Digest,
    },
}

impl AdmissionError {
    /// The refusal and its causes in one line, for the person who sent the component.
    pub fn in_words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            words.push_str(": ");
            words.push_str(&error.to_string());
            cause = error.source();
        }
        words
    }
}

/// Where to go with what is too much for a profile.
fn larger(profile: Profile) -> &'static str {
    match profile {
        Profile::Compact => "; profile large takes more, for meters in interpreted languages",
        Profile::Large => "",
    }
}

/// What differs, after a colon; nothing if it is not known.
fn listed(differs: &[String]) -> String {
    if differs.is_empty() {
        String::new()
    } else {
        format!("; what differs: {}", differs.join("; "))
    }
}

fn or_nothing(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// Everything that can be asked without compiling or running the component.
fn inspect(bytes: &[u8], profile: Profile) -> Result<World, AdmissionError> {
    let bounds = profile.bounds();
    if bytes.len() > bounds.component_bytes_max {
        return Err(AdmissionError::TooLarge { bytes: bytes.len(), profile });
    }
    check_preamble(bytes)?;
    let outline = Outline::read(bytes, profile)?;
    if outline.functions > bounds.functions_max {
        return Err(AdmissionError::TooManyFunctions { functions: outline.functions, profile });
    }
    // Another version has other types and so another import, too; the version is what its author
    // needs to hear.
    let world = world(&outline.exports, bytes)?;
    check_imports(outline.imports)?;
    check_types(world, bytes)?;
    match (world, profile) {
        (World::Policy, Profile::Large) => Err(AdmissionError::LargeAccounts),
        (World::Policy, Profile::Compact) | (World::Meter, _) => Ok(world),
    }
}

/// Which world a component is for.
pub(super) fn world_of(bytes: &[u8]) -> Result<World, AdmissionError> {
    world(&Outline::read(bytes, Profile::Large)?.exports, bytes)
}

fn check_preamble(bytes: &[u8]) -> Result<(), AdmissionError> {
    if Parser::is_component(bytes) {
        Ok(())
    } else if Parser::is_core_wasm(bytes) {
        Err(AdmissionError::CoreModule)
    } else {
        Err(AdmissionError::NotAComponent)
    }
}

/// What the sections of a component say about it.
#[derive(Default)]
struct Outline {
    imports: Vec<String>,
    exports: Vec<String>,
    functions: u32,
}

impl Outline {
    fn read(bytes: &[u8], profile: Profile) -> Result<Self, AdmissionError> {
        let malformed = |error: wasmparser::BinaryReaderError| AdmissionError::Malformed {
            reason: error.to_string(),
        };
        let mut outline = Self::default();
        let mut nested = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(malformed)?;
            match &payload {
                Payload::Version { encoding, .. } => nested.push(*encoding),
                Payload::End(_) => {
                    nested.pop();
                }
                _ => outline
                    .note(&payload, nested.as_slice() == [Encoding::Component])
                    .map_err(malformed)?,
            }
            check_custom(&payload, profile)?;
        }
        Ok(outline)
    }

    /// Only the outermost component's imports and exports are the host's business: what is nested
    /// gets nothing from outside but through them.
    fn note(
        &mut self,
        payload: &Payload<'_>,
        outermost: bool,
    ) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::FunctionSection(functions) => {
                self.functions = self.functions.saturating_add(functions.count())
            }
            Payload::ComponentCanonicalSection(adapters) => {
                self.functions = self.functions.saturating_add(adapters.count());
            }
            Payload::ComponentImportSection(imports) if outermost => {
                for import in imports.clone() {
                    self.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) if outermost => {
                for export in exports.clone() {
                    self.exports.push(export?.name.name.to_owned());
                }
            }
            // The other sections say nothing that is asked here; the compiler validates them.
            _ => {}
        }
        Ok(())
    }
}

fn check_custom(payload: &Payload<'_>, profile: Profile) -> Result<(), AdmissionError> {
    let Payload::CustomSection(section) = payload else { return Ok(()) };
    let bytes = section.data().len();
    if bytes <= profile.bounds().custom_section_bytes_max {
        return Ok(());
    }
    Err(AdmissionError::CustomSection { name: section.name().into(), bytes, profile })
}

fn check_imports(mut names: Vec<String>) -> Result<(), AdmissionError> {
    names.retain(|name| name != TYPES);
    if names.is_empty() { Ok(()) } else { Err(AdmissionError::Imports { names }) }
}

fn world(exports: &[String], bytes: &[u8]) -> Result<World, AdmissionError> {
    let exported = |name: &str| exports.iter().any(|export| export == name);
    if let Some(has) = exports.iter().find(|name| is_of_another_version(name)) {
        return Err(AdmissionError::WrongVersion {
            wants: wanted_instead_of(has).into(),
            has: has.clone(),
            differs: difference::of(bytes),
        });
    }
    match (exported(ACCOUNTING), exported(METERING)) {
        (_, true) if exported(OF_COMPONENTIZE_QJS) => Err(AdmissionError::Rounds),
        (true, true) => Ok(World::Policy),
        (false, true) => Ok(World::Meter),
        (true, false) => Err(AdmissionError::MissingExport { missing: METERING.into() }),
        (false, false) => Err(AdmissionError::WrongWorld { exports: exports.to_vec() }),
    }
}

fn is_of_another_version(export: &str) -> bool {
    export.starts_with(PACKAGE) && export.split('@').nth(1) != Some(VERSION)
}

/// Which interface of this host is in the place of one of another version.
fn wanted_instead_of(export: &str) -> &'static str {
    let unversioned = |name: &str| name.split('@').next().map(str::to_owned);
    if unversioned(export) == unversioned(ACCOUNTING) { ACCOUNTING } else { METERING }
}

/// What became of an interface of version 0.1.0, for the author of a component that was built for
/// it.
fn moved(has: &str) -> &'static str {
    if has.ends_with("@0.1.0") {
        ". Since 0.2.0 a policy measures and states no amounts: the price book prices its meters; rebuild it from what \
         `tallyman policy new` writes"
    } else {
        ""
    }
}

/// Holds the component against the contract, type by type. Without this a difference inside a
/// record would show at the first call only.
fn check_types(world: World, bytes: &[u8]) -> Result<(), AdmissionError> {
    let differ = |error: anyhow::Error| AdmissionError::WrongTypes {
        reason: format!("{:#}", error),
        differs: difference::of(bytes),
    };
    let (resolve, id) = contract(world).map_err(differ)?;
    wit_component::targets(&resolve, id, bytes).map_err(differ)
}
