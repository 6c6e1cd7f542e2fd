//! Generated uploads.

use std::sync::Arc;

use arrow::array::{Array as _, FixedSizeListArray, Float32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use rand::Rng;

/// An Arrow IPC stream of one batch: `id` from `first`, and a random `vector` of `dimension` coordinates.
///
/// # Errors
/// What Arrow says.
pub fn arrow_batch(rng: &mut impl Rng, first: i64, rows: usize, dimension: usize) -> Result<Vec<u8>, ArrowError> {
    let ids = Int64Array::from_iter_values(first..first + rows as i64);
    let values = Float32Array::from_iter_values((0..rows * dimension).map(|_| rng.random_range(-1.0_f32..1.0)));
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let vectors = FixedSizeListArray::new(item, dimension as i32, Arc::new(values), None);
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("vector", vectors.data_type().clone(), false),
    ]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(vectors)])?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&batch)?;
    writer.into_inner()
}
