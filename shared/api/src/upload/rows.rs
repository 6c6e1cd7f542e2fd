//! Uploads in rows: a JSON array of points, or points one a line.
//!
//! Points go from the text into columns one by one; no tree is built, and buffers are reused from point to point.

use std::sync::Arc;

use tarn_model::{Attributes, DataSource, ValidationError, VectorKind, limits};
use tarn_timeline::{DeltaBuilder, PointBatch, RowVector};

use crate::error::ApiError;
use crate::json::{JsonError, Reader, WireAttribute, WireVector, read_attributes, read_vector};

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
    attributes: Vec<WireAttribute>,
    vector: WireVector,
}

impl Rows {
    fn new(source: Arc<DataSource>, bytes: usize) -> Self {
        // A coordinate takes at least two bytes of text, a sparse point a few more than nothing.
        let point_bytes = match source.vector_kind {
            VectorKind::Dense => 2 * source.vector_dimension as usize,
            VectorKind::Sparse => 64,
        };
        let capacity = (bytes / (point_bytes + 32)).min(limits::BATCH_POINTS);
        let builder = DeltaBuilder::new(Arc::clone(&source), capacity);
        Self { source, builder, attributes: Vec::new(), vector: WireVector::default() }
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<(), ApiError> {
        if self.builder.rows() == limits::BATCH_POINTS {
            return Err(super::too_many_points());
        }
        let dense = self.source.vector_kind == VectorKind::Dense;
        let (mut has_vector, mut is_deleted) = (false, false);
        self.attributes.clear();
        let (attributes, vector) = (&mut self.attributes, &mut self.vector);
        reader.object::<JsonError>("a data point", |reader, name| {
            if name.eq_ignore_ascii_case("attributes") {
                read_attributes(reader, attributes)
            } else if name.eq_ignore_ascii_case("vector") {
                has_vector = !reader.null()?;
                if has_vector { read_vector(reader, dense, vector) } else { Ok(()) }
            } else if name.eq_ignore_ascii_case("isDeleted") {
                is_deleted = if reader.null()? { false } else { reader.boolean("isDeleted")? };
                Ok(())
            } else {
                reader.skip()
            }
        })?;
        Ok(self.push(has_vector, is_deleted)?)
    }

    fn push(&mut self, has_vector: bool, is_deleted: bool) -> Result<(), ValidationError> {
        let _ = (has_vector, is_deleted, Attributes::new(), RowVector::Dense(&[]));
        todo!()
    }
}
