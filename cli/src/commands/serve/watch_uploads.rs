//! Counts what this process commits, so that the builder need not ask the store whether there is something to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Notify;

/// Changes since the last build, shared by the server and the builder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploads {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// At least as many as deltas: uploads that were committed together count one by one.
    pending: AtomicU64,
    changed: Notify,
}

impl Uploads {
    /// One more change.
    pub(crate) fn add(&self) {
        self.inner.pending.fetch_add(1, Ordering::Relaxed);
        self.inner.changed.notify_one();
    }

    /// Changes since the last [`Self::take`].
    pub(super) fn pending(&self) -> u64 {
        self.inner.pending.load(Ordering::Relaxed)
    }

    /// As [`Self::pending`], and begins to count anew.
    pub(super) fn take(&self) -> u64 {
        self.inner.pending.swap(0, Ordering::Relaxed)
    }

    /// Returns once there was a change since the last call.
    pub(super) async fn changed(&self) {
        self.inner.changed.notified().await;
    }
}

/// The layer that counts. Uploads, deletions by filter and definitions change what a builder has to do; searches do not.
pub(super) async fn watch(State(uploads): State<Uploads>, request: Request, next: Next) -> Response {
    let changes = is_change(request.method(), request.uri().path());
    let response = next.run(request).await;
    if changes && response.status().is_success() {
        uploads.add();
    }
    response
}

fn is_change(method: &Method, path: &str) -> bool {
    match *method {
        Method::POST => {
            path.starts_with("/api/v1/upload/")
                || (path.starts_with("/api/v1/indices/") && path.ends_with("/delete-by-filter"))
        }
        Method::PUT => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_builders_work_counts() {
        for (method, path) in [
            (Method::POST, "/api/v1/upload/products/1"),
            (Method::POST, "/api/v1/indices/all/1/delete-by-filter"),
            (Method::PUT, "/api/v1/indices/all/1"),
        ] {
            assert!(is_change(&method, path), "{path}");
        }
        for (method, path) in [
            (Method::POST, "/api/v1/search/all/1"),
            (Method::POST, "/api/v1/indices/all/1/warm"),
            (Method::GET, "/api/v1/indices/all/1/delete-by-filter"),
        ] {
            assert!(!is_change(&method, path), "{path}");
        }
    }
}
