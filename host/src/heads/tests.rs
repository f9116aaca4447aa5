use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::journal::FactHash;

fn groups() -> Groups {
    Groups { count: 3, root: "ab".repeat(32) }
}

fn head(seq: u64) -> Head {
    Head { seq, hash: FactHash([u8::try_from(seq).expect("small"); 32]) }
}

#[test]
fn a_head_is_the_key_s_own_and_no_part_of_it_can_be_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = HeadKey::open(&folder.path().join("a")).expect("a key");
    let other = HeadKey::open(&folder.path().join("b")).expect("a key");
    let signed = key.sign(head(7), groups(), 1_800_000_000);
    assert!(signed.is_by(&key.public()) && !signed.is_by(&other.public()));
    let changed = [
        SignedHead { seq: 8, ..signed.clone() },
        SignedHead { hash: head(8).hash.to_string(), ..signed.clone() },
        SignedHead { at_s: 1_800_000_001, ..signed.clone() },
        SignedHead { groups: None, ..signed.clone() },
        SignedHead { groups: Some(Groups { count: 4, ..groups() }), ..signed.clone() },
        SignedHead { groups: Some(Groups { root: "0".into(), ..groups() }), ..signed.clone() },
        SignedHead { signature: signed.signature.to_uppercase(), ..signed.clone() },
        SignedHead { signature: signed.signature.replace(&signed.signature[..2], "zz"), ..signed },
    ];
    for changed in changed {
        assert!(!changed.is_by(&key.public()), "{changed:?}");
    }
    let shown = key.public().to_string();
    assert_eq!(shown.parse(), Ok(key.public()));
    assert!("xyz".parse::<PublicKey>().expect_err("no key").contains("64 hexadecimal"));
}

#[test]
fn a_key_is_made_once_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    let made = HeadKey::open(&path).expect("made").public();
    assert_eq!(HeadKey::open(&path).expect("read").public(), made);
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("set");
    let error = HeadKey::open(&path).err().expect("open to others").to_string();
    assert!(error.contains("chmod 600"), "{error}");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
    fs::write(&path, "no key").expect("written");
    assert!(matches!(HeadKey::open(&path), Err(KeyError::Form { .. })));
}

#[test]
fn heads_stay_in_their_order_over_restarts_and_a_torn_line_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let heads = Heads::open(folder.path()).expect("opened");
    for (seq, at_s) in [(3, 10), (3, 11), (2, 12), (9, 13)] {
        heads.sign(head(seq), groups(), at_s).expect("signed");
    }
    let listed = heads.after(0, 10);
    assert_eq!(listed.iter().map(|one| one.seq).collect::<Vec<_>>(), [3, 9]);
    assert_eq!(heads.after(3, 10).len(), 1);
    assert_eq!(heads.after(0, 1).len(), 1);
    drop(heads);
    let file = folder.path().join("heads.jsonl");
    let whole = fs::read_to_string(&file).expect("text");
    fs::write(&file, format!("{whole}{{\"seq\":10,")).expect("written");
    let heads = Heads::open(folder.path()).expect("opened");
    assert_eq!(heads.after(0, 10), listed);
    heads.sign(head(12), groups(), 14).expect("signed");
    assert_eq!(Heads::open(folder.path()).expect("opened").after(9, 10).len(), 1);
    assert!(heads.after(9, 10)[0].is_by(&heads.key()));
    // Part of a line that could not be written whole, by a full disk.
    let whole = fs::read_to_string(&file).expect("text");
    fs::write(&file, format!("{whole}{{\"seq\":13,")).expect("written");
    heads.sign(head(14), groups(), 15).expect("signed");
    let again = Heads::open(folder.path()).expect("opened");
    assert_eq!(again.after(0, 10), heads.after(0, 10));
    assert_eq!(again.after(9, 10).len(), 2);
}

#[test]
fn a_head_of_an_earlier_version_is_still_the_key_s_own() {
    let link = "07".repeat(32);
    let text = format!(r#"{{"seq":7,"hash":"{link}","at_s":1800000000,"signature":"SIG"}}"#);
    let key = SigningKey::from_bytes(&[7; 32]);
    let signed = key.sign(format!("tallyman head 1\n7\n{link}\n1800000000\n").as_bytes());
    let text = text.replace("SIG", &hex::encode(signed.to_bytes()));
    let head: SignedHead = serde_json::from_str(&text).expect("a head");
    let public: PublicKey = hex::encode(key.verifying_key().as_bytes()).parse().expect("a key");
    assert!(head.is_by(&public));
    assert_eq!(serde_json::to_string(&head).expect("text"), text);
}

#[test]
fn heads_of_facts_that_a_restored_copy_lacks_are_set_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path();
    assert_eq!(set_aside(data, head(1)).expect("looked"), None);
    let heads = Heads::open(data).expect("opened");
    let key = heads.key();
    heads.sign(head(9), groups(), 10).expect("signed");
    drop(heads);
    assert_eq!(set_aside(data, head(9)).expect("looked"), None);
    let aside = set_aside(data, head(8)).expect("moved").expect("a folder");
    assert!(aside.join("heads.jsonl").exists());
    let heads = Heads::open(data).expect("opened");
    assert_eq!((heads.last(), heads.key()), (None, key), "a new row by the same key");
}
