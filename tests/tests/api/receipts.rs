//! Receipts of other engines: a proof compares fuel with the engine that counted it, and results
//! with every other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tallyman::id::TenantId;
use tallyman::invoice::{
    Act, Bundle, Directory, Engines, Goal, Heading, Invoice, Issuer, Named, Proved, prove,
};
use tallyman::journal::{self, Archive, Journal};
use tallyman::policy::{Accounting, Backend, ENGINE, PolicyHost};
use tallyman::tenant::Actor;
use tallyman_tests::daemon::Daemon;
use tallyman_tests::policies;

use crate::daemon;
use crate::invoices::{BOOK, close, lived, proves, put_prices};

/// Bundles that earlier builds made, each named after the engine of its receipts.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/receipts");

fn host(backend: Backend) -> (PolicyHost, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let host = PolicyHost::open_with(&folder.path().join("compiled"), backend);
    (host.expect("an engine"), folder)
}

/// Proves the invoice of a bundle.
fn proved(bundle: &[u8], backend: Backend) -> Proved {
    let proofs = Bundle::read(bundle).expect("a whole bundle");
    let tenant: TenantId = proofs.tenant().parse().expect("an id");
    let (host, _folder) = host(backend);
    prove(&proofs, &Engines::new(&proofs, &host), &tenant, proofs.number())
        .unwrap_or_else(|why| panic!("{why}: {:?}", std::error::Error::source(&why)))
}

fn engines(invoice: &Invoice) -> Vec<&str> {
    invoice.receipts.iter().map(|receipt| receipt.engine.as_str()).collect()
}

/// Lives of two machines under EC2's rules, billed by a running daemon, as a bundle.
fn bundle_of_this_engine() -> Vec<u8> {
    let mut daemon = daemon();
    let api = daemon.api();
    let digest = api.upload(policies::component("ec2")).done()["digest"].clone();
    api.put("/tenants/default/policy", &json!({"digest": digest})).done();
    put_prices(api, &BOOK.replace("standby", "allocated"));
    lived(api, "web");
    lived(api, "db");
    close(api);
    let file = daemon.folder().join("bundle.json");
    let saved = daemon.cli(&["invoice", "bundle", "1", file.to_str().expect("text")]);
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let bytes = std::fs::read(&file).expect("a bundle");
    daemon.stop();
    bytes
}

fn name_of(engine: &str) -> String {
    format!("{}.json.zst", engine.replace(' ', "-"))
}

fn kept() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(KEPT).expect("the folder of receipts");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "zst"));
    files.sort();
    files
}

#[test]
fn receipts_of_every_engine_that_this_program_has_had_are_proved_by_this_one() {
    for file in kept() {
        let bytes = std::fs::read(&file).expect("a file");
        let bundle = zstd::decode_all(bytes.as_slice()).expect("compressed");
        for backend in [Backend::Native, Backend::Interpreter] {
            let proved = proved(&bundle, backend);
            let invoice = proved.invoice.expect("of the present form");
            assert!(invoice.receipts.len() > 1 && !invoice.lines.is_empty(), "{}", file.display());
            let engine = engines(&invoice)[0];
            assert_eq!(Path::new(&name_of(engine)).file_name(), file.file_name());
            let is_same = engine == ENGINE;
            assert!(proved.same_engine || !is_same, "{}: another engine", file.display());
        }
    }
    let wanted = name_of(ENGINE);
    if !kept().iter().any(|file| file.ends_with(&wanted)) {
        let folder = policies::folder().with_file_name("receipts");
        std::fs::create_dir_all(&folder).expect("a folder");
        let bundle = bundle_of_this_engine();
        let packed = zstd::encode_all(bundle.as_slice(), 19).expect("compressed");
        std::fs::write(folder.join(&wanted), packed).expect("a file");
        panic!("{KEPT} has no receipts of {ENGINE}; keep {}", folder.join(&wanted).display());
    }
}

/// Makes everything up to now final, by an engine with other settings, from the journal alone.
fn close_copied(daemon: &Daemon) {
    let (policies, _folder) = host(Backend::Copied);
    let policies = Arc::new(policies);
    let accounting = Arc::new(Accounting::new(policies.clone()));
    let opened = Journal::open(daemon.folder(), journal::Options::default(), accounting);
    let (journal, opened) = opened.expect("nobody has it");
    let tenant = TenantId::default_tenant();
    let until = opened.clock.now();
    let named: Directory =
        Arc::new(|id| Ok(Named { id: id.to_string(), name: "web".into(), tags: Vec::new() }));
    let issuer = Issuer::new(Arc::new(journal), policies);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let heading = Heading::default();
    let act = Act::by(Actor::Operator);
    let issued = issuer.reach(&tenant, Goal::Close(until), &heading, &act, &named);
    assert_eq!(runtime.block_on(issued).expect("documents").len(), 1);
}

#[test]
fn receipts_under_other_settings_of_the_engine_hold_by_their_results() {
    let mut daemon = daemon();
    put_prices(daemon.api(), BOOK);
    lived(daemon.api(), "web");
    daemon.stop();
    close_copied(&daemon);
    // The program proves it, natively and interpreted.
    let told = proves(&["verify"], daemon.folder());
    assert_eq!(told["documents"].as_array().map(Vec::len), Some(1), "{told}");
    let archive = Archive::open(daemon.folder()).expect("a journal");
    let tenant = TenantId::default_tenant();
    let is_same_engine = |backend| {
        let (host, _folder) = host(backend);
        let proved = prove(&archive, &Engines::new(&archive, &host), &tenant, 1).expect("proved");
        let invoice = proved.invoice.expect("of the present form");
        assert!(engines(&invoice).iter().all(|engine| engine.ends_with("memory copied")));
        proved.same_engine
    };
    assert!(is_same_engine(Backend::Copied));
    assert!(!is_same_engine(Backend::Native));
    assert!(!is_same_engine(Backend::Interpreter));
    // The settings matter: the same call takes other fuel.
    let of = |backend| {
        let (host, _folder) = host(backend);
        let admitted = host.admit(PolicyHost::standard_bytes()).expect("a policy");
        admitted.self_test.enter_fuel
    };
    assert_ne!(of(Backend::Native), of(Backend::Copied));
}
