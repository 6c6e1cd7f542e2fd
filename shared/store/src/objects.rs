//! The JSON roots of the bucket: definitions, and the newest checkpoint, manifest and boundary.
//!
//! Definitions are created once and never change; deleting one creates a marker beside it, and garbage collection does
//! the rest. Which root is newest is told by its number: see `objects/latest.rs`.

mod definitions;
mod latest;

pub use definitions::{
    Defined, create_index, create_source, delete_index, delete_source, is_index_deleted, is_source_deleted,
    list_indices, list_source_versions, list_sources, load_index, load_source,
};
pub use latest::{latest_checkpoint, latest_index_boundary, latest_manifest, latest_source_boundary};
