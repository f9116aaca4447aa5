//! `docs/meters.md` agrees with the declarations of the shipped policies.

use std::fmt::Write as _;

use tallyman::policy::metering::{Description, OptionKind};
use tallyman_tests::policies;

use crate::Host;

const COMMITTED: &str = include_str!("../../../docs/meters.md");

const HEAD: &str = "# Meters and options of the shipped policies

A price book prices a policy's meters by name, and an activation gives it options. `tallyman policy
get` and `tallyman policy test` show the same of any policy. Every activation also takes
`initializing-max`, which is the host's: how long `initializing` may last before it is handed to the
policy as `running`, `10m` if not given.

A stretch is what a minimum and a granularity apply to: a `start` of the machine from nothing, a
`wake` (a start, or leaving standby), a `visit` (an unbroken run of counted time), or all of its
`life`.
";

#[test]
fn the_document_of_meters_is_what_the_shipped_policies_declare() {
    let host = Host::open();
    let mut text = HEAD.to_owned();
    for name in policies::names() {
        let digest = host.policies.admit(&policies::component(&name)).expect("a policy").digest;
        let policy = host.policies.get(digest).expect("kept");
        section(&mut text, &name, policy.describe().expect("described"));
    }
    if text != COMMITTED {
        let file = policies::folder().with_file_name("meters.md");
        std::fs::write(&file, &text).expect("a file");
        panic!("docs/meters.md is not what the policies declare; {} is", file.display());
    }
}

fn section(text: &mut String, name: &str, declared: &Description) {
    write!(text, "\n## {name}\n\n| meter | counts | stretch |\n|---|---|---|\n").expect("a text");
    for meter in &declared.meters {
        writeln!(text, "| `{}` | {} | {} |", meter.name, meter.counts, meter.stretch.as_str())
            .expect("a text");
    }
    text.push_str("\n| option | values | default | |\n|---|---|---|---|\n");
    for option in &declared.options {
        let values = match &option.kind {
            OptionKind::Duration => "a length of time".to_owned(),
            OptionKind::Choice(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            OptionKind::Text => "a text".to_owned(),
        };
        writeln!(text, "| `{}` | {values} | `{}` | {} |", option.name, option.default, option.does)
            .expect("a text");
    }
}
