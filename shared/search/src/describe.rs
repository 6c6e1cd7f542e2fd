//! What an index consists of, for people.

use tarn_model::{Attributes, Index, ReadToken};

/// The state of an index.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexDescription {
    /// The definition.
    pub index: Index,
    /// The manifest's generation; 0 when the index has not been built.
    pub generation: u64,
    /// When the generation was published, in milliseconds since the Unix epoch by the builder's clock.
    pub published_ms: Option<i64>,
    /// What the segments include.
    pub watermark: ReadToken,
    /// The timeline's head.
    pub head: ReadToken,
    /// Deltas between watermark and head: what every strong search scans.
    pub lag_deltas: u64,
    /// How long ago the oldest of those deltas was stored, in milliseconds; 0 when there is none.
    pub lag_ms: u64,
    /// Live points, the tail included.
    pub points: u64,
    /// Bytes of all segment files.
    pub segment_bytes: u64,
    /// By shard id.
    pub shards: Vec<ShardDescription>,
    /// Splits in the order of their keys, at most as many as asked for.
    pub splits: Vec<SplitDescription>,
    /// How many splits the segments hold, also when `splits` is cut short.
    pub splits_total: u64,
}

/// One shard of an index.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardDescription {
    /// The shard's id in the definition.
    pub shard: String,
    /// Live points, the tail included.
    pub points: u64,
    /// Splits with rows in segments.
    pub splits: u64,
    /// Bytes of the shard's segment files.
    pub segment_bytes: u64,
    /// The segment files.
    pub segments: Vec<SegmentDescription>,
}

/// One segment file.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentDescription {
    /// The object's id.
    pub id: String,
    /// `flat`, `graph` or `sparse`.
    pub kind: String,
    /// Rows in the file, dead ones included.
    pub rows: u64,
    /// Rows that the catalog marks as deleted.
    pub deleted: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// One split of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitDescription {
    /// The shard's id.
    pub shard: String,
    /// The values of the split attributes.
    pub attributes: Attributes,
    /// Live points, the tail included.
    pub points: u64,
    /// The split's share of its segment files' bytes, by rows.
    pub bytes: u64,
}
