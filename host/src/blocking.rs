//! Blocking work, kept off the threads that serve tasks.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, spawn_blocking};

/// Runs blocking work on the runtime's threads for it. On a runtime of one thread, such as that of
/// a simulation, it runs at once on that thread: what happens there has one order.
///
/// # Errors
/// The panic of work that ran on another thread.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => spawn_blocking(work).await,
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    #[test]
    fn it_leaves_the_thread_unless_there_is_only_one() {
        let here = thread::current().id();
        let one = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let several = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let worked = |runtime: &tokio::runtime::Runtime| {
            runtime.block_on(super::run(|| thread::current().id())).expect("no panic")
        };
        assert_eq!(worked(&one), here);
        assert_ne!(worked(&several.expect("a runtime")), here);
    }
}
