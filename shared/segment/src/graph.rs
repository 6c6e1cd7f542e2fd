//! The HNSW graph over dense rows, by usearch.
//!
//! The graph's own vectors are bf16: unit vectors under inner product for cosine, raw ones for L2 and inner product. It only
//! proposes rows; every candidate is scored again from the f32 originals by the kernels that the scan uses.
//!
//! What usearch leaves to its caller, and where it is done here:
//! - It trusts the bytes it views: checksums and [`image::check`] come first.
//! - It keeps a pointer to them: [`Graph`] owns both, and drops the index first.
//! - It serves only as many calls at once as were reserved: [`Slots`].
//! - The effort is a property of the index, `max(expansion, count)` of a call: the expansion is 1, and `count` is the effort.

mod build;
mod distance;
mod image;

use std::sync::{Condvar, Mutex, PoisonError};

use arrow::buffer::Buffer;
use tarn_model::{HnswParams, Metric};
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

pub(crate) use build::build;

use crate::dense::DenseQuery;
use crate::error::SegmentError;
use crate::rows::Bits;

/// Searches of one graph at a time; more wait for their turn.
const CONCURRENT_SEARCHES: usize = 128;

/// A graph over bytes that it keeps alive.
pub(crate) struct Graph {
    /// Points into `_image`, so it must be the first field: fields are dropped in order.
    index: Index,
    _image: Buffer,
    slots: Slots,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").field("size", &self.index.size()).finish_non_exhaustive()
    }
}

impl Graph {
    /// Opens a usearch image. Checks its structure first; checksums must have been verified.
    pub(crate) fn view(image: Buffer, rows: u32, dimension: u32, metric: Metric) -> Result<Self, ViewError> {
        image::check(&image, rows, dimension, metric).map_err(ViewError::Corrupt)?;
        let mut index = Index::new(&options(dimension, metric, None)).map_err(ViewError::graph)?;
        // SAFETY: the bytes of a Buffer neither move nor change, and `Graph` drops the index before the buffer. `check` has
        // found every length, slot and level within bounds.
        unsafe { index.view_from_buffer(&image) }.map_err(ViewError::graph)?;
        distance::set(&mut index, dimension as usize, metric);
        index.reserve_capacity_and_threads(rows as usize, CONCURRENT_SEARCHES).map_err(ViewError::graph)?;
        if index.size() != rows as usize {
            return Err(ViewError::Corrupt((format!("{rows} nodes"), format!("{} nodes", index.size()))));
        }
        Ok(Self { index, _image: image, slots: Slots::new(CONCURRENT_SEARCHES) })
    }

    /// At most `ef` rows near the query, in no promised order. With `allowed`, rows outside guide the search but are not
    /// returned.
    pub(crate) fn candidates(
        &self,
        query: &DenseQuery,
        ef: usize,
        allowed: Option<&Bits>,
    ) -> Result<Vec<u32>, SegmentError> {
        let _slot = self.slots.take();
        candidates(&self.index, query, ef, allowed)
    }
}

fn candidates(index: &Index, query: &DenseQuery, ef: usize, allowed: Option<&Bits>) -> Result<Vec<u32>, SegmentError> {
    let found = match allowed {
        Some(bits) => index.filtered_search(&query.values, ef, |row| bits.contains(row)),
        None => index.search(&query.values, ef),
    };
    let found = found.map_err(|error| SegmentError::Graph(error.to_string()))?;
    Ok(found.keys.into_iter().filter_map(|key| u32::try_from(key).ok()).collect())
}

/// Why an image was not opened.
#[derive(Debug)]
pub(crate) enum ViewError {
    /// Expected and found.
    Corrupt((String, String)),
    /// The library's words.
    Graph(String),
}

impl ViewError {
    fn graph(error: impl std::fmt::Display) -> Self {
        Self::Graph(error.to_string())
    }
}

/// The options of an index over rows of a metric. `params` matter to a build alone.
fn options(dimension: u32, metric: Metric, params: Option<HnswParams>) -> IndexOptions {
    IndexOptions {
        dimensions: dimension as usize,
        metric: if metric == Metric::L2 { MetricKind::L2sq } else { MetricKind::IP },
        quantization: ScalarKind::BF16,
        connectivity: params.map_or(0, |params| params.m as usize),
        expansion_add: params.map_or(0, |params| params.ef_construction as usize),
        expansion_search: 1,
        multi: false,
    }
}

/// A counting semaphore.
struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), freed: Condvar::new() }
    }

    fn take(&self) -> Slot<'_> {
        // A number is valid whoever panicked while holding it.
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}
