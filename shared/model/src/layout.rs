//! Every object key of the bucket, rendered and parsed here and nowhere else.
//!
//! ```text
//! sources/{name}/{version}/source.json
//!                         /deleted.json                              marker: the source is deleted, gc may take the rest
//!                         /timeline/{lane:03}/{sequence:020}.parquet
//!                         /receipts/{sha256 of the idempotency key, hex}.json
//!                         /checkpoints/{u64::MAX - generation:020}.json
//!                         /checkpoint-data/{ulid}.parquet
//!                         /boundaries/{u64::MAX - number:020}.json
//! indices/{name}/{version}/index.json
//!                         /deleted.json
//!                         /manifests/{u64::MAX - generation:020}.json
//!                         /segments/{ulid}.seg
//!                         /catalogs/{ulid}.arrow
//!                         /boundaries/{u64::MAX - number:020}.json
//! auth/keys/{id}.json
//! ```
//! Names and versions are percent-encoded: every byte but ASCII letters, digits, `-`, `_` and inner `.` becomes `%XX`; so a
//! hostile name cannot escape its prefix (`names-stay-in-their-prefix`). Newest generations sort first.

use ulid::Ulid;

use crate::ids::{DataSourceId, IndexId};

/// The key of one object, relative to the store's root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectKey {
    /// A data source's definition.
    Source(DataSourceId),
    /// Marks a data source as deleted.
    SourceDeleted(DataSourceId),
    /// One delta.
    Delta {
        /// The data source.
        source: DataSourceId,
        /// The lane.
        lane: u16,
        /// From 1, gapless.
        sequence: u64,
    },
    /// The receipt of an idempotent upload.
    Receipt {
        /// The data source.
        source: DataSourceId,
        /// SHA-256 of the idempotency key.
        digest: [u8; 32],
    },
    /// A checkpoint.
    Checkpoint {
        /// The data source.
        source: DataSourceId,
        /// From 1.
        generation: u64,
    },
    /// A Parquet file of a checkpoint.
    CheckpointData {
        /// The data source.
        source: DataSourceId,
        /// Unique.
        id: Ulid,
    },
    /// What GC has given itself leave to delete from a data source.
    SourceBoundary {
        /// The data source.
        source: DataSourceId,
        /// From 1.
        number: u64,
    },
    /// An index's definition.
    Index(IndexId),
    /// Marks an index as deleted.
    IndexDeleted(IndexId),
    /// A manifest.
    Manifest {
        /// The index.
        index: IndexId,
        /// From 1.
        generation: u64,
    },
    /// A segment file.
    Segment {
        /// The index.
        index: IndexId,
        /// Unique.
        id: Ulid,
    },
    /// A shard's catalog.
    Catalog {
        /// The index.
        index: IndexId,
        /// Unique.
        id: Ulid,
    },
    /// What GC has given itself leave to delete from an index.
    IndexBoundary {
        /// The index.
        index: IndexId,
        /// From 1.
        number: u64,
    },
    /// An API key's record.
    AuthKey {
        /// The public part of the key.
        id: String,
    },
}

/// A set of objects to list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyPrefix {
    /// Everything.
    All,
    /// Every object of every data source.
    Sources,
    /// Every object of one data source.
    Source(DataSourceId),
    /// The deltas of a lane.
    Timeline(DataSourceId, u16),
    /// The receipts of a data source.
    Receipts(DataSourceId),
    /// The checkpoints of a data source, newest first.
    Checkpoints(DataSourceId),
    /// The data files of all checkpoints.
    CheckpointData(DataSourceId),
    /// The boundaries of a data source, newest first.
    SourceBoundaries(DataSourceId),
    /// Every object of every index.
    Indices,
    /// Every object of one index.
    Index(IndexId),
    /// The manifests of an index, newest first.
    Manifests(IndexId),
    /// The segment files of an index.
    Segments(IndexId),
    /// The catalogs of an index.
    Catalogs(IndexId),
    /// The boundaries of an index, newest first.
    IndexBoundaries(IndexId),
    /// The API keys.
    AuthKeys,
}

impl ObjectKey {
    /// The key as text, without a leading slash.
    pub fn render(&self) -> String {
        todo!()
    }

    /// The inverse of [`Self::render`]; `None` for any text that `render` cannot produce.
    pub fn parse(text: &str) -> Option<Self> {
        let _ = text;
        todo!()
    }
}

impl KeyPrefix {
    /// The prefix as text, with a trailing slash; empty for [`KeyPrefix::All`].
    pub fn render(&self) -> String {
        todo!()
    }
}
