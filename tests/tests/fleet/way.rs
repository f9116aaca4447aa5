//! Ways to a collector that lose, repeat and reorder batches, and end the collector in between.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use tallyman::fleet::{Answer, Batch, Collector, Refused, SendError, Transport};
use tallyman::id::HostName;
use tempfile::TempDir;

/// A small generator, so that a failing case can be run again.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `most`.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// A collector that may be ended and started again at any time.
pub(crate) struct Desk {
    folder: std::path::PathBuf,
    collector: Mutex<Option<Arc<Collector>>>,
}

impl Desk {
    pub(crate) fn new(folder: &TempDir) -> Arc<Self> {
        let desk = Self { folder: folder.path().into(), collector: Mutex::default() };
        desk.start_again();
        Arc::new(desk)
    }

    /// Ends the collector, and opens its folder again.
    pub(crate) fn start_again(&self) {
        let mut open = self.collector.lock().expect("no panic");
        drop(open.take());
        *open = Some(Arc::new(Collector::open(&self.folder).expect("a collector")));
    }

    pub(crate) fn collector(&self) -> Arc<Collector> {
        self.collector.lock().expect("no panic").clone().expect("it is up")
    }

    pub(crate) fn take(&self, host: &HostName, batch: &Batch) -> Result<Answer, Refused> {
        self.collector().take(host, batch, batch.clock.wall_ns)
    }
}

/// The way of one host.
pub(crate) struct Way {
    pub(crate) desk: Arc<Desk>,
    pub(crate) host: HostName,
    /// None for a way without faults.
    dice: Option<Mutex<(Dice, Vec<Batch>)>>,
}

impl Way {
    pub(crate) fn straight(desk: &Arc<Desk>, host: &str) -> Arc<Self> {
        let host = host.parse().expect("a name");
        Arc::new(Self { desk: desk.clone(), host, dice: None })
    }

    pub(crate) fn faulty(desk: &Arc<Desk>, host: &str, seed: u64) -> Arc<Self> {
        let host = host.parse().expect("a name");
        let dice = Some(Mutex::new((Dice::new(seed), Vec::new())));
        Arc::new(Self { desk: desk.clone(), host, dice })
    }

    fn deliver(&self, batch: &Batch) -> Result<Answer, SendError> {
        self.desk.take(&self.host, batch).map_err(|refused| SendError::Refused {
            code: "refused".into(),
            message: refused.to_string(),
        })
    }

    fn through(&self, batch: &Batch) -> Result<Answer, SendError> {
        let Some(dice) = &self.dice else { return self.deliver(batch) };
        let mut dice = dice.lock().expect("no panic");
        let (dice, kept) = &mut *dice;
        let away = |what: &str| Err(SendError::Away(what.into()));
        match dice.below(7) {
            0 => return away("the batch was lost"),
            1 => {
                self.deliver(batch)?;
                return away("the answer was lost");
            }
            2 => drop(self.deliver(batch)?),
            3 => kept.push(batch.clone()),
            4 => {
                self.desk.start_again();
                return away("the collector was ended");
            }
            5 => {
                // A batch of long ago comes once more.
                if let Some(old) = kept.first() {
                    self.deliver(old)?;
                }
            }
            _ => {}
        }
        self.deliver(batch)
    }
}

impl Transport for Way {
    fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Answer, SendError>> {
        async move { self.through(batch) }.boxed()
    }

    fn batch_bytes(&self) -> usize {
        1 << 20
    }
}
