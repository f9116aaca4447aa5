//! Output for people and programs: tables, readable durations, JSON.

use std::io::{self, Write};

use anyhow::bail;
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::Value;

use crate::api::format_size;
use crate::api::model::{
    Declared, DeclaredOption, ExpiryAction, Instance, Intervals, Policy, Proof, RestartBlock,
    RestartMode, Timestamp, WorkloadHealth,
};
use crate::clock;
use crate::tenant::Standing;
use crate::units::Nanos;

/// A form of results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// For people
    #[default]
    Table,
    /// For people, with more columns where there are more
    Wide,
    /// The names alone, or the ids or numbers of what has no name, one a line
    Name,
    /// As the API answers it
    Json,
    /// As JSON, one element of a list a line
    Jsonl,
}

/// The way in which results are printed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Output {
    pub(super) form: Form,
}

impl Output {
    /// Prints `value` in its form; for people, as the text that `to_text` makes of it.
    pub(super) fn show<T: Serialize>(
        self,
        value: &T,
        to_text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.form {
            Form::Table | Form::Wide => {
                let words = to_text(value);
                text(&format!("{}\n", words.trim_end()))
            }
            Form::Json => {
                let json = serde_json::to_string_pretty(value)?;
                text(&format!("{}\n", escaped(&json)))
            }
            Form::Jsonl => {
                let value = serde_json::to_value(value)?;
                let all = value.as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
                all.iter().try_for_each(|one| text(&format!("{}\n", escaped(&one.to_string()))))
            }
            Form::Name => {
                let value = serde_json::to_value(value)?;
                elements(&value).iter().try_for_each(|one| match name(one) {
                    Some(name) => line(&name),
                    None => bail!("this has no name; print it with -o json"),
                })
            }
        }
    }

    /// Returns true if programs read the results.
    pub(super) fn is_json(self) -> bool {
        matches!(self.form, Form::Json | Form::Jsonl)
    }

    /// The same, as JSON if `asked`.
    pub(super) fn or_json(self, asked: bool) -> Self {
        if asked && !self.is_json() { Self { form: Form::Json } } else { self }
    }
}

/// The elements of a list, of the only list in an object without a name, or the value itself.
fn elements(value: &Value) -> &[Value] {
    if let Value::Array(all) = value {
        return all;
    }
    let lists: Vec<_> = value
        .as_object()
        .into_iter()
        .flat_map(|of| of.values())
        .filter_map(Value::as_array)
        .collect();
    match lists[..] {
        [only] if name(value).is_none() => only,
        _ => std::slice::from_ref(value),
    }
}

/// The name by which a thing is asked for. A token has a name, too, but several may have the same
/// one.
fn name(value: &Value) -> Option<String> {
    let token = value.get("role").and(value.get("id"));
    let keys = ["seq", "name", "number", "id", "digest"];
    let named = token.or_else(|| keys.iter().find_map(|key| value.get(key)));
    match named? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Prints text without control characters that a terminal would obey: guests and tenants choose
/// much of it.
pub(super) fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(printable(text).as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Text in which every character that a terminal would obey, other than a line feed and a tab, is
/// replaced by U+FFFD.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(
            |c| {
                if is_obeyed(c) && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
            },
        )
        .collect()
}

/// The text of a cell in one line, so that it can't imitate another row.
fn cell(text: &str) -> String {
    text.trim_end()
        .chars()
        .map(|c| if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// JSON in which every character that a terminal would obey is an escape. Its value is the same.
pub(super) fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // A line feed between values; inside of strings they are escapes already.
            '\n' => escaped.push(c),
            c if is_obeyed(c) => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Returns true for characters that a terminal obeys instead of showing: controls, and changes of
/// the writing direction.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Prints one line.
pub(super) fn line(line: &str) -> anyhow::Result<()> {
    text(&format!("{line}\n"))
}

/// The meters and the options of a policy.
pub(super) fn declared(declared: &Declared) -> String {
    let meters = declared
        .meters
        .iter()
        .map(|meter| vec![meter.name.clone(), meter.stretch.clone(), meter.counts.clone()]);
    let options = declared.options.iter().map(|option| {
        vec![option.name.clone(), values(option), option.default.clone(), option.does.clone()]
    });
    let mut text = format!(
        "{}\n\n{}",
        table(&["METER", "STRETCH", "COUNTS"], &[], meters),
        table(&["OPTION", "VALUES", "DEFAULT", "WHAT IT DOES"], &[], options)
    );
    if declared.billed_ratio != 1_000 {
        text.push_str(&format!(
            "\n\nlines of its own bill up to {} thousandths of what was used",
            declared.billed_ratio
        ));
    }
    text
}

fn values(option: &DeclaredOption) -> String {
    if option.choices.is_empty() { option.kind.clone() } else { option.choices.join(" or ") }
}

/// A table without ruling: a head, then rows; columns in `right` are aligned to the right.
pub(super) fn table(
    head: &[&str],
    right: &[usize],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head.iter().copied());
    let mut any = false;
    for row in rows {
        table.add_row(row.iter().map(|text| cell(text)));
        any = true;
    }
    if !any {
        return "none".into();
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    trimmed(&table)
}

/// Names and values, one pair a line.
pub(super) fn pairs(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([name.to_owned(), cell(&value)]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A duration in three or four digits, truncated: `850 ns`, `12.3 ms`, `4.56 s`, `2 m 05 s`, `3 h
/// 04 m`, `5 d 06 h`.
pub(super) fn duration(nanos: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let seconds = nanos / SECOND;
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{}.{} µs", nanos / 1_000, nanos % 1_000 / 100),
        1_000_000..SECOND => format!("{}.{} ms", nanos / 1_000_000, nanos % 1_000_000 / 100_000),
        _ if seconds < 60 => format!("{seconds}.{:02} s", nanos % SECOND / 10_000_000),
        _ if seconds < 3_600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{} h {:02} m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A duration to the nanosecond.
pub(super) fn exact(nanos: u64) -> String {
    Nanos(nanos).to_string()
}

/// Time since an instant, by this machine's wall clock; 0 if it is in the future.
pub(super) fn ago(at: Timestamp) -> String {
    let passed = clock::wall_ns().saturating_sub(at.0);
    duration(u64::try_from(passed).unwrap_or(0))
}

/// The first digits of a digest.
pub(super) fn short(digest: &crate::id::Digest) -> String {
    digest.short()
}

/// A digest, behind the name of what it stands for.
pub(super) fn named(name: Option<&str>, digest: &str) -> String {
    match name {
        Some(name) => format!("{name} ({digest})"),
        None => digest.to_owned(),
    }
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// Instances, one a line.
pub(super) fn instances(instances: &[Instance], form: Form) -> String {
    let mut head = vec![
        "NAME", "ID", "STATE", "PHASE", "SINCE", "RUNNING", "STANDBY", "IMAGE", "VCPUS", "MEMORY",
    ];
    let is_wide = form == Form::Wide;
    if is_wide {
        head.extend(["TENANT", "HYPERVISOR", "SESSION", "CREATED", "TAGS"]);
    }
    let spent = |instance: &Instance, phase| {
        let spent = instance.phase_durations_ms.as_ref();
        let millis = spent.and_then(|spent| spent.entries().find(|(entry, _)| *entry == phase));
        millis.map_or_else(|| "-".into(), |(_, millis)| duration(millis.saturating_mul(1_000_000)))
    };
    let rows = instances.iter().map(|instance| {
        let mut row = vec![
            instance.name.to_string(),
            instance.id.to_string(),
            instance.state.to_string(),
            optional(instance.current_phase.map(crate::vm::Phase::from)),
            instance
                .current_phase_since
                .map_or_else(|| "-".into(), |since| format!("{} ago", ago(since))),
            spent(instance, crate::vm::Phase::Running),
            spent(instance, crate::vm::Phase::Standby),
            instance.image.clone(),
            instance.vcpus.to_string(),
            format_size(instance.memory_bytes),
        ];
        if is_wide {
            row.extend(wide(instance));
        }
        row
    });
    table(&head, &[4, 5, 6, 8, 9], rows)
}

/// The further columns of an instance.
fn wide(instance: &Instance) -> [String; 5] {
    let tags: Vec<_> =
        instance.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    [
        instance.tenant.to_string(),
        instance.hypervisor.clone(),
        instance.session.to_string(),
        instance.created_at.to_string(),
        tags.join(","),
    ]
}

/// All fields of one instance.
pub(super) fn instance(instance: &Instance) -> String {
    let legal: Vec<_> =
        instance.legal.iter().map(|&command| crate::vm::Command::from(command).as_str()).collect();
    let tags: Vec<_> =
        instance.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let spent: Vec<_> = instance
        .phase_durations_ms
        .iter()
        .flat_map(|spent| spent.entries())
        .map(|(phase, millis)| format!("{phase} {}", duration(millis.saturating_mul(1_000_000))))
        .collect();
    let accounting = match &instance.accounting.reason {
        Some(reason) => format!("degraded: {reason}"),
        None => "ok".into(),
    };
    let rows = [
        ("name", Some(instance.name.to_string())),
        ("id", Some(instance.id.to_string())),
        ("tenant", Some(instance.tenant.to_string())),
        ("state", Some(instance.state.to_string())),
        ("error", instance.state_error.clone()),
        ("legal now", Some(if legal.is_empty() { "nothing".into() } else { legal.join(", ") })),
        ("phase", instance.current_phase.map(|phase| crate::vm::Phase::from(phase).to_string())),
        ("since", instance.current_phase_since.map(|since| since.to_string())),
        ("time", (!spent.is_empty()).then(|| spent.join(", "))),
        ("policy", Some(instance.policy.to_string())),
        ("accounting", Some(accounting)),
        ("created", Some(instance.created_at.to_string())),
        ("started", instance.started_at.map(|at| at.to_string())),
        ("stopped", instance.stopped_at.map(|at| at.to_string())),
        (
            "stop cause",
            instance.stop_cause.map(|cause| crate::vm::ExitCause::from(cause).as_str().into()),
        ),
        ("deleted", instance.deleted_at.map(|at| at.to_string())),
        ("exit code", instance.exit_code.map(|code| code.to_string())),
        ("exit message", instance.exit_message.clone()),
        ("image", Some(instance.image.clone())),
        ("hypervisor", Some(instance.hypervisor.clone())),
        ("vcpus", Some(instance.vcpus.to_string())),
        ("memory", Some(format_size(instance.memory_bytes))),
        (
            "snapshots",
            (instance.snapshot_bytes > 0).then(|| format!("{} bytes", instance.snapshot_bytes)),
        ),
        ("restart", restart(instance)),
        ("health", health(instance)),
        ("standby", auto_standby(instance)),
        ("expires", expiry(instance)),
        ("session", Some(instance.session.to_string())),
        ("tags", (!tags.is_empty()).then(|| tags.join(", "))),
    ];
    pairs(rows.into_iter().filter_map(|(name, value)| Some((name, value?))))
}

/// The health of an instance's workload; `None` without a health check.
fn health(instance: &Instance) -> Option<String> {
    let health = instance.health.as_ref()?;
    let status = match health.status {
        WorkloadHealth::Starting => "starting",
        WorkloadHealth::Healthy => "healthy",
        WorkloadHealth::Unhealthy => "unhealthy",
    };
    Some(match &health.problem {
        Some(problem) => format!("{status}, {} failures in a row: {problem}", health.failures),
        None => status.into(),
    })
}

/// The auto-standby setting; `None` if it is off.
fn auto_standby(instance: &Instance) -> Option<String> {
    let auto = instance.auto_standby.as_ref()?;
    let since =
        instance.idle_since.map(|since| format!("; counted since {since}")).unwrap_or_default();
    let after = auto.idle_after.as_deref().unwrap_or_default();
    Some(format!("automatic after {after} without activity{since}"))
}

/// The restart policy and the next attempt; `None` if the policy is `never`.
fn restart(instance: &Instance) -> Option<String> {
    let status = instance.restart_status.as_ref()?;
    let when = match instance.restart_policy.policy {
        RestartMode::Never => "never",
        RestartMode::Always => "always",
        RestartMode::OnFailure => "on failure",
    };
    let next = match (status.next_attempt_at, status.blocked_reason) {
        (Some(at), _) => format!(", next at {at}"),
        (None, Some(RestartBlock::ManualStop)) => ", not after a requested stop".into(),
        (None, Some(RestartBlock::MaxAttemptsExceeded)) => ", no attempts left".into(),
        (None, None) => String::new(),
    };
    Some(format!("{when}, {} attempts in a row{next}", status.attempts))
}

fn expiry(instance: &Instance) -> Option<String> {
    let action = match instance.expiry_action.unwrap_or_default() {
        ExpiryAction::Delete => "deleted",
        ExpiryAction::Stop => "stopped",
    };
    instance.expires_at.map(|at| format!("{at}, then it is {action}"))
}

/// Every interval, the totals, and the proof.
pub(super) fn intervals(intervals: &Intervals) -> String {
    let rows = intervals.intervals.iter().map(|interval| {
        let cause =
            interval.cause.map(|cause| crate::vm::ExitCause::from(cause).as_str().to_owned());
        vec![
            crate::vm::Phase::from(interval.phase).to_string(),
            interval.start.to_string(),
            exact(interval.duration_ns) + if interval.open { " so far" } else { "" },
            short(&interval.policy),
            interval.session.to_string(),
            cause.unwrap_or_default(),
        ]
    });
    let each = table(&["PHASE", "START", "DURATION", "POLICY", "SESSION", "CAUSE"], &[2, 4], rows);
    format!("{each}\n\n{}\n\n{}", totals(intervals), proofs(intervals))
}

fn totals(intervals: &Intervals) -> String {
    let measured = intervals.totals_ns.0;
    let accounted = intervals.accounted.totals_ns.0;
    let rows = crate::vm::Phase::ALL.into_iter().zip(measured.into_iter().zip(accounted));
    let rows = rows.filter(|(_, (measured, accounted))| *measured != 0 || *accounted != 0);
    let rows = rows.map(|(phase, (measured, accounted))| {
        vec![phase.to_string(), exact(measured), exact(accounted)]
    });
    table(&["TOTAL", "MEASURED", "BY THE POLICIES"], &[1, 2], rows)
}

fn proofs(intervals: &Intervals) -> String {
    format!(
        "intervals: {}\naccounted: {}",
        proof(intervals.proof),
        proof(intervals.accounted.proof)
    )
}

fn proof(proof: Proof) -> String {
    let Proof { sum_ns, lifetime_ns, difference_ns } = proof;
    let sign = if difference_ns == 0 { "=" } else { "is not" };
    format!(
        "sum {} {sign} lifetime {}, difference {difference_ns} ns",
        exact(sum_ns),
        exact(lifetime_ns)
    )
}

/// Policies, one a line.
pub(super) fn policies(policies: &[Policy]) -> String {
    let rows = policies.iter().map(|policy| {
        vec![
            policy.digest.to_string(),
            policy.name.clone().unwrap_or_default(),
            policy.world.clone(),
            policy.size_bytes.to_string(),
            optional(policy.admitted_at),
            policy.state.map_or_else(String::new, |state| Standing::from(state).to_string()),
            if policy.standard { "standard".into() } else { String::new() },
        ]
    });
    table(&["DIGEST", "NAME", "WORLD", "BYTES", "ADMITTED", "STATE", ""], &[3], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_never_too_long() {
        let rows = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (999_999, "999.9 µs"),
            (1_000_000, "1.0 ms"),
            (999_999_999, "999.9 ms"),
            (1_000_000_000, "1.00 s"),
            (59_999_999_999, "59.99 s"),
            (60_000_000_000, "1 m 00 s"),
            (3_599_999_999_999, "59 m 59 s"),
            (3_600_000_000_000, "1 h 00 m"),
            (86_400_000_000_000, "1 d 00 h"),
            (u64::MAX, "213503 d 23 h"),
        ];
        for (nanos, text) in rows {
            assert_eq!(duration(nanos), text, "{nanos}");
        }
    }

    #[test]
    fn a_table_aligns_and_an_empty_one_says_so() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), "1000".into()]];
        assert_eq!(table(&["NAME", "N"], &[1], rows), "NAME     N\na        1\nlong  1000");
        assert_eq!(table(&["NAME"], &[], Vec::new()), "none");
    }

    #[test]
    fn nothing_that_a_terminal_would_obey_is_printed() {
        let evil = "a\u{1b}[2J\u{9b}1m\u{7f}\u{202e}b\tc\r\n";
        assert_eq!(printable(evil), "a\u{fffd}[2J\u{fffd}1m\u{fffd}\u{fffd}b\tc\u{fffd}\n");
        let row = vec![evil.into(), "x\ny".into()];
        let shown = [table(&["A", "B"], &[], [row]), pairs([("tag", evil.to_owned())])];
        assert!(
            shown.iter().all(|text| !text.contains(|c| is_obeyed(c) && c != '\n')),
            "{shown:?}"
        );
        assert_eq!(shown[0].lines().count(), 2, "a cell is one line: {shown:?}");
        let json = escaped(&serde_json::to_string_pretty(&[evil]).expect("text"));
        assert!(!json.contains(|c| is_obeyed(c) && c != '\n'), "{json}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).expect("JSON"), [evil]);
    }

    #[test]
    fn a_proof_that_fails_does_not_look_like_one() {
        let good = proof(Proof::new(12_345_678_901, 12_345_678_901));
        assert_eq!(good, "sum 12.345678901 s = lifetime 12.345678901 s, difference 0 ns");
        let bad = proof(Proof::new(12_345_678_902, 12_345_678_901));
        assert_eq!(bad, "sum 12.345678902 s is not lifetime 12.345678901 s, difference 1 ns");
    }
}
