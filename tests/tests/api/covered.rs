//! Each file of the data folder: a change there is found by `tallyman journal verify`, or the
//! documentation lists the file with the reason.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tallyman_tests::daemon::Daemon;
use tallyman_tests::deadline::eventually;

use crate::daemon;
use crate::invoices::{BOOK, close, lived, put_prices};

/// The files below a folder, by their path in it. Sockets, pipes and links are none.
fn files(root: &Path, folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let kind = fs::symlink_metadata(&path).expect("there").file_type();
        if kind.is_dir() {
            files(root, &path, found);
        } else if kind.is_file() {
            found.push(path.strip_prefix(root).expect("inside").to_owned());
        }
    }
}

/// Beginnings of the paths that the documentation lists as not covered.
fn listed() -> Vec<String> {
    let text = include_str!("../../../docs/journal.md");
    let (_, text) = text.split_once("| file | why |").expect("the table");
    let rows = text.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').nth(1).expect("a path").to_owned()).collect()
}

/// A stopped daemon that has used everything that leaves files.
fn rich() -> Daemon {
    let mut daemon = daemon();
    let archive = daemon.folder().with_extension("archive");
    fs::create_dir(&archive).expect("created");
    daemon.stop();
    let place = archive.to_str().expect("text").to_owned();
    daemon.add_arguments(&["--archive", &place, "--archive-as", "h1", "--heads-to", "/bin/true"]);
    daemon.start_again();
    let api = daemon.api();
    api.tenant("acme", "tenant-admin");
    put_prices(api, BOOK);
    let id = lived(api, "web");
    api.act(&format!("/instances/{id}/start")).done();
    api.wait(&id, "Running");
    api.post(&format!("/instances/{id}/snapshots"), &json!({"name": "kept"})).done();
    api.command(&id, "standby");
    close(api);
    for call in [["journal", "seal"], ["journal", "archive"]] {
        let done = daemon.cli(&call);
        assert!(done.status.success(), "{call:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    eventually("published heads", || {
        let heads = daemon.api().get("/health").done()["heads"].clone();
        (heads["published"].as_u64() > Some(0)).then_some(())
    });
    daemon.stop();
    daemon
}

/// The places of a file at which a change is not noticed.
fn unnoticed(path: &Path, verifies: &dyn Fn() -> bool) -> Vec<usize> {
    let good = fs::read(path).expect("readable");
    let places = [good.len() / 3, good.len() / 2].into_iter().filter(|place| *place < good.len());
    let missed = places.filter(|place| {
        let mut bad = good.clone();
        bad[*place] ^= 0x11;
        fs::write(path, &bad).expect("written");
        verifies()
    });
    let missed = missed.collect();
    fs::write(path, &good).expect("put back");
    missed
}

#[test]
fn a_change_in_each_file_of_the_data_folder_is_found_or_the_file_is_listed() {
    let daemon = rich();
    let verifies =
        || daemon.command(&["journal", "verify"]).output().expect("run").status.success();
    assert!(verifies());
    let mut found = Vec::new();
    files(daemon.folder(), daemon.folder(), &mut found);
    // The test's own, and the database: a page of it may be free, and another test changes each
    // of its columns.
    found.retain(|file| !["daemon.log", "tallyman.db"].iter().any(|own| file == Path::new(own)));
    let listed = listed();
    let is_listed =
        |file: &Path| listed.iter().any(|begin| file.to_string_lossy().starts_with(begin));
    let covered: Vec<_> = found.iter().filter(|file| !is_listed(file)).collect();
    assert!(covered.len() >= 4, "{covered:?}");
    for file in covered {
        let places = unnoticed(&daemon.folder().join(file), &verifies);
        assert!(places.is_empty(), "{}: neither found nor listed, at {places:?}", file.display());
    }
    assert!(verifies(), "all is put back");
}
