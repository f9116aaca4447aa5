//! The part of a fact's text that counting time needs, read without copying the rest.

use serde::Deserialize;

use super::error::{Damage, Flaw, Place};
use super::wire::{ExitCause, Phase, Traffic};
use crate::billing::{Counted, Entered};
use crate::units::Instant;
use crate::vm;

/// A fact as far as it matters for the time of its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Slim<'a> {
    pub(super) seq: u64,
    pub(super) meter_ns: i64,
    #[serde(borrow)]
    pub(super) instance: Option<&'a str>,
    pub(super) previous: Option<u64>,
    kind: &'a str,
    phase: Option<Phase>,
    vcpus: Option<u32>,
    memory_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    snapshot_bytes: Option<u64>,
    session: Option<u32>,
    cause: Option<ExitCause>,
    traffic: Option<Traffic>,
}

impl<'a> Slim<'a> {
    /// Reads a text that is the fact of this number.
    pub(super) fn read(seq: u64, body: &'a str) -> Result<Self, Damage> {
        let wrong = |flaw| Damage { place: Place::Fact(seq), flaw };
        let slim: Self =
            serde_json::from_str(body).map_err(|error| wrong(Flaw::Text(error.to_string())))?;
        if slim.seq == seq { Ok(slim) } else { Err(wrong(Flaw::Seq(slim.seq))) }
    }

    /// The instant on the meter clock.
    pub(super) fn at(&self) -> Instant {
        Instant(self.meter_ns)
    }

    /// The meaning for the time of its instance; none for a fact that counts no time.
    pub(super) fn counts(&self) -> Result<Option<Counted>, Damage> {
        match self.kind {
            "entered" => self.entered().map(Some).ok_or_else(|| Damage {
                place: Place::Fact(self.seq),
                flaw: Flaw::Text("a phase without its shape".into()),
            }),
            "deleted" => Ok(Some(Counted::Ends)),
            _ => Ok(None),
        }
    }

    fn entered(&self) -> Option<Counted> {
        Some(Counted::Enters(Entered {
            phase: self.phase?.into(),
            shape: vm::Shape {
                vcpus: self.vcpus?,
                memory_bytes: self.memory_bytes?,
                disk_bytes: self.disk_bytes?,
                snapshot_bytes: self.snapshot_bytes?,
            },
            session: self.session?,
            cause: self.cause.map(vm::ExitCause::from),
            traffic: Traffic::or_none(self.traffic),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::billing::Fact;
    use crate::journal::wire::FactRecord;

    #[test]
    fn a_slim_fact_counts_as_the_whole_one_does() {
        let head = r#"{"seq":9,"boot":"\"b\"","boottime_ns":1,"wall_ns":-1,"meter_ns":2,"recorded_ns":3,"tenant":"default","instance":"i","previous":8,"#;
        let rows = [
            r#""kind":"entered","phase":"stopped","vcpus":2,"memory_bytes":18446744073709551615,"disk_bytes":0,"snapshot_bytes":1,"session":3,"cause":"host-lost"}"#,
            r#""kind":"entered","phase":"running","vcpus":2,"memory_bytes":1,"disk_bytes":0,"snapshot_bytes":1,"session":3,"cause":null}"#,
            concat!(
                r#""kind":"entered","phase":"running","vcpus":2,"memory_bytes":1,"disk_bytes":0,"#,
                r#""snapshot_bytes":1,"session":3,"cause":null,"traffic":{"in_bytes":1,"#,
                r#""in_packets":2,"out_bytes":18446744073709551615,"out_packets":4}}"#
            ),
            r#""kind":"intended","command":"snapshot","by":"schedule","about":"da\"ily-1"}"#,
            r#""kind":"abandoned","command":"start","reason":"no \u0001 image"}"#,
            r#""kind":"amended","field":"tags","value":"{\"a\":\"b\"}"}"#,
            r#""kind":"deleted"}"#,
        ];
        for row in rows {
            let text = format!("{head}{row}");
            let record: FactRecord = serde_json::from_str(&text).unwrap();
            let fact = Fact::try_from(&record).unwrap();
            let slim = Slim::read(9, &text).unwrap();
            assert_eq!(slim.counts().unwrap(), fact.counts());
            assert_eq!(
                (slim.at(), slim.instance, slim.previous),
                (fact.at.meter, Some("i"), Some(8))
            );
        }
    }

    #[test]
    fn another_fact_in_its_place_is_damage() {
        let text = r#"{"seq":9,"meter_ns":2,"instance":null,"previous":null,"kind":"deleted"}"#;
        assert!(Slim::read(8, text).is_err());
        assert!(Slim::read(9, &text[1..]).is_err());
        let text = r#"{"seq":9,"meter_ns":2,"instance":"i","previous":null,"kind":"entered"}"#;
        assert!(Slim::read(9, text).unwrap().counts().is_err());
    }
}
