//! Needs of a daemon with many instances: memory, time to start, time to answer. A real daemon on a
//! real folder, over HTTP.

use std::path::Path;
use std::time::{Duration, Instant as Timer};

use tallyman::invoice::Letterhead;
use tallyman::runtime::{Daemon, Options};

use crate::durable::populate;
use crate::measure::{Line, Report, median, nanos};
use crate::memory::resident_bytes;

const TOKEN: &str = "bench";

fn options(data: &Path) -> Options {
    Options {
        data: data.into(),
        listen: tallyman::api::Listen::on(([127, 0, 0, 1], 0).into()),
        qemu: "qemu-system-x86_64".into(),
        cloud_hypervisor: "cloud-hypervisor".into(),
        firecracker: "firecracker".into(),
        accelerator: None,
        token: Some(TOKEN.into()),
        token_file: None,
        jwt: None,
        probe_networks: Vec::new(),
        ratios: Default::default(),
        network: None,
        images: Default::default(),
        letterhead: Letterhead::default(),
        receivers: Vec::new(),
        supervisor: None,
        vmm_user: None,
        compiler: None,
        journal: tallyman::journal::Options::default(),
        fleet: Default::default(),
        stores: Default::default(),
        retention: Default::default(),
        heads_to: None,
    }
}

/// Median time of a request, in nanoseconds; the body is read to its end.
async fn ask(client: &reqwest::Client, url: &str, times: usize) -> f64 {
    let mut lengths = Vec::new();
    for _ in 0..times {
        let begin = Timer::now();
        let answer =
            client.get(url).bearer_auth(TOKEN).send().await.unwrap().error_for_status().unwrap();
        let body = answer.bytes().await.unwrap();
        assert!(body.len() > 100);
        lengths.push(begin.elapsed().as_nanos() as f64);
    }
    median(&mut lengths)
}

fn answers(report: &mut Report, runtime: &tokio::runtime::Runtime) {
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    let data = folder.path().join("data");
    populate(&data, 10_000);
    let (all, one) = runtime.block_on(async {
        let daemon = Daemon::start(options(&data)).await.unwrap();
        let url = format!("http://{}", daemon.address());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let serving = tokio::spawn(daemon.serve(stopped));
        let client = tallyman::tls::plain_client().build().unwrap();
        let all = ask(&client, &format!("{url}/instances"), 21).await;
        let one = ask(&client, &format!("{url}/instances/vm-5000"), 201).await;
        stop.send(true).unwrap();
        serving.await.unwrap().unwrap();
        (all, one)
    });
    report.table(
        "Answers over HTTP, 10,000 instances",
        vec![
            Line::alone(
                "GET /instances, all of them, one component call",
                nanos(all),
                "under 50 ms",
                all < 50e6,
            ),
            Line::alone("GET /instances/{id}", nanos(one), "under 1 ms", one < 1e6),
        ],
    );
}

fn many(report: &mut Report, runtime: &tokio::runtime::Runtime) {
    const COUNT: usize = 100_000;
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).unwrap();
    let data = folder.path().join("data");
    populate(&data, COUNT);
    let (length, bytes) = runtime.block_on(async {
        let before = resident_bytes();
        let begin = Timer::now();
        let daemon = Daemon::start(options(&data)).await.unwrap();
        let length = begin.elapsed();
        (
            length,
            (resident_bytes() as f64 - before as f64) / COUNT as f64
                + f64::from(u8::from(daemon.address().port() == 0)),
        )
    });
    report.table(
        "A daemon that knows 100,000 instances",
        vec![
            Line::alone(
                "start to listening",
                nanos(length.as_nanos() as f64),
                "under 2 s",
                length < Duration::from_secs(2),
            ),
            Line::alone(
                "memory for each instance",
                format!("{bytes:.0} B"),
                "under 4 kB",
                bytes < 4_000.0,
            ),
        ],
    );
}

pub(crate) fn run(report: &mut Report) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Measured first, while the process's memory is small.
    many(report, &runtime);
    answers(report, &runtime);
}
