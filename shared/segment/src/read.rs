//! Opens segment files: verifies every byte, then every bound, and hands out slices of the one buffer.
//!
//! Owns `nothing-is-read-before-it-is-checked`: after this module no offset, row, term or slot can point outside.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, RecordBatch};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::ArrowNativeType;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{root_as_footer, root_as_message};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tarn_model::{Corrupt, Metric, ObjectRef, limits};

use crate::calibration::{Calibration, CellsCalibration};
use crate::cells::Cells;
use crate::dense::DenseRows;
use crate::error::SegmentError;
use crate::format::{self, BlockKind, Entry, Meta};
use crate::graph::{Graph, ViewError};
use crate::input::{check_dense, check_sparse, check_strided};
use crate::ipc::fenced;
use crate::keys::Keys;
use crate::kind::SegmentKind;
use crate::links::Links;
use crate::slots::SlotLayout;
use crate::sparse::{Inverted, SparseRows};

/// Everything in a file.
pub(crate) struct Contents {
    pub(crate) meta: Meta,
    pub(crate) keys: Keys,
    pub(crate) attributes: RecordBatch,
    pub(crate) vectors: StoredVectors,
    pub(crate) calibration: Option<Calibration>,
    pub(crate) cell_calibration: Option<CellsCalibration>,
}

pub(crate) enum StoredVectors {
    Dense(DenseRows, DenseIndex),
    Sparse(SparseRows, ScalarBuffer<f64>, Inverted),
}

/// What leads to the near ones among dense rows.
#[derive(Debug)]
pub(crate) enum DenseIndex {
    /// Nothing: every row is scored.
    None,
    Graph(Box<Graph>),
    Cells(Box<Cells>, Option<Box<Links>>),
}

pub(crate) fn read(name: &str, bytes: Bytes, expected: Option<&ObjectRef>) -> Result<Contents, SegmentError> {
    let entries = format::verify(name, &bytes, expected)?;
    // Maps and Arrow's own allocations are aligned; for anything else one copy makes typed slices possible.
    let aligned = (bytes.as_ptr() as usize).is_multiple_of(format::ALIGNMENT as usize);
    let buffer = if aligned { Buffer::from(bytes) } else { Buffer::from_slice_ref(&bytes) };
    let blocks = Blocks { name, buffer, entries };

    let meta: Meta = blocks.json(BlockKind::Meta)?;
    let fits = match meta.kind {
        SegmentKind::Flat => !meta.metric.is_sparse() && meta.hnsw.is_none(),
        // With a graph beside them, or without.
        SegmentKind::Cells => !meta.metric.is_sparse(),
        SegmentKind::Graph => !meta.metric.is_sparse() && meta.hnsw.is_some(),
        SegmentKind::Sparse => meta.metric.is_sparse() && meta.hnsw.is_none(),
    };
    if !fits || meta.rows > i32::MAX as u32 {
        return Err(blocks.corrupt(BlockKind::Meta, "a kind that fits the metric", format!("{meta:?}")).into());
    }
    let rows = meta.rows as usize;
    let keys = read_keys(&blocks, rows)?;
    let attributes = read_attributes(&blocks, rows)?;
    let vectors = match meta.kind {
        SegmentKind::Flat => StoredVectors::Dense(read_dense(&blocks, &meta)?, DenseIndex::None),
        SegmentKind::Graph => {
            let dense = read_dense(&blocks, &meta)?;
            let graph = Graph::view(blocks.get(BlockKind::Graph)?, meta.rows, meta.dimension, meta.metric);
            let graph = graph.map_err(|error| match error {
                ViewError::Corrupt((expected, found)) => {
                    SegmentError::from(blocks.corrupt(BlockKind::Graph, &expected, found))
                }
                ViewError::Graph(message) => SegmentError::Graph(message),
            })?;
            StoredVectors::Dense(dense, DenseIndex::Graph(Box::new(graph)))
        }
        SegmentKind::Cells => {
            let dense = read_slots(&blocks, &meta)?;
            let links = read_links(&blocks, &meta)?.map(Box::new);
            StoredVectors::Dense(dense, DenseIndex::Cells(Box::new(read_cells(&blocks, &meta)?), links))
        }
        SegmentKind::Sparse => read_sparse(&blocks, &meta)?,
    };
    let calibration = if meta.hnsw.is_some() { Some(blocks.json(BlockKind::Calibration)?) } else { None };
    let cell_calibration =
        if meta.kind == SegmentKind::Cells { Some(blocks.json(BlockKind::CellCalibration)?) } else { None };
    Ok(Contents { meta, keys, attributes, vectors, calibration, cell_calibration })
}

fn read_keys(blocks: &Blocks<'_>, rows: usize) -> Result<Keys, Corrupt> {
    let offsets: ScalarBuffer<i32> = blocks.scalars(BlockKind::KeyOffsets, Some(rows + 1))?;
    let bytes = blocks.get(BlockKind::KeyBytes)?;
    blocks.check(BlockKind::KeyOffsets, ascends(&offsets, 0, bytes.len()))?;
    let hashes: ScalarBuffer<u64> = blocks.scalars(BlockKind::KeyHashes, Some(rows))?;
    blocks.check(BlockKind::KeyHashes, if hashes.is_sorted() { Ok(()) } else { Err("not ascending".to_owned()) })?;
    let hash_rows: ScalarBuffer<u32> = blocks.scalars(BlockKind::KeyHashRows, Some(rows))?;
    blocks.check(BlockKind::KeyHashRows, below(&hash_rows, rows))?;
    let keys = BinaryArray::try_new(OffsetBuffer::new(offsets), bytes, None)
        .map_err(|error| blocks.corrupt(BlockKind::KeyOffsets, "offsets of keys", error.to_string()))?;
    Ok(Keys::stored(keys, hashes, hash_rows))
}

fn read_dense(blocks: &Blocks<'_>, meta: &Meta) -> Result<DenseRows, Corrupt> {
    let values: ScalarBuffer<f32> = blocks.scalars(BlockKind::DenseVectors, None)?;
    blocks.check(BlockKind::DenseVectors, check_dense(meta.rows as usize, meta.dimension, &values))?;
    let (dimension, inverse_norms) = (meta.dimension as usize, read_inverse_norms(blocks, meta)?);
    Ok(DenseRows { dimension, stride: dimension, values, inverse_norms })
}

/// The vectors of cells, each in its row's slot. What else is in a slot is in other blocks, too, and of no use here.
fn read_slots(blocks: &Blocks<'_>, meta: &Meta) -> Result<DenseRows, Corrupt> {
    let values: ScalarBuffer<f32> = blocks.scalars(BlockKind::RowSlots, None)?;
    let layout = blocks.slot_layout(meta)?;
    let stride = layout.stride();
    let checked = check_strided(meta.rows as usize, meta.dimension, stride, &values);
    blocks.check(BlockKind::RowSlots, checked)?;
    let inverse_norms = read_inverse_norms(blocks, meta)?;
    Ok(DenseRows { dimension: layout.dimension, stride, values, inverse_norms })
}

fn read_inverse_norms(blocks: &Blocks<'_>, meta: &Meta) -> Result<Option<ScalarBuffer<f32>>, Corrupt> {
    let inverse_norms = if meta.metric == Metric::Cosine {
        Some(blocks.scalars(BlockKind::InverseNorms, Some(meta.rows as usize))?)
    } else {
        None
    };
    if let Some(norms) = &inverse_norms {
        let finite = norms.iter().all(|norm: &f32| norm.is_finite());
        blocks.check(BlockKind::InverseNorms, if finite { Ok(()) } else { Err("not finite".to_owned()) })?;
    }
    Ok(inverse_norms)
}

fn read_cells(blocks: &Blocks<'_>, meta: &Meta) -> Result<Cells, Corrupt> {
    let (centroids, codes) = (blocks.get(BlockKind::CellCentroids)?, blocks.get(BlockKind::CellCodes)?);
    let directory = blocks.get(BlockKind::Cells)?;
    Cells::read(&directory, centroids, codes, meta.metric, meta.dimension, meta.rows)
        .map_err(|(kind, found)| blocks.corrupt(kind, "valid contents", found))
}

/// The graph beside cells: there when the meta block has parameters of one, and only then.
fn read_links(blocks: &Blocks<'_>, meta: &Meta) -> Result<Option<Links>, Corrupt> {
    let Some(params) = meta.hnsw else {
        let graph = [BlockKind::LinkStarts, BlockKind::Links, BlockKind::Calibration];
        return match graph.into_iter().find(|&kind| blocks.has(kind)) {
            Some(kind) => Err(blocks.corrupt(kind, "no graph beside cells without parameters", "one".to_owned())),
            None => Ok(None),
        };
    };
    if !(2..=limits::HNSW_M).contains(&params.m) {
        return Err(blocks.corrupt(BlockKind::Meta, "parameters of a graph", format!("{params:?}")));
    }
    let (starts, links) = (blocks.scalars(BlockKind::LinkStarts, None)?, blocks.scalars(BlockKind::Links, None)?);
    Links::read(starts, links, meta.rows as usize, 2 * params.m as usize)
        .map(Some)
        .map_err(|(kind, found)| blocks.corrupt(kind, "valid contents", found))
}

fn read_sparse(blocks: &Blocks<'_>, meta: &Meta) -> Result<StoredVectors, Corrupt> {
    let rows = meta.rows as usize;
    let offsets: ScalarBuffer<i32> = blocks.scalars(BlockKind::SparseOffsets, Some(rows + 1))?;
    let indices: ScalarBuffer<u32> = blocks.scalars(BlockKind::SparseIndices, None)?;
    let values: ScalarBuffer<f64> = blocks.scalars(BlockKind::SparseValues, Some(indices.len()))?;
    blocks.check(BlockKind::SparseOffsets, ascends(&offsets, 0, indices.len()))?;
    blocks.check(BlockKind::SparseIndices, check_sparse(rows, meta.dimension, &offsets, &indices, &values))?;
    let lengths: ScalarBuffer<f64> = blocks.scalars(BlockKind::SparseLengths, Some(rows))?;
    let finite = lengths.iter().all(|length| length.is_finite());
    blocks.check(BlockKind::SparseLengths, if finite { Ok(()) } else { Err("not finite".to_owned()) })?;

    let terms: ScalarBuffer<u32> = blocks.scalars(BlockKind::Terms, None)?;
    let unique = terms.is_sorted_by(|a, b| a < b);
    blocks.check(BlockKind::Terms, if unique { Ok(()) } else { Err("not ascending".to_owned()) })?;
    let starts: ScalarBuffer<u32> = blocks.scalars(BlockKind::TermStarts, Some(terms.len() + 1))?;
    let highest: ScalarBuffer<f64> = blocks.scalars(BlockKind::TermHighest, Some(terms.len()))?;
    let lowest: ScalarBuffer<f64> = blocks.scalars(BlockKind::TermLowest, Some(terms.len()))?;
    let posting_rows: ScalarBuffer<u32> = blocks.scalars(BlockKind::PostingRows, None)?;
    let cosine = meta.metric == Metric::SparseCosine;
    let impacts = blocks.scalars(BlockKind::PostingImpacts, Some(if cosine { posting_rows.len() } else { 0 }))?;
    blocks.check(BlockKind::TermStarts, ascends(&starts, 0, posting_rows.len()))?;
    blocks.check(BlockKind::PostingRows, below(&posting_rows, rows))?;
    let ascending =
        starts.windows(2).all(|bounds| posting_rows[bounds[0] as usize..bounds[1] as usize].is_sorted_by(|a, b| a < b));
    blocks.check(BlockKind::PostingRows, if ascending { Ok(()) } else { Err("not ascending".to_owned()) })?;
    let inverted = Inverted { terms, starts, highest, lowest, rows: posting_rows, impacts };
    Ok(StoredVectors::Sparse(SparseRows { offsets, indices, values }, lengths, inverted))
}

/// The attributes, in place: only buffers that are compressed or misaligned would be copied, and ours are neither.
fn read_attributes(blocks: &Blocks<'_>, rows: usize) -> Result<RecordBatch, Corrupt> {
    decode_attributes(&blocks.get(BlockKind::Attributes)?, rows)
        .map_err(|found| blocks.corrupt(BlockKind::Attributes, "an Arrow IPC file of one batch", found))
}

/// The one batch of an Arrow IPC file, in place. Says what is there instead.
pub(crate) fn decode_attributes(buffer: &Buffer, rows: usize) -> Result<RecordBatch, String> {
    fenced(|| decode_batch(buffer, rows))
}

fn decode_batch(buffer: &Buffer, rows: usize) -> Result<RecordBatch, String> {
    const END: usize = 10;
    let length = buffer.len();
    let end = length.checked_sub(END).ok_or_else(|| format!("{length} bytes"))?;
    let mut tail = [0; END];
    tail.copy_from_slice(&buffer[end..]);
    let footer_length = read_footer_length(tail).map_err(|error| error.to_string())?;
    let start = end.checked_sub(footer_length).ok_or_else(|| format!("a footer of {footer_length} bytes"))?;
    let footer = root_as_footer(&buffer[start..end]).map_err(|error| error.to_string())?;
    let schema = footer.schema().ok_or_else(|| "no schema".to_owned())?;
    let schema = Arc::new(fb_to_schema(schema));
    let batches = footer.recordBatches().ok_or_else(|| "no batches".to_owned())?;
    if batches.len() != 1 {
        return Err(format!("{} batches", batches.len()));
    }
    let block = batches.get(0);
    let at = usize::try_from(block.offset()).unwrap_or(usize::MAX);
    let size = usize::try_from(block.bodyLength()).ok().zip(usize::try_from(block.metaDataLength()).ok());
    let size = size.and_then(|(body, meta)| body.checked_add(meta)).unwrap_or(usize::MAX);
    if at.checked_add(size).is_none_or(|end| end > start) {
        return Err(format!("a batch of {size} bytes at {at}"));
    }
    let bytes = buffer.slice_with_length(at, size);
    // What is compressed says itself how much memory it wants.
    let length = usize::try_from(block.metaDataLength()).unwrap_or(usize::MAX);
    let message = bytes.get(..length).map(|message| message.strip_prefix(&[0xff; 4]).unwrap_or(message));
    let message = message.and_then(|message| message.get(4..)).ok_or("no message")?;
    let message = root_as_message(message).map_err(|error| error.to_string())?;
    if message.header_as_record_batch().is_none_or(|batch| batch.compression().is_some()) {
        return Err("a batch that is compressed, or none".to_owned());
    }
    let decoder = FileDecoder::new(schema, footer.version());
    let batch = decoder.read_record_batch(block, &bytes);
    let batch = batch.map_err(|error| error.to_string())?.ok_or_else(|| "no batch".to_owned())?;
    if batch.num_rows() != rows {
        return Err(format!("{} rows, not {rows}", batch.num_rows()));
    }
    if batch.columns().iter().any(|column| column.null_count() > 0) {
        return Err("nulls".to_owned());
    }
    Ok(batch)
}

struct Blocks<'a> {
    name: &'a str,
    buffer: Buffer,
    entries: Vec<Entry>,
}

impl Blocks<'_> {
    fn corrupt(&self, kind: BlockKind, expected: &str, found: String) -> Corrupt {
        Corrupt {
            object: self.name.to_owned(),
            part: format!("block {}", kind.name()),
            expected: expected.to_owned(),
            found,
        }
    }

    fn check(&self, kind: BlockKind, outcome: Result<(), String>) -> Result<(), Corrupt> {
        outcome.map_err(|found| self.corrupt(kind, "valid contents", found))
    }

    fn slot_layout(&self, meta: &Meta) -> Result<SlotLayout, Corrupt> {
        let layout = meta.slot_bytes.and_then(|bytes| SlotLayout::new(meta.dimension, bytes));
        layout
            .ok_or_else(|| self.corrupt(BlockKind::Meta, "the bytes of a row's slot", format!("{:?}", meta.slot_bytes)))
    }

    fn has(&self, kind: BlockKind) -> bool {
        self.entries.iter().any(|entry| entry.kind == kind as u32)
    }

    fn get(&self, kind: BlockKind) -> Result<Buffer, Corrupt> {
        let entry = self.entries.iter().find(|entry| entry.kind == kind as u32);
        let entry = entry.ok_or_else(|| self.corrupt(kind, "a block", "none".to_owned()))?;
        Ok(self.buffer.slice_with_length(entry.offset as usize, entry.length as usize))
    }

    /// Values in place; blocks are aligned for every type.
    fn scalars<T: ArrowNativeType>(&self, kind: BlockKind, length: Option<usize>) -> Result<ScalarBuffer<T>, Corrupt> {
        let block = self.get(kind)?;
        let found = block.len() / size_of::<T>();
        if !block.len().is_multiple_of(size_of::<T>()) || length.is_some_and(|length| length != found) {
            let expected = length.map_or_else(|| "whole values".to_owned(), |length| format!("{length} values"));
            let found = format!("{} bytes of {}-byte values", block.len(), size_of::<T>());
            return Err(self.corrupt(kind, &expected, found));
        }
        Ok(ScalarBuffer::new(block, 0, found))
    }

    fn json<T: DeserializeOwned>(&self, kind: BlockKind) -> Result<T, Corrupt> {
        serde_json::from_slice(&self.get(kind)?)
            .map_err(|error| self.corrupt(kind, "JSON of this block", error.to_string()))
    }
}

fn ascends<T: Copy + PartialOrd + TryInto<usize>>(offsets: &[T], first: usize, last: usize) -> Result<(), String> {
    let ends = offsets.first().zip(offsets.last()).map(|(&a, &b)| (a.try_into().ok(), b.try_into().ok()));
    if offsets.is_sorted() && ends == Some((Some(first), Some(last))) {
        Ok(())
    } else {
        Err(format!("offsets that do not ascend from {first} to {last}"))
    }
}

fn below(rows: &[u32], bound: usize) -> Result<(), String> {
    match rows.iter().max() {
        Some(&row) if row as usize >= bound => Err(format!("row {row} of {bound}")),
        _ => Ok(()),
    }
}
