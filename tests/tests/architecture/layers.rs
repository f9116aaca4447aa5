//! The layers of the program, and the homes of its crates.
//!
//! `units, id, limits <- tls, vm, tenant, billing <- driver, policy, journal, hypervisor <-
//! tenancy, fleet <- invoice <- rollout <- api <- runtime <- cli`, pure cores stay pure, and each
//! heavy crate has one home.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{code, root, sources};

/// The top-level module of `host/src` that a file belongs to.
fn module(path: &Path, host: &Path) -> String {
    let inside = path.strip_prefix(host).expect("inside");
    let first =
        inside.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Tools that every module may use, and that use none.
const TOOLS: [&str; 4] = ["blocking", "causes", "merkle", "mutants"];

/// Modules of the host that each module may use, beside the tools.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    const WORDS: &[&str] = &["units", "id", "limits"];
    const HYPERVISOR: &[&str] =
        &["units", "id", "limits", "vm", "tenant", "billing", "clock", "network", "tls"];
    const DRIVER: &[&str] = &[
        "units",
        "id",
        "limits",
        "vm",
        "tenant",
        "billing",
        "clock",
        "journal",
        "hypervisor",
        "network",
        "guest",
        "disk",
        "image",
    ];
    const API: &[&str] = &[
        "units",
        "id",
        "histogram",
        "limits",
        "vm",
        "tenant",
        "billing",
        "clock",
        "journal",
        "hypervisor",
        "network",
        "guest",
        "disk",
        "heads",
        "image",
        "pull",
        "policy",
        "driver",
        "tenancy",
        "invoice",
        "rollout",
        "delivery",
        "fleet",
        "retention",
        "tls",
    ];
    let runtime: Vec<_> = API.iter().copied().chain(["objects", "probe", "api"]).collect();
    let cli: Vec<_> = runtime.iter().copied().chain(["runtime"]).collect();
    let fixed: [(&str, &[&str]); 33] = [
        ("blocking", &[]),
        ("causes", &[]),
        ("merkle", &[]),
        ("mutants", &[]),
        ("units", &[]),
        ("id", &[]),
        ("histogram", &[]),
        ("limits", &[]),
        ("disk", &["limits"]),
        ("tls", &["id"]),
        ("vm", WORDS),
        ("tenant", WORDS),
        ("billing", &["units", "id", "limits", "vm", "tenant"]),
        ("clock", &["units", "billing"]),
        ("image", &["id", "limits", "clock"]),
        ("pull", &["id", "limits", "clock", "image", "tls"]),
        (
            "journal",
            &["units", "id", "histogram", "limits", "vm", "tenant", "billing", "clock", "disk"],
        ),
        ("policy", &["units", "id", "limits", "vm", "tenant", "billing", "clock"]),
        ("network", &["units", "id", "limits", "vm"]),
        ("hypervisor", HYPERVISOR),
        ("guest", &["units", "id", "limits", "clock", "hypervisor"]),
        ("driver", DRIVER),
        ("probe", &["driver", "hypervisor", "tls"]),
        ("heads", &["id", "limits", "clock", "disk", "journal", "tls"]),
        ("delivery", &["id", "limits", "clock", "disk", "journal", "tls"]),
        ("tenancy", &["units", "id", "limits", "tenant", "billing", "clock", "disk", "journal"]),
        ("fleet", &["units", "id", "limits", "billing", "clock", "journal", "tls"]),
        (
            "invoice",
            &["units", "id", "limits", "vm", "tenant", "billing", "journal", "heads", "policy"],
        ),
        (
            "rollout",
            &[
                "units", "id", "limits", "vm", "tenant", "billing", "journal", "policy", "driver",
                "tenancy", "invoice",
            ],
        ),
        ("objects", &["limits", "journal", "tls"]),
        ("parsers", &["units", "vm", "billing", "hypervisor", "policy", "journal", "invoice"]),
        (
            "retention",
            &["units", "id", "limits", "tenant", "clock", "journal", "tenancy", "invoice"],
        ),
        ("api", API),
    ];
    let fixed = fixed.into_iter().map(|(from, to)| (from, to.to_vec()));
    fixed.chain([("runtime", runtime), ("cli", cli)]).collect()
}

#[test]
fn dependencies_point_one_way() {
    let host = root().join("host/src");
    let allowed = allowed();
    let mut wrong = Vec::new();
    for path in sources(&host) {
        let from = module(&path, &host);
        if from == "lib" || from == "main" {
            continue;
        }
        let may = allowed
            .get(from.as_str())
            .unwrap_or_else(|| panic!("the module `{from}` needs a place in the order"));
        let text = code(&path);
        for to in allowed.keys() {
            let names =
                [format!("crate::{to}::"), format!("crate::{to};"), format!("crate::{to},")];
            let is_free = *to == from || TOOLS.contains(to) || may.contains(to);
            if !is_free && names.iter().any(|name| text.contains(name)) {
                wrong.push(format!("{} uses crate::{to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_heavy_crate_has_one_home() {
    let host = root().join("host/src");
    let homes: [(&str, &[&str]); 15] = [
        ("wasmtime", &["policy"]),
        ("wasmparser", &["policy"]),
        ("wit_component", &["policy"]),
        ("rusqlite", &["journal"]),
        ("parquet", &["invoice", "journal"]),
        ("axum", &["api"]),
        ("jsonwebtoken", &["tenancy"]),
        ("ed25519_dalek", &["heads", "tenancy"]),
        ("clap", &["cli", "main"]),
        ("object_store", &["objects"]),
        (
            "reqwest",
            &["cli", "delivery", "fleet", "heads", "hypervisor", "objects", "probe", "pull", "tls"],
        ),
        ("rustls", &["tls"]),
        ("rustls_native_certs", &["tls"]),
        ("tokio_rustls", &["tls"]),
        ("indicatif", &["cli"]),
    ];
    let mut wrong = Vec::new();
    for path in sources(&host) {
        let from = module(&path, &host);
        let text = code(&path);
        for (name, home) in homes {
            if !home.contains(&from.as_str()) && text.contains(&format!("{name}::")) {
                wrong.push(format!("{} uses {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_pure_modules_wait_for_nothing_and_ask_nobody() {
    let host = root().join("host/src");
    let forbidden = [
        "async ",
        "tokio",
        "std::fs",
        "std::net",
        "std::io",
        "std::time",
        "std::thread",
        "serde",
        "rustix",
    ];
    let mut wrong = Vec::new();
    let folders = ["vm", "billing"].into_iter().flat_map(|folder| sources(&host.join(folder)));
    for path in folders.chain([host.join("tenant.rs")]) {
        let text = code(&path);
        wrong.extend(
            forbidden
                .iter()
                .filter(|word| text.contains(**word))
                .map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_clock_asks_for_the_time() {
    let host = root().join("host/src");
    let asks = ["SystemTime::now", "Utc::now", "Local::now", "clock_gettime"];
    let mut wrong = Vec::new();
    for path in sources(&host) {
        if module(&path, &host) == "clock" {
            continue;
        }
        let text = code(&path);
        wrong.extend(
            asks.iter()
                .filter(|ask| text.contains(**ask))
                .map(|ask| format!("{}: {ask}", path.display())),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn host_and_guest_meet_only_in_the_contract() {
    let manifest = |path: &str| fs::read_to_string(root().join(path)).expect("a manifest");
    assert!(!manifest("host/Cargo.toml").contains("guest-tracker"));
    assert!(!manifest("guest-tracker/Cargo.toml").contains("tallyman"));
}

#[test]
fn states_are_matched_without_a_wildcard() {
    let host = root().join("host/src/vm");
    for file in ["decide.rs", "event.rs", "state.rs"] {
        let text = code(&host.join(file));
        assert!(!text.contains("_ =>"), "{file} has a wildcard arm");
    }
}
