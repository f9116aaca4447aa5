//! The checks of a component before it is admitted, the cheap ones first: none of them compiles or
//! runs it.

use std::sync::Arc;

use wasmparser::{Encoding, Parser, Payload};

use super::component::World;
use super::difference;
use super::profile::Profile;
use super::selftest::{SelfTest, SelfTestError};
use super::wit::{ACCOUNTING, METERING, PACKAGE, TYPES, VERSION, contract};
use crate::causes::in_words;
use crate::id::Digest;

/// Function that componentize-qjs exports beside the contract. The interface `exports` of
/// componentize-py is harmless.
const OF_COMPONENTIZE_QJS: &str = "init";

/// A component that passed every check that needs no compiler. Made by
/// [`super::PolicyHost::inspect`], consumed by [`super::PolicyHost::examine`].
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
    /// [`AdmissionError`], with what is valid.
    pub(super) fn new(
        bytes: Arc<[u8]>,
        digest: Digest,
        profile: Profile,
    ) -> Result<Self, AdmissionError> {
        let world = inspect(&bytes, profile)?;
        Ok(Self { bytes, digest, world, profile })
    }

    /// Returns the component's bytes.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Returns the SHA-256 of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the world that it was built for.
    pub fn world(&self) -> World {
        self.world
    }

    /// Returns the profile that it was inspected under.
    pub fn profile(&self) -> Profile {
        self.profile
    }
}

/// The outcome of an admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// SHA-256 of the component, which identifies it from here on.
    pub digest: Digest,
    /// World of the contract that it was built for.
    pub world: World,
    /// Profile whose bounds it runs under.
    pub profile: Profile,
    /// Size of the component in bytes.
    pub size_bytes: usize,
    /// Outcome of the self-test.
    pub self_test: SelfTest,
    /// Time to compile it, in milliseconds; 0 if it was loaded already.
    pub compile_ms: u64,
}

/// A reason to refuse a component. Nothing of it stays on the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The component has more bytes than can be compiled in bounded time.
    #[error(
        "the component has {bytes} bytes; at most {} are admitted in profile {profile}{}",
        profile.bounds().component_bytes_max, larger(*profile)
    )]
    TooLarge {
        /// Size of the component in bytes.
        bytes: usize,
        /// Profile that it was inspected under.
        profile: Profile,
    },
    /// The bytes are not WebAssembly.
    #[error(
        "not a WebAssembly component: it does not begin with the bytes 00 61 73 6d 0d 00 01 00"
    )]
    NotAComponent,
    /// The bytes are a core module, not a component.
    #[error("this is a core module, not a component: wrap it with `wasm-tools component new`")]
    CoreModule,
    /// The component is malformed.
    #[error("the component can't be read: {reason}")]
    Malformed {
        /// Message of the parser, with the offset.
        reason: String,
    },
    /// The component has more functions than can be compiled in bounded time.
    #[error(
        "the component has {functions} functions; at most {} are admitted in profile {profile}{}",
        profile.bounds().functions_max, larger(*profile)
    )]
    TooManyFunctions {
        /// Number of functions.
        functions: u32,
        /// Profile that it was inspected under.
        profile: Profile,
    },
    /// A custom section is too large.
    #[error(
        "custom section '{name}' has {bytes} bytes; at most {} are admitted in profile {profile}",
        profile.bounds().custom_section_bytes_max
    )]
    CustomSection {
        /// Name of the section.
        name: String,
        /// Size of the section in bytes.
        bytes: usize,
        /// Profile that it was inspected under.
        profile: Profile,
    },
    /// The component exports accounting in profile large: it would slow down every transition.
    #[error(
        "profile large is for world `meter`, which exports {METERING} alone: accounting is on the \
         path of every transition; build this one for profile compact, or leave {ACCOUNTING} out"
    )]
    LargeAccounts,
    /// The component has imports. A policy gets all input as arguments.
    #[error("the component imports {}; a policy may import nothing but {TYPES}", names.join(", "))]
    Imports {
        /// Names of the imports that are not allowed.
        names: Vec<String>,
    },
    /// The component was built for another version of the contract.
    #[error(
        "the component exports {has}; this host serves {wants}{}{}",
        moved(has),
        listed(differs)
    )]
    WrongVersion {
        /// The interface that this host serves, with its version.
        wants: String,
        /// The interface that the component exports, with its version.
        has: String,
        /// Differences between the two versions, one for each function; empty if unknown.
        differs: Vec<String>,
    },
    /// The component exports no interface of the contract.
    #[error(
        "the component is for another world: it exports {}; world `policy` exports {ACCOUNTING} \
         and {METERING}, world `meter` {METERING} alone",
        or_nothing(exports)
    )]
    WrongWorld {
        /// Names of its exports.
        exports: Vec<String>,
    },
    /// The component exports one of two required interfaces.
    #[error(
        "the component does not export {missing}; world `policy` exports {ACCOUNTING} and \
         {METERING}, world `meter` {METERING} alone"
    )]
    MissingExport {
        /// Name of the missing interface.
        missing: String,
    },
    /// The names and the version are right, but types of functions differ.
    #[error(
        "the component's types differ from those of {PACKAGE}*@{VERSION}; build it against this \
         host's wit/: {reason}{}",
        listed(differs)
    )]
    WrongTypes {
        /// Message of the type checker about the first difference.
        reason: String,
        /// Differences, one for each function; empty if unknown.
        differs: Vec<String>,
    },
    /// The component's language rounds 64-bit integers.
    #[error(
        "the component exports `{OF_COMPONENTIZE_QJS}`, as componentize-qjs makes it: its 64-bit \
         integers are rounded to 53 bits, an instant by hundreds of nanoseconds; build it with \
         componentize-js"
    )]
    Rounds,
    /// The engine does not compile the component.
    #[error("the component does not compile under this host's limits: {reason}")]
    Compile {
        /// Message of the engine.
        reason: String,
    },
    /// The component failed its self-test.
    #[error("the component failed its self-test")]
    SelfTest(#[source] SelfTestError),
    /// The bytes do not have the digest that was asked for.
    #[error("the component's digest is {is}, not {named}")]
    Digest {
        /// The digest asked for.
        named: Digest,
        /// The digest of the bytes.
        is: Digest,
    },
}

impl AdmissionError {
    /// Returns the refusal and its causes in one line, for the uploader.
    pub fn in_words(&self) -> String {
        in_words(self)
    }
}

/// The hint at a profile with larger bounds.
fn larger(profile: Profile) -> &'static str {
    match profile {
        Profile::Compact => "; profile large takes more, for meters in interpreted languages",
        Profile::Large => "",
    }
}

/// The list of differences as the end of a message; empty if there are none.
fn listed(differs: &[String]) -> String {
    if differs.is_empty() {
        String::new()
    } else {
        format!("; differences: {}", differs.join("; "))
    }
}

fn or_nothing(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

/// Makes all checks that need neither a compiler nor a run.
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
    // Another version also has other types and another import; the version is the helpful message,
    // so it comes first.
    let world = world(&outline.exports, bytes)?;
    check_imports(outline.imports)?;
    check_types(world, bytes)?;
    match (world, profile) {
        (World::Policy, Profile::Large) => Err(AdmissionError::LargeAccounts),
        (World::Policy, Profile::Compact) | (World::Meter, _) => Ok(world),
    }
}

/// Returns whether bytes pass all checks that precede compilation.
pub(crate) fn inspects(bytes: &[u8]) -> bool {
    inspect(bytes, Profile::Compact).is_ok()
}

/// Returns the world that a component was built for.
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

/// The imports, exports and size of a component.
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

    /// Notes a section. Only the outermost component's imports and exports count: nested components
    /// get nothing from outside but through them.
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
            // The compiler validates the other sections.
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

/// Returns this host's interface of the same name.
fn wanted_instead_of(export: &str) -> &'static str {
    let unversioned = |name: &str| name.split('@').next().map(str::to_owned);
    if unversioned(export) == unversioned(ACCOUNTING) { ACCOUNTING } else { METERING }
}

/// The migration hint for a component that was built for contract 0.1.0; empty for any other.
fn moved(has: &str) -> &'static str {
    if has.ends_with("@0.1.0") {
        ". Since 0.2.0 a policy measures and states no amounts: the price book prices its meters; \
         rebuild it from what `tallyman policy new` writes"
    } else {
        ""
    }
}

/// Compares the component with the contract, type by type. Otherwise a difference inside a record
/// would show at the first call only.
fn check_types(world: World, bytes: &[u8]) -> Result<(), AdmissionError> {
    let differ = |error: anyhow::Error| AdmissionError::WrongTypes {
        reason: format!("{:#}", error),
        differs: difference::of(bytes),
    };
    let (resolve, id) = contract(world).map_err(differ)?;
    wit_component::targets(&resolve, id, bytes).map_err(differ)
}
