//! The way by NATS JetStream, with real servers that are killed and lose their disks.

use std::sync::Arc;
use std::time::Duration;

use tallyman::fleet::{Admits, Publisher, Receiver};
use tallyman::id::{HostName, InstanceId};
use tallyman::vm::Phase;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::nats::Nats;
use super::site::Site;
use super::way::Desk;

const HOSTS: [&str; 3] = ["h1", "h2", "h3"];

/// Longest wait for something that must come: servers elect leaders, and hosts wait between tries.
const SOON: Duration = Duration::from_secs(120);

const SECOND: u64 = 1_000_000_000;

/// A host that publishes.
struct Host {
    name: HostName,
    site: Site,
    instance: InstanceId,
    /// Nanoseconds after the instant 0 up to which it has facts.
    at: u64,
    sending: JoinHandle<()>,
}

impl Host {
    async fn start(nats: &Nats, name: &str) -> Self {
        let site = Site::new().await;
        let sending = sending(&site, nats, name, name);
        let instance = format!("i-{name}").parse().expect("an id");
        Self { name: name.parse().expect("a name"), site, instance, at: 0, sending }
    }

    /// Writes facts, which wait for nobody.
    async fn live(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for phase in [Phase::Running, Phase::Paused] {
                self.at += SECOND;
                self.site.enter(&self.instance, self.at, Some(phase)).await;
            }
        }
    }
}

/// Sends the facts of a site under a name, by the certificate of `who`.
fn sending(site: &Site, nats: &Nats, name: &str, who: &str) -> JoinHandle<()> {
    let name = name.parse().expect("a name");
    let publisher = Publisher::new(nats.known_to(who), name).expect("a way");
    tokio::spawn(site.sender(Arc::new(publisher)).run())
}

/// Takes facts of all hosts but the one named `stranger`.
fn taking(desk: &Desk, nats: &Nats, replicas: usize) -> JoinHandle<()> {
    let admits: Admits = Arc::new(|host| host.as_str() != "stranger");
    let servers = nats.known_to("collector");
    let receiver = Receiver::new(servers, replicas, desk.collector(), admits).expect("a way");
    tokio::spawn(receiver.run())
}

/// Ends a task, and waits until it holds nothing any more.
async fn end(task: JoinHandle<()>) {
    task.abort();
    // It was ended.
    let _ = task.await;
}

/// Waits until the collector has the chain of each host.
async fn caught_up(desk: &Desk, hosts: &[Host]) {
    let last = Instant::now() + SOON;
    for host in hosts {
        loop {
            let known = desk.collector().hosts();
            let head = known.iter().find(|one| one.host == host.name).map(|one| one.head);
            if head == Some(host.site.journal.head()) {
                break;
            }
            assert!(
                Instant::now() < last,
                "{} has {:?}: {known:?}",
                host.name,
                host.site.journal.head()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_come_through_an_engine_that_is_away_and_loses_its_disk() {
    let mut nats = Nats::start(1, &HOSTS);
    let ledger = tempfile::tempdir().expect("a folder");
    let desk = Desk::new(&ledger);
    let taking_first = taking(&desk, &nats, 1);
    let mut hosts = [Host::start(&nats, "h1").await];
    hosts[0].live(3).await;
    caught_up(&desk, &hosts).await;

    // Nothing on the host waits for an engine that is away.
    nats.wipe(0);
    hosts[0].live(3).await;
    nats.start_again(0);
    caught_up(&desk, &hosts).await;

    // The collector is away: the engine keeps what comes, also over a restart of the host.
    end(taking_first).await;
    hosts[0].live(3).await;
    hosts[0].sending.abort();
    hosts[0].live(3).await;
    hosts[0].sending = sending(&hosts[0].site, &nats, "h1", "h1");
    desk.start_again();
    let taking_again = taking(&desk, &nats, 1);
    caught_up(&desk, &hosts).await;
    taking_again.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_lose_nothing_while_each_is_killed_once() {
    let mut nats = Nats::start(3, &HOSTS);
    let ledger = tempfile::tempdir().expect("a folder");
    let desk = Desk::new(&ledger);
    let taking = taking(&desk, &nats, 3);
    let mut hosts = Vec::new();
    for name in HOSTS {
        hosts.push(Host::start(&nats, name).await);
    }
    for place in 0..3 {
        for host in &mut hosts {
            host.live(5).await;
        }
        caught_up(&desk, &hosts).await;
        nats.kill(place);
        for host in &mut hosts {
            host.live(5).await;
        }
        // Two of three go on without the third.
        caught_up(&desk, &hosts).await;
        nats.start_again(place);
    }
    taking.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_publishes_under_its_own_name_alone_and_has_to_belong_to_the_fleet() {
    let nats = Nats::start(1, &["h1", "h2", "stranger"]);
    let ledger = tempfile::tempdir().expect("a folder");
    let desk = Desk::new(&ledger);
    let taking = taking(&desk, &nats, 1);
    let mut hosts = [Host::start(&nats, "h1").await];
    hosts[0].live(2).await;
    caught_up(&desk, &hosts).await;
    // The engine stops h1 from speaking for h2; the collector does not know the stranger.
    let forged = Site::new().await;
    let forging = sending(&forged, &nats, "h2", "h1");
    let stranger = Host::start(&nats, "stranger").await;
    let refused = refusal(&nats, &stranger).await;
    assert!(refused.contains("no host 'stranger'"), "{refused}");
    let known = desk.collector().hosts();
    assert_eq!(known.len(), 1, "{known:?}");
    forging.abort();
    stranger.sending.abort();
    taking.abort();
}

/// The collector's refusal of a host.
async fn refusal(nats: &Nats, host: &Host) -> String {
    use tallyman::fleet::SendError;
    let publisher = Publisher::new(nats.known_to(host.name.as_str()), host.name.clone());
    let sender = host.site.sender(Arc::new(publisher.expect("a way")));
    let last = Instant::now() + SOON;
    let mut known = None;
    loop {
        match sender.step(known).await {
            Err(SendError::Refused { code, message }) => {
                assert_eq!(code, "unknown_host");
                return message;
            }
            Ok((head, _)) => known = Some(head),
            Err(SendError::Away(_)) => {}
        }
        assert!(Instant::now() < last, "it is not refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
