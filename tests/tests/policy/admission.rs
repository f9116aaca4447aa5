//! Components that are no policies are refused, with the reason.

use tallyman::id::Digest;
use tallyman::limits::policy as limits;
use tallyman::policy::{
    AdmissionError, Backend, CacheKey, Fault, PolicyHost, Profile, SelfTestError, Setup, World,
};
use tallyman_tests::policies;

use crate::Host;
use crate::hostile::{self, Contract, Evil, HONEST, Metering, When};

const MONOTONIC_CLOCK: &str =
    "package wasi:clocks@0.2.6; interface monotonic-clock { now: func() -> u64; }";

/// The refusal of a component; afterwards the standard policy must still answer.
fn refused(bytes: &[u8]) -> AdmissionError {
    let host = Host::open();
    let refused = host.policies.admit(bytes).expect_err("not a policy");
    assert_eq!(
        host.policies.get(Digest::of(bytes)).map(|policy| policy.digest()),
        None,
        "it was kept"
    );
    host.policies.admit(PolicyHost::standard_bytes()).expect("the standard policy still answers");
    refused
}

#[test]
fn what_the_build_leaves_is_admitted_and_small() {
    let host = Host::open();
    for name in ["standard", "coarse"] {
        let bytes = policies::component(name);
        let admitted =
            host.policies.admit(&bytes).unwrap_or_else(|why| panic!("{name}: {}", why.in_words()));
        assert_eq!((admitted.world, admitted.digest), (World::Policy, Digest::of(&bytes)));
        assert!(bytes.len() < 104 << 10, "{name} has {} bytes", bytes.len());
    }
    assert_eq!(policies::component("standard"), PolicyHost::standard_bytes());
}

#[test]
fn a_meter_alone_is_admitted_and_accounts_by_the_standard() {
    let host = Host::open();
    let meter = Metering::default().alone(1);
    let admitted = host.policies.admit(&meter).unwrap_or_else(|why| panic!("{}", why.in_words()));
    assert_eq!(admitted.world, World::Meter);
    let policy = host.policies.get(admitted.digest).expect("kept");
    let before = tallyman::billing::Tracker::default();
    let at = tallyman::units::Instant(7);
    let phase = tallyman::vm::Phase::Running;
    assert_eq!(
        policy.enter(&before, phase, at),
        host.policies.standard().enter(&before, phase, at)
    );
}

#[test]
fn bytes_that_are_no_webassembly_are_no_component() {
    for bytes in [&b""[..], b"\0", b"#!/bin/sh\n", &[0xff; 4096]] {
        assert_eq!(refused(bytes), AdmissionError::NotAComponent, "{bytes:?}");
    }
}

#[test]
fn a_truncated_component_is_malformed_wherever_it_ends() {
    let whole = policies::component("standard");
    for end in [8, 9, 100, whole.len() / 2, whole.len() - 1] {
        let refused = refused(&whole[..end]);
        let expected = match end {
            // The preamble alone is an empty component.
            8 => {
                matches!(refused, AdmissionError::WrongWorld { ref exports } if exports.is_empty())
            }
            _ => matches!(refused, AdmissionError::Malformed { .. }),
        };
        assert!(expected, "cut at {end}: {refused:?}");
    }
}

#[test]
fn a_component_with_a_flipped_byte_never_harms_the_host() {
    let host = Host::open();
    let whole = policies::component("coarse");
    for place in (8..whole.len()).step_by(whole.len() / 60) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x15;
        // A truncated or changed component may still be a policy: a changed name or constant need
        // not matter. Then it has passed the self-test.
        if let Err(refused) = host.policies.admit(&bytes) {
            assert!(!refused.in_words().is_empty());
        }
    }
    host.policies.admit(&whole).expect("the good one is admitted");
}

#[test]
fn a_core_module_is_named_as_such() {
    assert_eq!(refused(&Contract::served().dummy_module("policy")), AdmissionError::CoreModule);
}

#[test]
fn an_import_is_refused_by_name() {
    let contract = Contract::served()
        .beside("clocks.wit", MONOTONIC_CLOCK)
        .with("world policy {", "world policy {\n  import wasi:clocks/monotonic-clock@0.2.6;");
    let names = vec!["wasi:clocks/monotonic-clock@0.2.6".to_owned()];
    let refused = refused(&contract.dummy("policy"));
    assert_eq!(refused, AdmissionError::Imports { names });
    assert!(refused.to_string().contains("may import nothing but tallyman:policy/types@0.2.0"));
}

#[test]
fn a_function_smuggled_into_the_types_is_refused() {
    let contract = Contract::served().with(
        "interface types {",
        "interface types {\n  @since(version = 0.2.0)\n  now: func() -> s64;",
    );
    let refused = refused(&contract.dummy("policy"));
    assert!(matches!(refused, AdmissionError::WrongTypes { .. }), "{refused:?}");
}

#[test]
fn another_version_is_refused_with_both_versions() {
    let refused = refused(&Contract::served().with("0.2.0", "0.3.0").dummy("policy"));
    // The types are an import, so they are checked first.
    let names = vec!["tallyman:policy/types@0.3.0".to_owned()];
    let version = AdmissionError::WrongVersion {
        wants: "tallyman:policy/accounting@0.2.0".into(),
        has: "tallyman:policy/accounting@0.3.0".into(),
        differs: Vec::new(),
    };
    assert_ne!(
        refused,
        AdmissionError::Imports { names },
        "the version is the reason, not the import"
    );
    assert_eq!(refused, version);
}

#[test]
fn a_component_of_the_first_version_is_told_that_policies_measure_now() {
    let first =
        Contract::served().with("0.2.0", "0.1.0").with("interface metering", "interface rating");
    let first = first.with("export metering;", "export rating;");
    for world in ["policy", "meter"] {
        let refused = refused(&first.dummy(world));
        assert!(matches!(refused, AdmissionError::WrongVersion { .. }), "{refused:?}");
        let words = refused.to_string();
        assert!(words.contains("@0.1.0; this host serves tallyman:policy/"), "{words}");
        assert!(words.contains("a policy measures and states no amounts"), "{words}");
    }
}

#[test]
fn what_interpreters_export_besides_is_known() {
    let with = |more: &str| {
        let export = format!("export metering;\n  {more}");
        Contract::served().with("export metering;", &export).dummy("meter")
    };
    // The dummy traps, so an admitted one fails its self-test.
    let python = refused(&with("export exports: interface { init: func(); }"));
    assert!(matches!(python, AdmissionError::SelfTest(_)), "{python:?}");
    assert_eq!(refused(&with("export init: func();")), AdmissionError::Rounds);
}

#[test]
fn another_version_is_told_what_differs_function_by_function() {
    let told = |contract: Contract| {
        let refused = refused(&contract.with("0.2.0", "0.3.0").dummy("policy"));
        let AdmissionError::WrongVersion { differs, .. } = &refused else { panic!("{refused:?}") };
        assert!(differs.iter().all(|one| refused.to_string().contains(one)), "{refused}");
        differs.clone()
    };
    let renamed = told(Contract::served().with(
        "snapshot: func(state: tracker, at: instant)",
        "look: func(state: tracker, at: instant)",
    ));
    assert_eq!(renamed, ["accounting.snapshot is missing", "accounting.look is unknown here"]);
    let retyped = told(
        Contract::served()
            .with("enter: func(state: tracker, to: phase,", "enter: func(state: tracker, to: u8,"),
    );
    let [retyped] = retyped.as_slice() else { panic!("{retyped:?}") };
    assert!(retyped.starts_with("accounting.enter has `to: u8, at: s64"), "{retyped}");
    assert!(retyped.contains("this host `to: enum {created, initializing, running"), "{retyped}");
}

#[test]
fn a_changed_type_is_told_where_it_parts() {
    let refused = refused(
        &Contract::served().with("running: duration,", "active: duration,").dummy("policy"),
    );
    let AdmissionError::WrongTypes { differs, .. } = &refused else { panic!("{refused:?}") };
    assert!(
        differs.iter().any(|one| one.starts_with("accounting.enter has `active: u64")),
        "{differs:?}"
    );
    assert!(differs[0].contains("this host `running: u64"), "{differs:?}");
}

#[test]
fn profile_large_takes_more_and_lets_nobody_account() {
    let host = Host::open();
    let policy = policies::component("standard");
    assert_eq!(
        Host::open().policies.admit_in(Profile::Large, &policy).err(),
        None,
        "the standard is loaded already"
    );
    let other = policies::component("coarse");
    assert_eq!(
        host.policies.admit_in(Profile::Large, &other).expect_err("it accounts"),
        AdmissionError::LargeAccounts
    );
    let huge = vec![0; Profile::Large.bounds().component_bytes_max + 1];
    let refused = host.policies.admit_in(Profile::Large, &huge).expect_err("too large");
    assert_eq!(refused, AdmissionError::TooLarge { bytes: huge.len(), profile: Profile::Large });
    let refused = host.policies.admit(&huge).expect_err("too large");
    assert!(refused.to_string().contains("profile large takes more"), "{refused}");
    for (compact, large) in [
        (Profile::Compact.bounds().memory_bytes_max, Profile::Large.bounds().memory_bytes_max),
        (Profile::Compact.bounds().stack_bytes_max, Profile::Large.bounds().stack_bytes_max),
    ] {
        assert!(compact < large);
    }
}

#[test]
fn a_meter_runs_under_the_profile_that_it_was_admitted_in() {
    let meter = Metering::default().alone(300);
    let host = Host::open();
    let refused =
        host.policies.admit(&meter).expect_err("its memory is too large for profile compact");
    assert!(matches!(refused, AdmissionError::Compile { .. }), "{refused:?}");
    let admitted = host
        .policies
        .admit_in(Profile::Large, &meter)
        .unwrap_or_else(|why| panic!("{}", why.in_words()));
    assert_eq!((admitted.profile, admitted.world), (Profile::Large, World::Meter));
    let policy = host.policies.get(admitted.digest).expect("kept");
    assert_eq!(policy.profile(), Profile::Large);
    // At the next start it is loaded from the cache, under the same bounds.
    let folder = host._cache.path().join("compiled");
    let again = PolicyHost::open(&folder).expect("a host");
    let loaded = again.load(Profile::Large, admitted.digest, &meter).expect("compiled before");
    assert_eq!(loaded.profile(), Profile::Large);
}

#[test]
fn another_world_is_refused_with_what_it_exports() {
    let contract = Contract::served().with(
        "world meter {\n  @since(version = 0.2.0)\n  export metering;",
        "world meter {\n  @since(version = 0.2.0)\n  export run: func();",
    );
    assert_eq!(
        refused(&contract.dummy("meter")),
        AdmissionError::WrongWorld { exports: vec!["run".into()] }
    );
}

#[test]
fn accounting_without_metering_is_half_a_policy() {
    let contract = Contract::served().with(
        "world meter {\n  @since(version = 0.2.0)\n  export metering;",
        "world meter {\n  @since(version = 0.2.0)\n  export accounting;",
    );
    let missing = "tallyman:policy/metering@0.2.0".to_owned();
    assert_eq!(refused(&contract.dummy("meter")), AdmissionError::MissingExport { missing });
}

#[test]
fn a_changed_field_is_found_before_anything_is_compiled() {
    for (from, to) in [
        ("type duration = u64;", "type duration = u32;"),
        ("since: instant,\n    /// Time", "since: option<instant>,\n    /// Time"),
        ("running: duration,", "active: duration,"),
    ] {
        let refused = refused(&Contract::served().with(from, to).dummy("policy"));
        assert!(matches!(refused, AdmissionError::WrongTypes { .. }), "{to}: {refused:?}");
    }
}

#[test]
fn a_component_that_is_too_large_is_not_even_read() {
    let bytes = vec![0; limits::COMPONENT_BYTES_MAX + 1];
    assert_eq!(
        refused(&bytes),
        AdmissionError::TooLarge { bytes: bytes.len(), profile: Profile::Compact }
    );
}

#[test]
fn too_many_functions_are_counted_before_compiling() {
    let functions = "(func)".repeat(limits::FUNCTIONS_MAX as usize + 1);
    let bytes = wat::parse_str(format!("(component (core module {functions}))")).expect("text");
    let functions = limits::FUNCTIONS_MAX + 1;
    assert_eq!(
        refused(&bytes),
        AdmissionError::TooManyFunctions { functions, profile: Profile::Compact }
    );
}

#[test]
fn a_large_custom_section_is_refused_by_name() {
    let bytes = limits::CUSTOM_SECTION_BYTES_MAX + 1;
    let text = format!("(component (@custom \"ballast\" \"{}\"))", "x".repeat(bytes));
    let refused = refused(&wat::parse_str(text).expect("text"));
    assert_eq!(
        refused,
        AdmissionError::CustomSection { name: "ballast".into(), bytes, profile: Profile::Compact }
    );
}

#[test]
fn a_memory_larger_than_a_call_may_have_is_refused() {
    let pages = limits::MEMORY_BYTES_MAX / 65_536 + 1;
    let evil = Evil::both("").component_with(
        When::Never,
        "(export \"memory\") 1)",
        &format!("(export \"memory\") {pages})"),
    );
    let refused = refused(&evil);
    assert!(matches!(refused, AdmissionError::Compile { .. }), "{refused:?}");
}

/// Items of a core module that use a feature of WebAssembly that is not in the pinned set.
const UNPINNED: [&str; 9] = [
    "(func (drop (i32.atomic.load (i32.const 0))))",
    "(tag (param i32))",
    "(type (struct (field i32)))",
    "(func (param (ref func)))",
    "(func (param v128 v128 v128) (result v128) \
     (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))",
    "(memory 1)",
    "(table i64 1 funcref)",
    "(func (param i64 i64) (result i64 i64) (i64.mul_wide_u (local.get 0) (local.get 1)))",
    "(memory 1 2 shared)",
];

/// Items that use features of the pinned set.
const PINNED: [&str; 8] = [
    "(func (result v128) (v128.const i32x4 1 2 3 4))",
    "(func (result i32 i64) (i32.const 1) (i64.const 2))",
    "(func (param i32) (result i32) (i32.extend8_s (local.get 0)))",
    "(func (param f64) (result i32) (i32.trunc_sat_f64_s (local.get 0)))",
    "(func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))",
    "(func (param funcref))",
    "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
    "(func $again (result i32) (return_call $again))",
];

#[test]
fn the_features_of_webassembly_are_pinned_whatever_the_engine_has_on() {
    let with = |items: &str| {
        let memory = "(export \"memory\") 1)";
        HONEST.component_with(When::Never, memory, &format!("{memory} {items}"))
    };
    let host = Host::open();
    for items in UNPINNED {
        let refused = host.policies.admit(&with(items)).map(|admitted| admitted.digest);
        assert!(
            matches!(
                refused,
                Err(AdmissionError::Compile { .. } | AdmissionError::WrongTypes { .. })
            ),
            "{items}: {refused:?}"
        );
    }
    for items in PINNED {
        let admitted = host.policies.admit(&with(items)).map_err(|error| error.in_words());
        assert!(admitted.is_ok(), "{items}: {admitted:?}");
    }
}

#[test]
fn compiled_code_that_another_host_has_sealed_is_compiled_anew() {
    let cache = tempfile::tempdir().expect("a folder");
    let bytes = policies::component("coarse");
    let open = |name: &str, key: [u8; 32]| {
        let cache = &cache.path().join(name);
        let key = Some(CacheKey::from(key));
        let setup = Setup { cache, key, backend: Backend::Native, compiler: None };
        PolicyHost::open_as(setup).expect("a host")
    };
    let digest = open("one", [1; 32]).admit(&bytes).expect("a policy").digest;
    open("other", [2; 32]).admit(&bytes).expect("a policy");
    let file = |name: &str| cache.path().join(name).join(format!("{digest}.compiled"));
    assert!(open("one", [1; 32]).load_compiled(Profile::Compact, digest), "its own");
    std::fs::copy(file("other"), file("one")).expect("a copy");
    assert!(!open("one", [1; 32]).load_compiled(Profile::Compact, digest), "another host's");
    // Its own again, under the name of another policy.
    let host = open("one", [1; 32]);
    host.load(Profile::Compact, digest, &bytes).expect("compiled anew");
    let renamed = Digest([9; 32]);
    std::fs::copy(file("one"), cache.path().join(format!("one/{renamed}.compiled"))).expect("copy");
    assert!(!host.load_compiled(Profile::Compact, renamed), "renamed");
}

#[test]
fn misbehaviour_in_the_self_test_is_refused_with_the_fault() {
    for (evil, fits) in [
        (hostile::TRAPS, (|fault| matches!(fault, Fault::Trap { .. })) as fn(&Fault) -> bool),
        (hostile::LOOPS, |fault| matches!(fault, Fault::OutOfFuel { .. })),
        (hostile::INVENTS_A_SECOND, |fault| matches!(fault, Fault::Violation { .. })),
        (hostile::REFUSES, |fault| matches!(fault, Fault::Refused(_))),
    ] {
        let refused = refused(&evil.component(When::Always));
        let AdmissionError::SelfTest(SelfTestError::Fault { function: "enter", vector: 0, fault }) =
            &refused
        else {
            panic!("{refused:?}")
        };
        assert!(fits(fault), "{fault:?}");
    }
}

#[test]
fn a_batch_that_answers_differently_is_refused() {
    // Item 0 counts as created in a batch only.
    let differs =
        Evil { enter: "", columns: "(i32.store8 (i32.load (i32.const 1028)) (i32.const 7))" };
    let refused = refused(&differs.component(When::Always));
    let differs = SelfTestError::Differs { function: "enter-all", item: 0 };
    assert_eq!(refused, AdmissionError::SelfTest(differs));
}

#[test]
fn the_honest_template_is_admitted() {
    let host = Host::open();
    host.policies
        .admit(&hostile::HONEST.component(When::Never))
        .unwrap_or_else(|why| panic!("{}", why.in_words()));
}

#[test]
fn a_start_takes_compiled_policies_and_distrusts_damaged_ones() {
    let cache = tempfile::tempdir().expect("a folder");
    let folder = cache.path().join("compiled");
    let bytes = policies::component("coarse");
    let digest = PolicyHost::open(&folder).expect("a host").admit(&bytes).expect("a policy").digest;
    let file = folder.join(format!("{digest}.compiled"));
    let good = std::fs::read(&file).expect("the compiled policy");
    for end in [0, 31, 32, good.len() - 1] {
        std::fs::write(&file, &good[..end]).expect("a torn file");
        let host = PolicyHost::open(&folder).expect("a host");
        assert_eq!(
            host.load(Profile::Compact, digest, &bytes).expect("compiled again").digest(),
            digest
        );
        assert_eq!(std::fs::read(&file).expect("the compiled policy"), good, "cut at {end}");
    }
    let mut rotten = good.clone();
    rotten[good.len() / 2] ^= 1;
    std::fs::write(&file, &rotten).expect("a rotten file");
    PolicyHost::open(&folder)
        .expect("a host")
        .load(Profile::Compact, digest, &bytes)
        .expect("compiled again");
    assert_eq!(std::fs::read(&file).expect("the compiled policy"), good);
}

#[test]
fn a_cache_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let cache = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(cache.path(), std::fs::Permissions::from_mode(0o770))
        .expect("our folder");
    let refused = PolicyHost::open(cache.path()).err().expect("refused");
    let tallyman::policy::OpenError::Cache(tallyman::policy::CacheError::Open { mode, .. }) =
        refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(mode, 0o770);
}

#[test]
fn other_bytes_than_those_named_are_refused() {
    let host = Host::open();
    let bytes = policies::component("coarse");
    let named = Digest([7; 32]);
    let refused = host.policies.load(Profile::Compact, named, &bytes).expect_err("other bytes");
    assert_eq!(refused, AdmissionError::Digest { named, is: Digest::of(&bytes) });
}

#[test]
fn the_same_question_takes_the_same_fuel_on_every_host() {
    let once = |_| {
        Host::open().policies.admit(PolicyHost::standard_bytes()).expect("the standard").self_test
    };
    let reports: Vec<_> = (0..3).map(once).collect();
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0], reports[2]);
}
