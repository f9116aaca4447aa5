//! Metrics of the host: the journal, the disk, requests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::State;
use super::format::{Family, Labels, Samples};
use crate::delivery::Progress;
use crate::policy::ENGINE;

/// All metrics that have no tenant.
pub(super) fn families(state: &State) -> Vec<Family> {
    let mut families = vec![build()];
    families.extend(of_journal(state));
    families.extend(of_database(state.journal.path()));
    families.extend(of_disk(state));
    families.extend(of_machines(state));
    families.extend(of_deliveries(state));
    families.extend(of_requests(state));
    families
}

fn alone(value: u64) -> Vec<(Labels, u64)> {
    vec![(Vec::new(), value)]
}

fn build() -> Family {
    let labels =
        vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("engine", ENGINE.to_owned())];
    Family {
        name: "tallyman_build_info",
        help: "Version of the program and of its engine.",
        samples: Samples::Gauge(vec![(labels, 1)]),
    }
}

fn of_journal(state: &State) -> [Family; 6] {
    let figures = state.journal.figures();
    [
        Family {
            name: "tallyman_journal_facts_total",
            help: "Facts of the journal.",
            samples: Samples::Counter(alone(state.journal.head().seq)),
        },
        Family {
            name: "tallyman_journal_entries_total",
            help: "Entries committed since the start.",
            samples: Samples::Counter(alone(figures.entries.load(Ordering::Relaxed))),
        },
        Family {
            name: "tallyman_journal_commit_seconds",
            help: "Durations of transactions, with their sync if they had one.",
            samples: Samples::Histogram(vec![(Vec::new(), figures.commits.read())]),
        },
        Family {
            name: "tallyman_journal_sync_seconds",
            help: "Durations of syncs of the write-ahead log.",
            samples: Samples::Histogram(vec![(Vec::new(), figures.syncs.read())]),
        },
        Family {
            name: "tallyman_journal_queue",
            help: "Entries that wait for a transaction.",
            samples: Samples::Gauge(alone(state.journal.queued() as u64)),
        },
        Family {
            name: "tallyman_journal_waiting",
            help: "1 while another program holds the database and nothing is recorded.",
            samples: Samples::Gauge(alone(state.journal.is_waiting().into())),
        },
    ]
}

/// A figure that can't be read is missing.
fn known(
    figures: impl IntoIterator<Item = (&'static str, &'static str, Option<u64>)>,
) -> Vec<Family> {
    let family = |(name, help, value): (&'static str, &'static str, Option<u64>)| {
        Some(Family { name, help, samples: Samples::Gauge(alone(value?)) })
    };
    figures.into_iter().filter_map(family).collect()
}

/// The database, and its log.
fn of_database(database: &Path) -> Vec<Family> {
    let size = |path: &Path| std::fs::metadata(path).map(|found| found.len()).ok();
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let log = size(&PathBuf::from(log));
    known([
        ("tallyman_journal_bytes", "Size of the database.", size(database)),
        ("tallyman_journal_wal_bytes", "Size of the database's write-ahead log.", log),
    ])
}

/// The disk that the data folder is on, and the reserve there.
fn of_disk(state: &State) -> Vec<Family> {
    let space = state.disk.space().ok();
    let figures = state.journal.figures();
    let reserve = figures.reserve_bytes.load(Ordering::Relaxed);
    let missing = figures.reserve_bytes_max.load(Ordering::Relaxed).saturating_sub(reserve);
    known([
        (
            "tallyman_disk_free_bytes",
            "Space that the data folder's disk has left.",
            space.map(|space| space.free_bytes),
        ),
        (
            "tallyman_disk_size_bytes",
            "Size of the data folder's disk.",
            space.map(|space| space.total_bytes),
        ),
        (
            "tallyman_disk_kept_bytes",
            "Space that snapshots, standby, forks, new instances and uploads leave to the journal.",
            space.map(|space| space.kept_bytes()),
        ),
        (
            "tallyman_journal_reserve_bytes",
            "Space of the reserve that facts are written from when the disk is full.",
            Some(reserve),
        ),
        (
            "tallyman_journal_reserve_missing_bytes",
            "Space of the reserve that is in use: above 0, whatever can wait is refused.",
            Some(missing),
        ),
    ])
}

fn of_machines(state: &State) -> [Family; 3] {
    [
        Family {
            name: "tallyman_folders_set_aside",
            help: "Folders of instances that the journal did not know, moved aside.",
            samples: Samples::Gauge(alone(state.fleet.set_aside())),
        },
        Family {
            name: "tallyman_stray_processes",
            help: "Processes of machines that no record knows; the daemon's log names them.",
            samples: Samples::Gauge(alone(state.fleet.strays().len() as u64)),
        },
        Family {
            name: "tallyman_halted_processes",
            help: "Processes of machines that somebody outside has stopped or frozen.",
            samples: Samples::Gauge(alone(state.fleet.halted().len() as u64)),
        },
    ]
}

/// The receivers of events.
fn of_deliveries(state: &State) -> [Family; 3] {
    let end = state.journal.head().seq;
    let progress = state.deliveries.progress();
    let each = |value: &dyn Fn(&Progress) -> u64| {
        let sample =
            |(name, one): (&String, &Arc<Progress>)| (vec![("receiver", name.clone())], value(one));
        progress.iter().map(sample).collect::<Vec<_>>()
    };
    [
        Family {
            name: "tallyman_delivery_events_total",
            help: "Events that a receiver has taken since the start.",
            samples: Samples::Counter(each(&|one| one.taken.load(Ordering::Relaxed))),
        },
        Family {
            name: "tallyman_delivery_behind_facts",
            help: "Facts whose events a receiver has not taken yet.",
            samples: Samples::Gauge(each(&|one| {
                end.saturating_sub(one.after.load(Ordering::Relaxed))
            })),
        },
        Family {
            name: "tallyman_delivery_failures_in_a_row",
            help: "Requests to a receiver in a row that failed.",
            samples: Samples::Gauge(each(&|one| one.failures.load(Ordering::Relaxed))),
        },
    ]
}

fn of_requests(state: &State) -> [Family; 1] {
    let samples = state.latencies.all().into_iter().map(|(label, histogram)| {
        let labels = vec![
            ("method", label.method),
            ("route", label.route),
            ("status", format!("{}xx", label.class)),
        ];
        (labels, histogram.read())
    });
    [Family {
        name: "tallyman_http_request_seconds",
        help: "Durations of requests up to the head of their answer, operations included.",
        samples: Samples::Histogram(samples.collect()),
    }]
}
