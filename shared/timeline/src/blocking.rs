//! Work for the processor, kept off the threads that serve requests when there is much of it.

use std::sync::Arc;

use tarn_store::StoreError;

/// Bytes from which on work moves to the blocking pool; below, the move costs more than it saves.
const LARGE_BYTES: usize = 256 * 1024;

/// Runs `work`, which handles about `bytes`.
///
/// # Errors
/// [`StoreError::Unavailable`] when the runtime shuts down.
pub(crate) async fn run<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    if bytes < LARGE_BYTES {
        return Ok(work());
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => {
            Err(StoreError::Unavailable { operation: "process", object: "a delta".to_owned(), cause: Arc::new(error) })
        }
    }
}
