//! What this process cannot do without: where that panics, the process ends.
//! Nobody else could keep its promises, and the next daemon can.

use std::future::Future;

/// Ends the process when it is dropped by a panic.
pub(super) struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Spawns work that goes on for as long as the process does.
pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        let _vital = Vital;
        work.await;
    });
}
