//! Signs of life while something takes long. On the error output, and only if a person looks at it.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::ProgressBar;

/// What takes less is done before anybody wonders.
const PATIENCE: Duration = Duration::from_secs(2);

const TICK: Duration = Duration::from_millis(100);

/// Does `work`; shows `what` if it takes long.
pub(super) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    if !stderr().is_terminal() {
        return work.await;
    }
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let spinner = spinner(what);
    let done = work.await;
    spinner.finish_and_clear();
    done
}

/// A spinner from now on; hidden unless a person looks.
pub(super) fn spinner(what: &str) -> ProgressBar {
    let spinner =
        if stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    spinner.set_message(what.to_owned());
    spinner.enable_steady_tick(TICK);
    spinner
}
