//! What the rows of each segment are like together, counted as it is built.
//!
//! Distances are measured from one reference for all segments of an index, so that their statistics merge whichever builder
//! wrote them, and when. An index keeps the reference that its catalogs have; one that is built from the checkpoint alone takes
//! the centre of the checkpoint's first rows, which are the same for all parts of a build. The reference need only be near the
//! centre to be of use, and need not stay there: whoever reads the statistics can tell how far away it is. Where statistics
//! about another reference get in all the same, readers count those rows themselves.
//!
//! A segment that is carried over keeps its statistics. When rows of it died it is counted again: the farthest one cannot be
//! taken back. The build has such a segment open, because it looked for the dead rows there.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use futures::TryStreamExt;
use roaring::RoaringBitmap;
use tarn_model::{DataSource, IndexId, Manifest, VectorKind};
use tarn_segment::{CatalogSegment, SegmentInput, Statistics};

use super::shard::{ShardState, load_catalog};
use crate::checkpoint::{LoadedFile, file_rows};
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
        let dimension = source.vector_dimension as usize;
        let mut about_origin = Statistics::new(vec![0.0; dimension].into());
        values.chunks_exact(dimension.max(1)).for_each(|row| about_origin.add_dense(row));
        Self(about_origin.centre().map(|centre| centre.into_iter().map(|value| value as f32).collect()))
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
        let mut values: Vec<f32> = Vec::new();
        let enough = ROWS * source.vector_dimension as usize;
        for file in files {
            let mut rows = file_rows(context, source, file).await?;
            while values.len() < enough {
                let Some(batch) = rows.try_next().await? else { break };
                append_vectors(&batch, &mut values);
            }
            if values.len() >= enough {
                break;
            }
        }
        let source = Arc::clone(source);
        blocking(move || Ok(Self::of(&source, &values[..values.len().min(enough)]))).await
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

    /// Counts the live rows of an old segment anew, if its statistics are of other rows.
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

/// The vectors of a checkpoint's rows, which are dense.
fn append_vectors(batch: &RecordBatch, values: &mut Vec<f32>) {
    let Some(column) = batch.columns().last().and_then(|column| column.as_fixed_size_list_opt()) else { return };
    let Some(coordinates) = column.values().as_primitive_opt::<Float32Type>() else { return };
    values.extend(coordinates.values());
}
