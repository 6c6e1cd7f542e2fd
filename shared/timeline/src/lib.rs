//! The timeline of a data source: the delta codec, append with group commit, receipts, reading, and the live set.
//!
//! Protocol in one paragraph. A delta is one immutable Parquet file at the next sequence number of its lane. It is
//! committed by creating an object that must not exist yet, so exactly one writer wins each number and the numbers have
//! no gaps. A loser reads what won and tries the next number. A lost response is resolved by the batch ids inside the
//! object. Garbage collection writes a boundary before it deletes; whoever acts on knowledge that has grown old re-reads
//! that boundary before it believes what it found. See `timeline` for what may be
//! believed and for how long, `append` for the writers' half. A query's tail, kept between searches, is `tarn-search`'s.
//!
//! Owns `timeline-is-gapless`, `batch-is-atomic`, `nothing-commits-into-the-past`, `key-commits-once`,
//! `sealed-bytes-are-unchanged`, `delta-matches-source`, `live-set-is-the-fold`, `a-sweep-removes-what-it-counts`.
//! Links neither DataFusion nor usearch, and deletes nothing: garbage collection is the compactor's.

mod append;
mod arrow_frames;
mod auto_create;
mod batch;
mod blocking;
mod builder;
mod canonical;
mod checkpoint_file;
mod codec;
mod columnar;
mod error;
mod group;
mod history;
mod keys;
mod live;
mod parquet_footer;
mod parquet_pages;
mod receipt;
mod retention;
mod rows;
mod schema;
mod seal;
mod sweep;
mod thrift;
mod timeline;

pub use append::{AppendOptions, Appended};
pub use arrow_frames::check_arrow_frames;
pub use auto_create::{AutoCreateError, source_of_upload, version_to_come};
pub use batch::PointBatch;
pub use builder::{DeltaBuilder, RowVector};
pub use codec::{BatchInfo, Delta, DeltaHeader, decode_delta, decode_header, encode_delta};
pub use columnar::{ColumnFault, ColumnMapping};
pub use error::{AppendError, TimelineError};
pub use group::{GroupCommitter, GroupSettings};
pub use history::{NoGeneration, version_of_generation};
pub use live::{Live, LiveOptions, live};
pub use parquet_footer::check_parquet_footer;
pub use parquet_pages::{BoundedPages, PageRead};
pub use retention::RetentionState;
pub use rows::{row_attributes, row_vector};
pub use schema::{
    DELETED_COLUMN, INDICES_COLUMN, KEY_COLUMN, MAX_DELTA_ROWS, VALUES_COLUMN, VECTOR_COLUMN, VERSION_COLUMN,
    attribute_column, checkpoint_schema, delta_schema, pack_version, unpack_version, writer_properties,
};
pub use sweep::{NoPosition, Question, SweepError, SweepOptions, SweepPosition, Swept};
pub use timeline::{KNOWLEDGE_MAX_AGE, MIN_COLLECTION_GRACE, Timeline};
