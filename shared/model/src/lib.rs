//! Vocabulary, specifications, validation, key layout, manifests. No I/O, no async.

mod attribute;
/// Date-times as text.
pub mod datetime;
mod error;
mod filter;
#[cfg(test)]
mod fixtures;
mod hint;
mod ids;
mod index;
mod invariants;
mod key;
mod layout;
/// Limits, in one place.
pub mod limits;
mod manifest;
mod point;
mod policy;
mod score;
mod sharding;
mod source;
mod token;
mod validate;
mod vector;
/// Vektonn's configuration files.
pub mod vektonn;
mod wire;

pub use attribute::{AttributeType, AttributeValue, Attributes};
pub use error::{Corrupt, ValidationError};
pub use filter::{CompareOp, Filter};
pub use hint::Hint;
pub use ids::{DataSourceId, IndexId};
pub use index::{HnswParams, Index, IndexAlgorithm, Metric, Shard, ShardCondition};
pub use invariants::Invariant;
pub use key::{PointKey, SplitKey, decode_value, encode_text, encode_value, key_hash};
pub use layout::{DropPath, KeyPrefix, ObjectKey};
pub use manifest::{Boundary, Checkpoint, CheckpointFile, FORMAT, Manifest, ObjectRef, ShardEntry};
pub use point::{DataPoint, Update};
pub use policy::{AutoCreate, IndexTemplate, Retention, SourcePolicy};
pub use score::Score;
pub use sharding::shard_hash;
pub use source::{DataSource, Sharder};
pub use token::ReadToken;
pub use validate::{
    CheckedSearch, check_attributes, check_dense, check_search, check_sparse, check_split_filter, check_update,
    check_vector, check_wire_point, check_wire_search, check_wire_split_filter, check_wire_vector,
};
pub use vector::{SparseVector, Vector, VectorKind};
pub use wire::{WireAttribute, WireAttributeValue, WirePoint, WireSearch, WireVector};
