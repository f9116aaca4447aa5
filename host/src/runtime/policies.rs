//! The policies of an earlier run: those that are compiled for this engine at once, the others
//! beside everything else.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::RuntimeError;
use crate::heads;
use crate::id::Digest;
use crate::journal::{Journal, Opened};
use crate::policy::{Accounting, Backend, CacheKey, PolicyHost, Profile, Setup};
use crate::rollout;
use crate::tenant::Standing;

/// Opens the policy host of a data folder, which is created if it is missing. What it keeps
/// compiled is authenticated with a key that follows from the host's. Blocking.
pub(super) fn open(data: &Path, compiler: Option<PathBuf>) -> Result<PolicyHost, RuntimeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|source| RuntimeError::File { doing: "create", path: data.into(), source })?;
    let key = heads::open_key(data)?.derived("compiled policies");
    let setup = Setup {
        cache: &data.join("cache"),
        key: Some(CacheKey::from(key)),
        backend: Backend::Native,
        compiler,
    };
    Ok(PolicyHost::open_as(setup)?)
}

/// Loads the policies that some tenant is or was under, and puts the timelines in force. Returns
/// the policies that are not compiled for this engine, such as after an upgrade, the latest first:
/// until [`compile_policies`] has loaded one, its tenants are accounted by the standard policy, and
/// their answers say so.
pub fn load_policies(
    policies: &PolicyHost,
    accounting: &Accounting,
    opened: &Opened,
) -> Vec<Digest> {
    let mut missing = Vec::new();
    for stored in &opened.policies {
        policies.expect(stored.digest, rollout::profile_of(stored));
    }
    for activation in opened.activations.iter().rev() {
        let digest = activation.digest;
        let stored = opened.policies.iter().find(|stored| stored.digest == digest);
        let profile = stored.map_or(Profile::default(), rollout::profile_of);
        if !missing.contains(&digest) && !policies.load_compiled(profile, digest) {
            missing.push(digest);
        }
    }
    for activation in &opened.activations {
        accounting.activate(&activation.tenant, activation.from, activation.digest);
    }
    for stood in opened.standings.iter().filter(|stood| stood.standing == Standing::Quarantined) {
        accounting.quarantine(&stood.tenant, stood.digest, stood.stand_in);
    }
    missing
}

/// Compiles and loads policies, one after the other. One that can't be loaded any more counts as
/// one that fails. Blocking, for as long as the compiler takes.
pub fn compile_policies(journal: &Journal, policies: &PolicyHost, missing: &[Digest]) {
    for digest in missing {
        match compile_policy(journal, policies, *digest) {
            Ok(()) => tracing::info!(%digest, "a policy is compiled for this engine"),
            Err(error) => tracing::error!(%digest, error, "a policy can't be loaded"),
        }
    }
}

fn compile_policy(journal: &Journal, policies: &PolicyHost, digest: Digest) -> Result<(), String> {
    let bytes = journal.policy_bytes(&digest).map_err(|error| error.to_string())?;
    let bytes = bytes.ok_or("its bytes are not in the journal")?;
    let loaded = policies.load(Profile::default(), digest, &bytes);
    loaded.map(drop).map_err(|error| error.in_words())
}

/// Compiles policies beside everything else, in a thread that a stop does not wait for.
pub(super) fn compile_aside(
    journal: Arc<Journal>,
    policies: Arc<PolicyHost>,
    missing: Vec<Digest>,
) {
    if missing.is_empty() {
        return;
    }
    let work = move || compile_policies(&journal, &policies, &missing);
    if let Err(error) = std::thread::Builder::new().name("policy-compile".into()).spawn(work) {
        tracing::error!(%error, "policies are not compiled for this engine; start again");
    }
}
