//! Watches the drop folder while `tarn serve` runs.
//!
//! Everything about files is in `tarn-drop`; here is only when to look, and that the builder learns of what came in.

use std::sync::Arc;
use std::time::Duration;

use tarn_drop::{DropFolder, DropSettings, Outcome, Settled, Watcher};
use tarn_store::{Clock, Store};
use tokio::task::JoinHandle;

use super::http::{Stop, stopped};
use super::watch_uploads::Uploads;

/// A running loop.
pub(crate) struct DropLoop {
    task: JoinHandle<()>,
}

impl DropLoop {
    /// Starts looking every `interval`; ends soon after `stop`, abandoning a file under way, which loses nothing.
    pub(crate) fn start(store: Store, interval: Duration, uploads: Uploads, stop: Stop) -> Self {
        let clock = Arc::clone(store.clock());
        let mut settings = DropSettings::default();
        // Unlike a function, a machine has a disk.
        settings.spool_bytes = 64 << 30;
        let watcher = Watcher::new(DropFolder::new(store, settings));
        Self { task: tokio::spawn(watch_until_stopped(watcher, clock, interval, uploads, stop)) }
    }

    /// Waits for the end; call it once the loop was told to stop.
    pub(crate) async fn join(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "watching the drop folder ended with a panic");
        }
    }
}

async fn watch_until_stopped(
    mut watcher: Watcher,
    clock: Arc<dyn Clock>,
    interval: Duration,
    uploads: Uploads,
    mut stop: Stop,
) {
    loop {
        tokio::select! {
            () = look(&mut watcher, &uploads) => {}
            () = stopped(&mut stop) => return,
        }
        tokio::select! {
            () = clock.sleep(interval) => {}
            () = stopped(&mut stop) => return,
        }
    }
}

/// Looks once. Failures are logged here; the next look tries again.
async fn look(watcher: &mut Watcher, uploads: &Uploads) {
    match watcher.look().await {
        Err(error) => tracing::warn!(%error, "the drop folder cannot be listed; it will be tried again"),
        Ok(seen) => {
            for file in seen {
                match file.outcome {
                    Ok(Outcome::Settled(status)) if matches!(status.settled, Settled::Committed { .. }) => {
                        uploads.add()
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(file = file.key, %error, "a dropped file cannot be processed; it will be tried again");
                    }
                }
            }
        }
    }
}
