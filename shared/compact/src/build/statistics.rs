//! What the rows of each segment are like together, counted as it is built.
//!
//! Distances are measured from one reference for all segments of an index, so that their statistics merge whichever builder
//! wrote them, and when. An index keeps the reference that its catalogs have; one that is built from the checkpoint alone takes
//! the centre of the checkpoint's first rows, which are the same for all parts of a build. The reference need only be near the
//! centre to be of use, and need not stay there: whoever reads the statistics can tell how far away it is. Where statistics
//! about another reference get in all the same, readers count those rows themselves.
//!
//! A segment that is carried over keeps its statistics. When rows of it died these are taken back, and only their vectors are read.
//! When the farthest one is among them the segment is counted again: the next farthest is not known. The build has such a segment
//! open, because it looked for the dead rows there.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float32Array, RecordBatch};
use futures::TryStreamExt;
use roaring::RoaringBitmap;
use tarn_model::{Corrupt, DataSource, IndexId, Manifest, VectorKind};
use tarn_segment::{CatalogSegment, SegmentInput, Statistics};
use tarn_timeline::VECTOR_COLUMN;

use super::shard::{ShardState, load_catalog};
use crate::checkpoint::{LoadedFile, data_key, file_rows};
use crate::context::{Context, blocking};
use crate::error::CompactError;

/// Rows of the checkpoint whose centre is a good enough reference.
const ROWS: usize = 8192;

/// What the segments of a build measure distances from: known, or of the first rows that need one.
#[derive(Clone, Debug, Default)]
pub(super) struct Centre(Option<Arc<[f32]>>);

impl Centre {
    /// Of sparse vectors, whose reference is the origin; or of any, when `values` has rows.
    fn of(source: &DataSource, values: &[f32]) -> Self {
        if source.vector_kind == VectorKind::Sparse {
            return Self(Some(Arc::from([])));
        }
        let mut rows = FirstRows::new(source);
        rows.add(values);
        rows.centre()
    }

    /// The reference of an index: of the shards at hand, or else of any other.
    pub(super) async fn of_index(
        context: &Context,
        source: &DataSource,
        index: &IndexId,
        base: &Manifest,
        shards: &[ShardState],
    ) -> Result<Self, CompactError> {
        let found = shards.iter().find_map(|shard| reference(source, &shard.segments));
        if found.is_some() {
            return Ok(Self(found));
        }
        let others = base.shards.iter().filter(|entry| entry.catalog.is_some());
        for entry in others {
            let catalog = load_catalog(context, index, entry).await?;
            if let Some(found) = catalog.as_ref().and_then(|catalog| reference(source, &catalog.segments)) {
                return Ok(Self(Some(found)));
            }
        }
        Ok(Self(None))
    }

    /// The reference of an index that is built from a checkpoint alone.
    pub(super) async fn of_checkpoint(
        context: &Arc<Context>,
        source: &Arc<DataSource>,
        files: &[LoadedFile],
    ) -> Result<Self, CompactError> {
        if source.vector_kind == VectorKind::Sparse {
            return Ok(Self::of(source, &[]));
        }
        let mut first = FirstRows::new(source);
        for file in files {
            let object = data_key(&source.id)(file.file.data.id).render();
            let mut rows = file_rows(context, source, file).await?;
            while first.left > 0 {
                let Some(batch) = rows.try_next().await? else { break };
                let object = object.clone();
                first = blocking(move || {
                    first.add(vectors(&object, &batch)?.values());
                    Ok(first)
                })
                .await?;
            }
            if first.left == 0 {
                break;
            }
        }
        Ok(first.centre())
    }

    /// What the rows of a new segment are like. The first of them are the reference if there was none.
    pub(super) fn count(&mut self, source: &DataSource, input: &SegmentInput) -> Option<Arc<Statistics>> {
        if self.0.is_none() {
            let values = match &input.vectors {
                tarn_segment::Vectors::Dense(values) => &values[..values.len().min(ROWS * input.dimension as usize)],
                tarn_segment::Vectors::Sparse { .. } => &[],
            };
            *self = Self::of(source, values);
        }
        let reference = self.0.clone()?;
        Some(Arc::new(Statistics::of_input(input, reference)))
    }

    /// Has an old segment's statistics be those of its live rows: what died since they were counted is taken back, or all is counted.
    pub(super) async fn renew(
        &self,
        context: &Context,
        index: &IndexId,
        shard: &mut ShardState,
        number: usize,
        segment: &mut CatalogSegment,
    ) -> Result<(), CompactError> {
        let live = segment.live_rows();
        if segment.statistics.as_ref().is_some_and(|statistics| statistics.rows() == live) {
            return Ok(());
        }
        let Some(reference) = self.0.clone() else {
            segment.statistics = None;
            return Ok(());
        };
        let open = shard.open(context, index, number).await?;
        let counted = shard.counted(number);
        if let Some(known) = segment.statistics.clone().filter(|known| *known.reference() == reference)
            && counted.is_subset(&segment.deleted)
            && known.rows() == u64::from(segment.rows).saturating_sub(counted.len())
        {
            let (open, died) = (Arc::clone(&open), &segment.deleted - counted);
            let take_back = move || Ok(known.without(&open.statistics(&died, known.reference())?));
            if let Some(left) = blocking(take_back).await? {
                segment.statistics = Some(Arc::new(left));
                return Ok(());
            }
        }
        let mut rows = RoaringBitmap::new();
        rows.insert_range(0..segment.rows);
        rows -= &segment.deleted;
        segment.statistics = Some(Arc::new(blocking(move || Ok(open.statistics(&rows, &reference)?)).await?));
        Ok(())
    }
}

fn reference(source: &DataSource, segments: &[CatalogSegment]) -> Option<Arc<[f32]>> {
    let dimension = match source.vector_kind {
        VectorKind::Dense => source.vector_dimension as usize,
        VectorKind::Sparse => 0,
    };
    let mut known = segments.iter().filter_map(|segment| segment.statistics.as_ref());
    known.find(|known| known.reference().len() == dimension).map(|known| Arc::clone(known.reference()))
}

/// The sum of the first rows, without the rows.
struct FirstRows {
    about_origin: Statistics,
    dimension: usize,
    /// Rows that are still to come.
    left: usize,
}

impl FirstRows {
    fn new(source: &DataSource) -> Self {
        let dimension = source.vector_dimension as usize;
        Self { about_origin: Statistics::new(vec![0.0; dimension].into()), dimension, left: ROWS }
    }

    fn add(&mut self, values: &[f32]) {
        for row in values.chunks_exact(self.dimension.max(1)).take(self.left) {
            self.about_origin.add_dense(row);
            self.left -= 1;
        }
    }

    fn centre(&self) -> Centre {
        let centre = self.about_origin.centre();
        Centre(centre.map(|centre| centre.into_iter().map(|value| value as f32).collect()))
    }
}

/// The coordinates of a checkpoint's rows, which are dense.
fn vectors<'a>(object: &str, batch: &'a RecordBatch) -> Result<&'a Float32Array, Corrupt> {
    let column = batch.column_by_name(VECTOR_COLUMN);
    let vectors = column.and_then(|column| column.as_fixed_size_list_opt());
    vectors.and_then(|vectors| vectors.values().as_primitive_opt()).ok_or_else(|| Corrupt {
        object: object.to_owned(),
        part: "columns".to_owned(),
        expected: format!("{VECTOR_COLUMN}: lists of Float32 of one size"),
        found: column.map_or_else(|| "none".to_owned(), |column| column.data_type().to_string()),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn rows_without_vectors_are_corrupt() {
        let ids = Arc::new(Int64Array::from(vec![1, 2])) as arrow::array::ArrayRef;
        let none = RecordBatch::try_from_iter([("id", Arc::clone(&ids))]).expect("fits");
        let other = RecordBatch::try_from_iter([(VECTOR_COLUMN, ids)]).expect("fits");
        for (batch, found) in [(none, "none"), (other, "Int64")] {
            let error = vectors("checkpoints/data/1", &batch).expect_err("no vectors");
            assert_eq!((error.object.as_str(), error.found.as_str()), ("checkpoints/data/1", found));
        }
    }
}
