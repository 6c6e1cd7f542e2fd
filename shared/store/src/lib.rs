//! The object store: opening one, reading it, the create-only commit, decorators, and the local cache of segment files.
//!
//! Owns `commits-are-created-once` (see [`Store::create`]), `acknowledged-means-durable` (see [`DiskStore`]) and
//! `cached-bytes-are-verified` (see [`SegmentCache`]). It does not know what the objects hold, except for the JSON
//! roots in `objects`: definitions, checkpoints, manifests and boundaries.

mod backoff;
mod cache;
mod clock;
mod commit;
mod counting;
mod disk;
mod error;
mod latency;
mod listing;
mod meter;
mod objects;
mod open;
mod ranges;
mod retry;
mod store;
mod versions;

pub use backoff::{Backoff, BackoffPolicy};
pub use cache::{CacheStats, LocalFile, SegmentCache};
pub use clock::{Clock, SystemClock};
pub use commit::Created;
pub use counting::{CountingStore, RequestCounts, Requests};
pub use disk::DiskStore;
pub use error::{Cause, StoreError};
pub use latency::LatencyStore;
pub use meter::{Mark, Meter, Spent};
pub use objects::{
    Defined, create_index, create_source, delete_index, delete_source, is_index_deleted, is_source_deleted,
    latest_checkpoint, latest_index_boundary, latest_manifest, latest_source_boundary, list_indices,
    list_source_versions, list_sources, load_index, load_source,
};
pub use open::{Environment, StoreOptions};
pub use ranges::{Hedge, RangeReads};
pub use retry::RetryStore;
pub use store::{Bucket, Listed, Store};
pub use versions::ObjectVersion;
