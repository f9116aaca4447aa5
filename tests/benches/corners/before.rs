//! The build before policies measured only, asked what the benchmark asks this one: a program that
//! is compiled in the tree of that build. Lines of JSON in, lines of JSON out.

use std::io::BufRead as _;
use std::time::Instant as Timer;

use serde_json::{Value, json};
use tallyman::billing::calendar::Calendar;
use tallyman::policy::PolicyHost;
use tallyman::policy::book::Book;
use tallyman::policy::rating::{
    CalendarOffset, Dimension, IntervalColumns, Request, Span, Subject,
};
use tallyman::policy::zones;

/// Dimensions of every interval, each 1.
const DIMENSIONS: [&str; 4] = ["disk-byte", "memory-byte", "snapshot-byte", "vcpu"];

fn number(spec: &Value, name: &str) -> i64 {
    spec[name].as_i64().unwrap_or_else(|| panic!("{name} is missing"))
}

/// The request that a specification describes: `instances`, each with `intervals` intervals that
/// divide the time from `start` to `end`, running all the time.
fn request(spec: &Value) -> Request {
    let start = number(spec, "start");
    let end = number(spec, "end");
    let instances = number(spec, "instances") as usize;
    let intervals = number(spec, "intervals") as usize;
    let subject = |number: usize| Subject {
        id: format!("i{number:05}"),
        name: String::new(),
        tags: Vec::new(),
    };
    let period = Span { start, end };
    let book = Book::parse(spec["book"].to_string().as_bytes()).expect("a book");
    let names = book.zones().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let zones = names.iter().map(|name| zones::resolve(name, period).expect("a zone")).collect();
    Request {
        tenant: "default".into(),
        invoice: period,
        period,
        last: true,
        subjects: (0..instances).map(subject).collect(),
        intervals: columns(instances, intervals, (start, end)),
        calendar: vec![CalendarOffset { since: i64::MIN, offset: 0 }],
        zones,
        book: book.on_meter(&Calendar::default()),
        options: Vec::new(),
        carried: Vec::new(),
    }
}

/// Intervals that divide a span, for each instance.
fn columns(instances: usize, intervals: usize, (start, end): (i64, i64)) -> IntervalColumns {
    let each = (end - start) / intervals as i64;
    let count = instances * intervals;
    let places = || (0..count).map(|place| (place / intervals, place % intervals));
    let begin = |(_, number): (usize, usize)| start + each * number as i64;
    let finish = |(_, number): (usize, usize)| match number + 1 == intervals {
        true => end,
        false => start + each * (number as i64 + 1),
    };
    let column = |name: &str| Dimension { name: name.into(), values: vec![1; count] };
    IntervalColumns {
        subject: places().map(|(instance, _)| instance as u32).collect(),
        phase: vec![2; count],
        start: places().map(begin).collect(),
        end: places().map(finish).collect(),
        session: vec![1; count],
        fact: (1..).take(count).collect(),
        dimensions: DIMENSIONS.map(column).into(),
    }
}

fn rated(host: &PolicyHost, spec: &Value) -> Value {
    let request = request(spec);
    let mut nanos = Vec::new();
    for _ in 0..number(spec, "rounds") {
        let begin = Timer::now();
        match host.standard().rate_metered(&request) {
            Ok(answer) => {
                nanos.push(begin.elapsed().as_nanos() as u64);
                if nanos.len() as i64 == number(spec, "rounds") {
                    nanos.sort_unstable();
                    return json!({
                        "fuel": answer.fuel,
                        "lines": answer.value.lines.len(),
                        "nanos": nanos[nanos.len() / 2],
                    });
                }
            }
            Err(fault) => return json!({"fault": fault.to_string()}),
        }
    }
    json!({"fault": "no rounds"})
}

/// Bytes by which the process was larger at most while it rated, over what it was before.
fn grown(host: &PolicyHost, spec: &Value) -> Value {
    let small = json!({
        "book": spec["book"], "instances": 1, "intervals": 1,
        "start": spec["start"], "end": spec["end"],
    });
    host.standard().rate_metered(&request(&small)).expect("rated");
    let request = request(spec);
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak is forgotten");
    let before = kilobytes("VmRSS:");
    match host.standard().rate_metered(&request) {
        Ok(answer) => {
            let bytes = kilobytes("VmHWM:").saturating_sub(before) * 1_024;
            json!({"bytes": bytes, "lines": answer.value.lines.len()})
        }
        Err(fault) => json!({"fault": fault.to_string()}),
    }
}

/// A line of the process's status.
fn kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Nanoseconds of admitting each of these components, whose digests the host does not know.
fn admitted(host: &PolicyHost, rounds: usize) -> Value {
    let mut nanos: Vec<u64> = (0..rounds)
        .map(|round| {
            let name = format!("round {round:06}");
            let mut bytes = PolicyHost::standard_bytes().to_vec();
            // A custom section, so that it is another component.
            bytes.extend([0, name.len() as u8 + 1, name.len() as u8]);
            bytes.extend(name.as_bytes());
            let begin = Timer::now();
            host.admit(&bytes).expect("a policy");
            begin.elapsed().as_nanos() as u64
        })
        .collect();
    nanos.sort_unstable();
    json!({"nanos": nanos[nanos.len() / 2], "bytes": PolicyHost::standard_bytes().len()})
}

fn main() {
    let folder = std::env::temp_dir().join(format!("tallyman-before-{}", std::process::id()));
    let host = PolicyHost::open(&folder).expect("a host");
    for line in std::io::stdin().lock().lines() {
        let spec: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let answer = match spec["admit"].as_u64() {
            Some(rounds) => admitted(&host, rounds as usize),
            None if spec["grown"] == true => grown(&host, &spec),
            None => rated(&host, &spec),
        };
        println!("{answer}");
    }
    std::fs::remove_dir_all(&folder).expect("remove the folder");
}
