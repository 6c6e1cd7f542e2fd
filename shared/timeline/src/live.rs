//! The live set of a data source as a stream, in bounded memory.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use std::sync::Arc;
use tarn_model::{DataSource, ReadToken};
use tarn_store::Store;

use crate::error::TimelineError;

/// What of the live set to read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LiveOptions {
    /// The live set as of here; `None`: now.
    pub at: Option<ReadToken>,
    /// Only these columns of [`crate::checkpoint_schema`]; `None`: all.
    pub columns: Option<Vec<String>>,
    /// Most rows of one batch.
    pub batch_rows: usize,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self { at: None, columns: None, batch_rows: 4096 }
    }
}

/// A live set being read.
pub struct Live {
    /// The state of the data source that the rows are.
    pub at: ReadToken,
    /// The schema of the batches: columns of [`crate::checkpoint_schema`].
    pub schema: SchemaRef,
    /// The rows, each point once, in no particular order.
    pub batches: BoxStream<'static, Result<RecordBatch, TimelineError>>,
}

/// Reads the live set: the newest checkpoint (not after `at`), minus deleted rows, minus rows that later deltas replace
/// or remove, plus the later deltas' winners.
///
/// Memory holds the keys of the tail, one row group of a checkpoint file and one delta.
///
/// # Errors
/// [`TimelineError::Collected`] when `at` is so old that its history is gone; failures of the store.
pub async fn live(store: &Store, source: Arc<DataSource>, options: LiveOptions) -> Result<Live, TimelineError> {
    let _ = (store, source, options);
    todo!()
}
