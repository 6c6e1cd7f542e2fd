//! An open segment.

use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use arrow::buffer::ScalarBuffer;
use bytes::Bytes;
use memmap2::Mmap;
use roaring::RoaringBitmap;
use tarn_model::{HnswParams, Metric, ObjectRef, SparseVector, Vector};

use crate::calibration::{Calibration, CellsCalibration};
use crate::dense::DenseRows;
use crate::error::SegmentError;
use crate::format::Meta;
use crate::hit::{Answer, Effort};
use crate::input::{SegmentInput, Vectors};
use crate::keys::Keys;
use crate::kind::SegmentKind;
use crate::query::Query;
use crate::read::{Contents, DenseIndex, StoredVectors, read};
use crate::rows::Rows;
use crate::search;
use crate::sparse::{Inverted, SparseRows};

/// Rows that can be searched: a mapped file, bytes, or rows in memory. Immutable; share it behind an `Arc`.
#[derive(Debug)]
pub struct Segment {
    pub(crate) meta: Meta,
    pub(crate) keys: Keys,
    attributes: RecordBatch,
    pub(crate) body: Body,
    pub(crate) calibration: Option<Calibration>,
    pub(crate) cell_calibration: Option<CellsCalibration>,
}

#[derive(Debug)]
pub(crate) enum Body {
    Dense { rows: DenseRows, index: DenseIndex },
    Sparse { rows: SparseRows, lengths: ScalarBuffer<f64>, inverted: OnceLock<Inverted> },
}

impl Segment {
    /// Maps a segment file and verifies all of it. `expected`: what the catalog says the file is.
    ///
    /// The file must not be changed or shortened while the segment lives. Segment files never are: they are created once
    /// under a unique name, and a cache that evicts one removes its name, not its bytes.
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`] when any byte is not what was written; [`SegmentError::Io`].
    pub fn open(path: &Path, expected: Option<&ObjectRef>) -> Result<Self, SegmentError> {
        let io = |action| move |source| SegmentError::Io { action, path: path.to_owned(), source };
        let file = File::open(path).map_err(io("open"))?;
        // An empty file cannot be mapped on every system; it is corrupt, not unreadable.
        let bytes = if file.metadata().map_err(io("open"))?.len() == 0 {
            Bytes::new()
        } else {
            // SAFETY: see above: nobody writes to a segment file once it has its name.
            Bytes::from_owner(unsafe { Mmap::map(&file) }.map_err(io("map"))?)
        };
        read(&path.display().to_string(), bytes, expected).map(Self::from_contents)
    }

    /// As [`Self::open`], from bytes in memory; `name` stands in errors.
    ///
    /// # Errors
    /// [`SegmentError::Corrupt`].
    pub fn from_bytes(name: &str, bytes: Bytes) -> Result<Self, SegmentError> {
        read(name, bytes, None).map(Self::from_contents)
    }

    /// A flat or sparse segment over rows in memory, without serialising them: what the timeline's tail is searched as.
    /// Here a key may repeat; every row of it is a point of its own until a mask says otherwise.
    ///
    /// # Errors
    /// [`SegmentError::Input`].
    pub fn in_memory(input: SegmentInput) -> Result<Self, SegmentError> {
        input.validate()?;
        let kind = if input.metric.is_sparse() { SegmentKind::Sparse } else { SegmentKind::Flat };
        let rows = input.rows() as u32;
        let meta = Meta { kind, metric: input.metric, dimension: input.dimension, rows, hnsw: None, slot_bytes: None };
        let body = match input.vectors {
            Vectors::Dense(values) => {
                let rows = DenseRows::new(input.metric, input.dimension as usize, values);
                Body::Dense { rows, index: DenseIndex::None }
            }
            Vectors::Sparse { offsets, indices, values } => {
                let rows = SparseRows { offsets: offsets.into_inner(), indices, values };
                let lengths = rows.lengths(input.metric);
                Body::Sparse { rows, lengths, inverted: OnceLock::new() }
            }
        };
        let keys = Keys::computed(input.keys);
        Ok(Self { meta, keys, attributes: input.attributes, body, calibration: None, cell_calibration: None })
    }

    fn from_contents(contents: Contents) -> Self {
        let body = match contents.vectors {
            StoredVectors::Dense(rows, index) => Body::Dense { rows, index },
            StoredVectors::Sparse(rows, lengths, inverted) => {
                Body::Sparse { rows, lengths, inverted: OnceLock::from(inverted) }
            }
        };
        let Contents { meta, keys, attributes, calibration, cell_calibration, .. } = contents;
        Self { meta, keys, attributes, body, calibration, cell_calibration }
    }

    /// The number of rows, dead ones included.
    pub fn rows(&self) -> u32 {
        self.meta.rows
    }

    /// How the rows are indexed.
    pub fn kind(&self) -> SegmentKind {
        self.meta.kind
    }

    /// The distance.
    pub fn metric(&self) -> Metric {
        self.meta.metric
    }

    /// The vectors' dimension.
    pub fn dimension(&self) -> u32 {
        self.meta.dimension
    }

    /// What the graph was built with, alone or beside cells.
    pub fn hnsw(&self) -> Option<HnswParams> {
        self.meta.hnsw
    }

    /// The measured recall of the graph, if there is one.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// The measured recall of the cells.
    pub fn cell_calibration(&self) -> Option<&CellsCalibration> {
        self.cell_calibration.as_ref()
    }

    /// The point key of a row.
    ///
    /// # Panics
    /// When `row` is not below [`Self::rows`].
    pub fn key(&self, row: u32) -> &[u8] {
        self.keys.get(row)
    }

    /// The row of a point; the last when several rows have the key.
    pub fn find_key(&self, key: &[u8]) -> Option<u32> {
        self.keys.rows_of(key).last()
    }

    /// The rows of all these points: what a builder marks deleted, what a query masks as superseded.
    pub fn rows_of_keys<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> RoaringBitmap {
        let mut rows: Vec<u32> = Vec::new();
        for key in keys {
            rows.extend(self.keys.rows_of(key));
        }
        rows.sort_unstable();
        rows.into_iter().collect()
    }

    /// The vector of a row as it was given.
    ///
    /// # Panics
    /// When `row` is not below [`Self::rows`].
    pub fn vector(&self, row: u32) -> Vector {
        match &self.body {
            Body::Dense { rows, .. } => Vector::Dense(rows.row(row).to_vec()),
            Body::Sparse { rows, .. } => {
                let (indices, values) = rows.row(row as usize);
                Vector::Sparse(SparseVector { indices: indices.to_vec(), values: values.to_vec() })
            }
        }
    }

    /// All vectors: what a merge of segments reads. Copies only those of cells. Sparse offsets may begin above 0.
    pub fn vectors(&self) -> Vectors {
        match &self.body {
            Body::Dense { rows, .. } => Vectors::Dense(rows.packed()),
            Body::Sparse { rows, .. } => Vectors::Sparse {
                offsets: arrow::buffer::OffsetBuffer::new(rows.offsets.clone()),
                indices: rows.indices.clone(),
                values: rows.values.clone(),
            },
        }
    }

    /// The attribute columns, all rows.
    pub fn attributes(&self) -> &RecordBatch {
        &self.attributes
    }

    /// The `k` nearest of the allowed rows. `stop` is asked every few thousand rows; once it says so, the answer holds the
    /// best of what has been considered.
    ///
    /// # Errors
    /// [`SegmentError::Input`] when the query does not fit the segment.
    pub fn search(
        &self,
        query: &Query,
        k: usize,
        rows: &Rows<'_>,
        effort: Effort,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Answer, SegmentError> {
        let mut answers = search::search(self, std::slice::from_ref(query), k, rows, effort, stop)?;
        answers.pop().ok_or_else(|| SegmentError::Input("no query".to_owned()))
    }

    /// As [`Self::search`] for several queries, in their order; an exact scan reads the rows once for all of them, and
    /// of cells each is read for all queries that probe it.
    ///
    /// # Errors
    /// See [`Self::search`].
    pub fn search_many(
        &self,
        queries: &[Query],
        k: usize,
        rows: &Rows<'_>,
        effort: Effort,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Answer>, SegmentError> {
        search::search(self, queries, k, rows, effort, stop)
    }
}
