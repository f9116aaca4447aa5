//! A command in a guest, beside what it can't cost less than: a word there and back, and the start
//! of a process there.

use std::time::{Duration, Instant};

use serde_json::json;
use tallyman::guest::protocol::{Ending, Exec, Open, What};
use tallyman::guest::{Guest, SessionEvent, Way};

use super::{create, daemon, launch, times};
use crate::measure::{Line, median};

const ROUNDS: usize = 200;

/// Processes that one script starts.
const PROCESSES: usize = 200;

const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn lines() -> Vec<Line> {
    let daemon = daemon(&[]);
    let created = create(&daemon, "web", json!({}));
    let way = Way { socket: launch(&daemon, &created).join("agt"), vsock_port: None };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (exec, ping, process) = runtime.block_on(async {
        let guest = Guest::new(way);
        assert_eq!(run(&guest, &["true"]).await, Ending::Code(0));
        let mut execs = Vec::new();
        let mut pings = Vec::new();
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            assert!(guest.synchronise(PATIENCE).await);
            pings.push(begin.elapsed().as_nanos() as f64);
            let begin = Instant::now();
            run(&guest, &["/bin/true"]).await;
            execs.push(begin.elapsed().as_nanos() as f64);
        }
        let script =
            |count: usize| format!("i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done");
        let mut processes = Vec::new();
        for _ in 0..5 {
            let begin = Instant::now();
            run(&guest, &["sh", "-c", &script(0)]).await;
            let empty = begin.elapsed();
            let begin = Instant::now();
            run(&guest, &["sh", "-c", &script(PROCESSES)]).await;
            let all = begin.elapsed().saturating_sub(empty);
            processes.push(all.as_nanos() as f64 / PROCESSES as f64);
        }
        (median(&mut execs), median(&mut pings), median(&mut processes))
    });
    let what = "exec of true in a guest; peer: a word there and back, and a process of its shell";
    vec![times(what, (exec, ping + process), 1.2)]
}

async fn run(guest: &Guest, words: &[&str]) -> Ending {
    let argv = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    let what = What::Exec(Exec { argv, ..Exec::default() });
    let mut session = guest.open(Open { what, timeout_ms: 0 }, PATIENCE).await.unwrap();
    loop {
        if let SessionEvent::Ended(ending) = session.next().await.unwrap() {
            return ending;
        }
    }
}
