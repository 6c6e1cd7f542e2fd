//! Uploads in rows: a JSON array of points, or points one a line.
//!
//! Points go from the text into columns one by one; no tree is built, and buffers are reused from point to point.

use std::sync::Arc;

use tarn_model::{DataSource, VectorKind, check_wire_point, limits};
use tarn_rows::read_point;
use tarn_timeline::{DeltaBuilder, PointBatch};

use crate::error::ApiError;
use crate::json::Reader;

/// Parses a JSON array of points.
pub(super) fn json(source: Arc<DataSource>, bytes: &[u8]) -> Result<PointBatch, ApiError> {
    let mut reader = Reader::new(bytes)?;
    let mut rows = Rows::new(source, bytes.len());
    reader.array("the body", |reader| rows.read(reader))?;
    reader.end()?;
    Ok(rows.builder.finish()?)
}

/// Parses points that follow each other, one a line.
pub(super) fn ndjson(source: Arc<DataSource>, bytes: &[u8]) -> Result<PointBatch, ApiError> {
    let mut reader = Reader::new(bytes)?;
    let mut rows = Rows::new(source, bytes.len());
    while !reader.at_end() {
        rows.read(&mut reader)?;
    }
    Ok(rows.builder.finish()?)
}

struct Rows {
    source: Arc<DataSource>,
    builder: DeltaBuilder,
}

impl Rows {
    fn new(source: Arc<DataSource>, bytes: usize) -> Self {
        // A coordinate takes at least two bytes of text, and the rest of a point some more: the bytes at hand bound how many
        // points there can be, and so what is reserved for them.
        let point_bytes = match source.vector_kind {
            VectorKind::Dense => 32 + 2 * source.vector_dimension as usize,
            VectorKind::Sparse => 128,
        };
        let builder = DeltaBuilder::new(Arc::clone(&source), (bytes / point_bytes).min(limits::BATCH_POINTS));
        Self { source, builder }
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), ApiError> {
        if self.builder.rows() == limits::BATCH_POINTS {
            return Err(super::too_many_points());
        }
        let point = read_point(reader, &self.source)?;
        let update = check_wire_point(&self.source, point)?;
        Ok(self.builder.push(&update)?)
    }
}
