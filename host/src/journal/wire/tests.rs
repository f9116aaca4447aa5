//! The texts of facts, which never change.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::billing::{About, Fact};
use crate::{tenant, vm};

/// One fact of each kind, as it has been hashed since the first version.
const TEXTS: [&str; 35] = [
    r#""kind":"host-started","version":"0.1.0"}"#,
    r#""kind":"clock-stepped","step_ns":-9223372036854775808}"#,
    r#""kind":"time-unknown","reason":"never-synchronised","claimed_ns":-5,"counted_ns":7}"#,
    r#""kind":"gap-settled","gap":3,"missing_ns":7,"charges":2,"reason":"no","by":"operator"}"#,
    r#""kind":"host-suspended","duration_ns":7}"#,
    r#""kind":"segment-sealed","digest":"0a00000000000000000000000000000000000000000000000000000000000000","first":1,"last":7,"before":"0000000000000000000000000000000000000000000000000000000000000000","link":"0a00000000000000000000000000000000000000000000000000000000000000","recorded_until_ns":5,"meter_from_ns":-5,"bytes":9}"#,
    r#""kind":"segment-archived","digest":"0a00000000000000000000000000000000000000000000000000000000000000","store":"s3://bucket/prefix","object":"h1/1-7.parquet"}"#,
    r#""kind":"segment-pruned","digest":"0a00000000000000000000000000000000000000000000000000000000000000","by":"operator"}"#,
    r#""kind":"host-heard","host":"h1","upto":7,"link":"0a00000000000000000000000000000000000000000000000000000000000000","until_ns":-5}"#,
    r#""kind":"policy-admitted","digest":"0a00000000000000000000000000000000000000000000000000000000000000","size_bytes":7}"#,
    r#""kind":"policy-activated","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"rollback":true}"#,
    r#""kind":"policy-faulted","digest":"0a00000000000000000000000000000000000000000000000000000000000000","reason":"\"loops\""}"#,
    r#""kind":"policy-moved","digest":"0a00000000000000000000000000000000000000000000000000000000000000","to":"quarantined","by":"host","reason":"loops","stand_in":null}"#,
    r#""kind":"tenant-created","by":"operator"}"#,
    r#""kind":"tenant-changed","limits":{"memory_bytes":1073741824,"vcpus":4},"fallback":["last-good","hold"],"by":"token:0a0000000000000000000000"}"#,
    r#""kind":"token-created","token":"0a0000000000000000000000","name":"ci","role":"policy-author","expires_ns":-1,"by":"jwt:someone"}"#,
    r#""kind":"token-revoked","token":"0a0000000000000000000000","by":"operator"}"#,
    r#""kind":"prices-activated","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"by":"operator"}"#,
    r#""kind":"agreement-changed","zone":"Europe/Berlin","cycle":"month","anchor_day":31,"from_ns":5,"by":"operator"}"#,
    r#""kind":"overridden","from_ns":-5,"until_ns":7,"policy":null,"book":"0a00000000000000000000000000000000000000000000000000000000000000","from_begin":false,"reason":"agreed","by":"token:0a0000000000000000000000"}"#,
    r#""kind":"tariff-published","tariff":"pro","version":"2026-12","digest":"0a00000000000000000000000000000000000000000000000000000000000000","by":"operator"}"#,
    r#""kind":"tariff-default","tariff":null,"by":"operator"}"#,
    r#""kind":"tariff-joined","tariff":"pro","version":"2026-12","digest":"0a00000000000000000000000000000000000000000000000000000000000000","by":"operator"}"#,
    r#""kind":"one-off","what":"goodwill","amount":"12.5","currency":"EUR","at_ns":-5,"reason":"an outage","by":"operator"}"#,
    concat!(
        r#""kind":"proposed","plan":"policy","#,
        r#""digest":"0a00000000000000000000000000000000000000000000000000000000000000","#,
        r#""from_ns":null,"name":null,"options":{"minimum":"60s"},"reason":"cheaper nights","#,
        r#""by":"token:0a0000000000000000000000"}"#,
    ),
    r#""kind":"proposal-ended","proposal":7,"is_accepted":true,"reason":null,"by":"operator"}"#,
    r#""kind":"plan-withdrawn","plan":"prices","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"by":"operator","reason":null}"#,
    r#""kind":"invoiced","number":3,"digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":-5,"until_ns":7,"corrects":2,"by":"operator"}"#,
    r#""kind":"intended","command":"snapshot","by":"schedule","about":"daily-1"}"#,
    r#""kind":"abandoned","command":"start","reason":"no image"}"#,
    r#""kind":"entered","phase":"stopped","vcpus":2,"memory_bytes":18446744073709551615,"disk_bytes":0,"snapshot_bytes":1,"session":3,"cause":"host-lost"}"#,
    r#""kind":"forked","parent":"p","child":"c","snapshot":null}"#,
    r#""kind":"amended","field":"tags","value":"{\"a\":\"b\"}"}"#,
    r#""kind":"visited","by":"operator","what":"exec","about":"ls -l"}"#,
    r#""kind":"deleted"}"#,
];

/// Facts with the fields that kinds gained later.
const LATER: [&str; 6] = [
    concat!(
        r#""kind":"segment-sealed","#,
        r#""digest":"0a00000000000000000000000000000000000000000000000000000000000000","#,
        r#""first":1,"last":7,"#,
        r#""before":"0000000000000000000000000000000000000000000000000000000000000000","#,
        r#""link":"0a00000000000000000000000000000000000000000000000000000000000000","#,
        r#""recorded_until_ns":5,"meter_from_ns":-5,"bytes":9,"#,
        r#""root":"0b00000000000000000000000000000000000000000000000000000000000000"}"#
    ),
    r#""kind":"policy-admitted","digest":"0a00000000000000000000000000000000000000000000000000000000000000","size_bytes":7,"by":"operator"}"#,
    r#""kind":"policy-activated","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"rollback":false,"by":"host","reason":"why"}"#,
    r#""kind":"policy-activated","digest":"0a00000000000000000000000000000000000000000000000000000000000000","from_ns":5,"rollback":false,"by":"host","options":{"minimum":"60s"}}"#,
    r#""kind":"tenant-changed","limits":{},"fallback":["hold"],"by":"operator","suspended":true,"ended_ns":5}"#,
    concat!(
        r#""kind":"entered","phase":"paused","vcpus":1,"memory_bytes":2,"disk_bytes":0,"#,
        r#""snapshot_bytes":1,"session":3,"cause":null,"#,
        r#""traffic":{"in_bytes":18446744073709551615,"#,
        r#""in_packets":0,"out_bytes":7,"out_packets":1}}"#
    ),
];

const HEAD: &str = r#"{"seq":9,"boot":"b","boottime_ns":18446744073709551615,"wall_ns":-1,"meter_ns":2,"recorded_ns":3,"tenant":"default","instance":"#;

/// The first kind that is about an instance, by its place in [`Kind::ALL`]: the others name
/// none.
const OF_INSTANCES: Kind = Kind::Intended;

#[test]
fn the_text_of_a_fact_never_changes() {
    let later = [
        Kind::SegmentSealed,
        Kind::PolicyAdmitted,
        Kind::PolicyActivated,
        Kind::PolicyActivated,
        Kind::TenantChanged,
        Kind::Entered,
    ];
    for (text, kind) in TEXTS.into_iter().zip(Kind::ALL).chain(LATER.into_iter().zip(later)) {
        let whose =
            if kind < OF_INSTANCES { r#"null,"previous":null"# } else { r#""i","previous":8"# };
        let text = format!("{HEAD}{whose},{text}");
        let record: FactRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(record.what.kind(), kind);
        let fact = Fact::try_from(&record).unwrap();
        let what = match &fact.about {
            About::Host(fact) => fact.into(),
            About::Tenant(fact) => fact.into(),
            About::Instance(_, fact) => What::from(fact),
        };
        let tenant = fact.tenant.to_string();
        let instance = fact.instance().map(ToString::to_string);
        let place = FactRecord {
            seq: 9,
            recorded_ns: 3,
            previous: record.previous,
            ..FactRecord::unsealed(&fact.at, what)
        };
        assert_eq!(FactRecord { tenant, instance, ..place }, record);
    }
}

#[test]
fn a_fact_names_an_instance_exactly_if_it_is_about_one() {
    for (text, kind) in TEXTS.into_iter().zip(Kind::ALL) {
        let of_instance = kind >= OF_INSTANCES;
        let whose = if of_instance { "null" } else { r#""i""# };
        let record: FactRecord =
            serde_json::from_str(&format!("{HEAD}{whose},\"previous\":null,{text}")).unwrap();
        let expected = if of_instance { NoFact::NoInstance(kind) } else { NoFact::Instance(kind) };
        assert_eq!(Fact::try_from(&record), Err(expected));
    }
}

#[test]
fn names_in_json_are_the_names_of_the_core() {
    for phase in vm::Phase::ALL {
        assert_eq!(serde_json::to_value(Phase::from(phase)).unwrap(), phase.as_str());
    }
    for command in vm::Command::ALL {
        assert_eq!(serde_json::to_value(Command::from(command)).unwrap(), command.as_str());
    }
    for asker in vm::Asker::ALL {
        assert_eq!(serde_json::to_value(Asker::from(asker)).unwrap(), asker.as_str());
    }
    for event in vm::Event::ALL {
        if let vm::Event::Exited(cause) = event {
            assert_eq!(serde_json::to_value(ExitCause::from(cause)).unwrap(), cause.as_str());
        }
    }
    for role in tenant::Role::ALL {
        assert_eq!(serde_json::to_value(Role::from(role)).unwrap(), role.as_str());
    }
    for standing in tenant::Standing::ALL {
        assert_eq!(serde_json::to_value(Standing::from(standing)).unwrap(), standing.as_str());
    }
    for step in tenant::FallbackStep::ALL {
        assert_eq!(serde_json::to_value(FallbackStep::from(step)).unwrap(), step.as_str());
    }
    for plan in tenant::Plan::ALL {
        assert_eq!(serde_json::to_value(Plan::from(plan)).unwrap(), plan.as_str());
    }
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert!("paid".parse::<Kind>().unwrap_err().to_string().contains("clock-stepped"));
}
