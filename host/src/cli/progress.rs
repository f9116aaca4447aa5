//! Progress of work that takes long: a spinner on the error output, if that is a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::ProgressBar;

/// Time before a spinner appears.
const PATIENCE: Duration = Duration::from_secs(2);

const TICK: Duration = Duration::from_millis(100);

/// Awaits `work`. Shows a spinner with the text `what` if it takes longer than [`PATIENCE`].
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

/// Shows a spinner at once; hidden unless the error output is a terminal.
pub(super) fn spinner(what: &str) -> ProgressBar {
    let spinner =
        if stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    spinner.set_message(what.to_owned());
    spinner.enable_steady_tick(TICK);
    spinner
}
