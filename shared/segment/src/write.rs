//! Writes segment files, block after block: besides the input only an index that is being built is in memory.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::ToByteSlice;
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use tarn_model::{HnswParams, limits};

use crate::calibration::{Calibration, CellsCalibration};
use crate::cells;
use crate::columns::ColumnsLayout;
use crate::dense::DenseRows;
use crate::error::SegmentError;
use crate::format::{self, BlockKind, Entry, Meta};
use crate::graph;
use crate::input::{SegmentInput, Vectors};
use crate::keys::{Keys, hash_pairs};
use crate::kind::{Build, SegmentKind, SegmentSettings};
use crate::links;
use crate::read::decode_attributes;
use crate::record::Records;
use crate::slots::Slots;
use crate::sparse::{Inverted, SparseRows};

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentSummary {
    /// Length of the file.
    pub bytes: u64,
    /// CRC-32C of the whole file.
    pub crc32c: u32,
    /// How many of the last bytes an [`Outline`][crate::Outline] is read from; 0 when the file can only be read whole.
    pub outline: u64,
    /// Rows.
    pub rows: u32,
    /// Kind.
    pub kind: SegmentKind,
    /// Of a graph, alone or beside cells.
    pub calibration: Option<Calibration>,
    /// Of cells.
    pub cell_calibration: Option<CellsCalibration>,
}

/// Called with rows done and rows in all, from any thread.
pub type ProgressFn<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Writes a segment file to `path`, which must not exist, and syncs nothing: the store does.
///
/// # Errors
/// [`SegmentError::Input`], [`SegmentError::Io`] or [`SegmentError::Graph`]; the file is then incomplete and of no use.
pub fn write_segment(
    input: &SegmentInput,
    build: Build,
    settings: &SegmentSettings,
    path: &Path,
    progress: ProgressFn<'_>,
) -> Result<SegmentSummary, SegmentError> {
    let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|source| SegmentError::Io {
        action: "create",
        path: path.to_owned(),
        source,
    })?;
    write(input, build, settings, &mut BufWriter::with_capacity(1 << 20, file), path.to_owned(), progress)
}

/// As [`write_segment`], to any writer.
///
/// # Errors
/// See [`write_segment`].
pub fn write_segment_to(
    input: &SegmentInput,
    build: Build,
    settings: &SegmentSettings,
    out: &mut dyn Write,
    progress: ProgressFn<'_>,
) -> Result<SegmentSummary, SegmentError> {
    write(input, build, settings, out, PathBuf::new(), progress)
}

fn write(
    input: &SegmentInput,
    build: Build,
    settings: &SegmentSettings,
    out: &mut dyn Write,
    path: PathBuf,
    progress: ProgressFn<'_>,
) -> Result<SegmentSummary, SegmentError> {
    input.validate()?;
    let rows = input.rows() as u32;
    let (kind, hnsw) = match build {
        Build::Flat => (SegmentKind::Flat, None),
        Build::Graph(params) => (SegmentKind::Graph, Some(params)),
        Build::Cells => (SegmentKind::Cells, None),
        Build::CellsAndGraph(params) => (SegmentKind::Cells, Some(params)),
        Build::Sparse => (SegmentKind::Sparse, None),
    };
    if (kind == SegmentKind::Sparse) != input.metric.is_sparse() {
        let metric = input.metric.algorithm_type();
        return Err(SegmentError::Input(format!("a {kind:?} segment cannot serve {metric}")));
    }
    if let Some(params) = hnsw
        && !((2..=limits::HNSW_M).contains(&params.m) && (1..=limits::HNSW_EF).contains(&params.ef_construction))
    {
        return Err(SegmentError::Input(format!("graph parameters out of range: {params:?}")));
    }
    progress(0, u64::from(rows));
    if let (SegmentKind::Cells, Vectors::Dense(values)) = (kind, &input.vectors) {
        return write_cells(input, values.clone(), hnsw, settings, out, path, progress);
    }
    let mut file = BlockWriter::new(out, path)?;
    let meta = Meta { kind, metric: input.metric, dimension: input.dimension, rows, hnsw, slot_bytes: None };
    file.json(BlockKind::Meta, &meta)?;
    write_keys(&mut file, &input.keys)?;
    file.block(BlockKind::Attributes, |block| write_attributes(block, &input.attributes))?;
    let calibration = match &input.vectors {
        Vectors::Dense(values) => {
            let dense = DenseRows::new(input.metric, input.dimension as usize, values.clone());
            file.bytes(BlockKind::DenseVectors, dense.values.inner())?;
            if let Some(norms) = &dense.inverse_norms {
                file.bytes(BlockKind::InverseNorms, norms.inner())?;
            }
            hnsw.map(|params| {
                let keys = Keys::computed(input.keys.clone());
                let built = graph::build(&dense, input.metric, &keys, params, settings, progress)?;
                file.bytes(BlockKind::Graph, &built.image)?;
                file.json(BlockKind::Calibration, &built.calibration)?;
                Ok::<_, SegmentError>(built.calibration)
            })
            .transpose()?
        }
        Vectors::Sparse { offsets, indices, values } => {
            let sparse =
                SparseRows { offsets: offsets.inner().clone(), indices: indices.clone(), values: values.clone() };
            write_sparse(&mut file, input, &sparse)?;
            None
        }
    };
    let (bytes, crc32c) = file.finish()?;
    progress(u64::from(rows), u64::from(rows));
    Ok(SegmentSummary { bytes, crc32c, outline: 0, rows, kind, calibration, cell_calibration: None })
}

/// Rows go into the file cell by cell: keys, attributes and slots alike, so that a row's number leads to all of them, and
/// what is near to one another is fetched together. Vectors are gathered as they are written; the largest part of the input
/// is in memory once.
fn write_cells(
    input: &SegmentInput,
    values: ScalarBuffer<f32>,
    hnsw: Option<HnswParams>,
    settings: &SegmentSettings,
    out: &mut dyn Write,
    path: PathBuf,
    progress: ProgressFn<'_>,
) -> Result<SegmentSummary, SegmentError> {
    let (rows, kind) = (input.rows() as u32, SegmentKind::Cells);
    let dense = DenseRows::new(input.metric, input.dimension as usize, values);
    let computed = Keys::computed(input.keys.clone());
    let built = cells::build(&dense, input.metric, &computed, settings, progress)?;
    let graph = hnsw
        .map(|params| links::build(&dense, input.metric, &computed, &built, params, settings, progress))
        .transpose()?;
    let (keys, attributes) = reorder(input, &built.order)
        .map_err(|error| SegmentError::Input(format!("rows that cannot be put in order: {error}")))?;
    let records = Records::new(&keys, &attributes).map_err(SegmentError::Input)?;
    let slots = Slots::new(&dense, &built.order, &records);

    let mut file = BlockWriter::new(out, path)?;
    write_keys(&mut file, &keys)?;
    let columns = write_located_attributes(&mut file, &attributes)?;
    if let Some(norms) = &dense.inverse_norms {
        let norms: Vec<f32> = built.order.iter().map(|&row| norms[row as usize]).collect();
        file.bytes(BlockKind::InverseNorms, norms.to_byte_slice())?;
    }
    file.block(BlockKind::RowSlots, |block| slots.write(block))?;
    file.block(BlockKind::Records, |block| slots.write_records(block))?;
    // What is of use only where all of the file is stands before what cold searches read.
    if let Some(graph) = &graph {
        let (starts, links) = graph.links.blocks();
        file.bytes(BlockKind::LinkStarts, starts.to_byte_slice())?;
        file.bytes(BlockKind::Links, links.to_byte_slice())?;
        file.json(BlockKind::Calibration, &graph.calibration)?;
    }
    file.bytes(BlockKind::CellCodes, &built.codes)?;
    // The outline: what a reader needs first comes last, beside the footer.
    let slot_bytes = Some(slots.layout.bytes as u32);
    let meta = Meta { kind, metric: input.metric, dimension: input.dimension, rows, hnsw, slot_bytes };
    file.json(BlockKind::Meta, &meta)?;
    let outline_start = file.entries.last().map_or(0, |entry| entry.offset);
    file.json(BlockKind::AttributeColumns, &columns)?;
    file.bytes(BlockKind::CellCentroids, &built.centroids)?;
    file.bytes(BlockKind::Cells, &built.directory)?;
    file.json(BlockKind::CellCalibration, &built.calibration)?;
    let (bytes, crc32c) = file.finish()?;
    progress(u64::from(rows), u64::from(rows));
    let cell_calibration = Some(built.calibration);
    let outline = bytes - outline_start;
    let calibration = graph.map(|graph| graph.calibration);
    Ok(SegmentSummary { bytes, crc32c, outline, rows, kind, calibration, cell_calibration })
}

/// Writes the attributes, and says where each column is.
fn write_located_attributes(
    file: &mut BlockWriter<'_>,
    attributes: &RecordBatch,
) -> Result<ColumnsLayout, SegmentError> {
    let mut bytes = Vec::new();
    file.io(|_| write_attributes(&mut bytes, attributes))?;
    // Aligned, so that what is decoded stays where it is.
    let block = Buffer::from_slice_ref(&bytes);
    drop(bytes);
    file.bytes(BlockKind::Attributes, &block)?;
    let found =
        decode_attributes(&block, attributes.num_rows()).and_then(|decoded| ColumnsLayout::of(&block, &decoded));
    found.map_err(|error| SegmentError::Input(format!("attributes that cannot be found again: {error}")))
}

/// Keys and attributes with row `order[i]` at place `i`.
fn reorder(input: &SegmentInput, order: &[u32]) -> Result<(BinaryArray, RecordBatch), ArrowError> {
    let order = UInt32Array::from(order.to_vec());
    let keys = take(&input.keys, &order, None)?;
    let columns: Result<Vec<_>, ArrowError> =
        input.attributes.columns().iter().map(|column| take(column, &order, None)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(order.len()));
    let attributes = RecordBatch::try_new_with_options(input.attributes.schema(), columns?, &options)?;
    Ok((keys.as_binary::<i32>().clone(), attributes))
}

fn write_keys(file: &mut BlockWriter<'_>, keys: &BinaryArray) -> Result<(), SegmentError> {
    let offsets = keys.value_offsets();
    let (first, last) = (offsets[0], offsets[keys.len()]);
    file.block(BlockKind::KeyOffsets, |block| write_rebased(block, offsets))?;
    file.bytes(BlockKind::KeyBytes, &keys.value_data()[first as usize..last as usize])?;
    let pairs = hash_pairs(keys);
    if let Some(pair) = pairs.windows(2).find(|pair| {
        let [a, b] = [pair[0].1, pair[1].1].map(|row| keys.value(row as usize));
        pair[0].0 == pair[1].0 && a == b
    }) {
        return Err(SegmentError::Input(format!("rows {} and {} have the same key", pair[0].1, pair[1].1)));
    }
    let (hashes, rows): (Vec<u64>, Vec<u32>) = pairs.into_iter().unzip();
    file.bytes(BlockKind::KeyHashes, hashes.to_byte_slice())?;
    file.bytes(BlockKind::KeyHashRows, rows.to_byte_slice())
}

/// Offsets of a slice of a larger array, so that they begin at 0.
fn write_rebased(block: &mut dyn Write, offsets: &[i32]) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    for chunk in offsets.chunks(4096) {
        buffer.clear();
        buffer.extend(chunk.iter().map(|offset| offset - offsets[0]));
        block.write_all(buffer.to_byte_slice())?;
    }
    Ok(())
}

fn write_attributes(block: &mut dyn Write, attributes: &RecordBatch) -> std::io::Result<()> {
    let mut writer = FileWriter::try_new(block, attributes.schema_ref()).map_err(std::io::Error::other)?;
    writer.write(attributes).and_then(|()| writer.finish()).map_err(std::io::Error::other)
}

fn write_sparse(file: &mut BlockWriter<'_>, input: &SegmentInput, sparse: &SparseRows) -> Result<(), SegmentError> {
    let range = sparse.offsets[0] as usize..sparse.offsets[sparse.rows()] as usize;
    file.block(BlockKind::SparseOffsets, |block| write_rebased(block, &sparse.offsets))?;
    file.bytes(BlockKind::SparseIndices, sparse.indices[range.clone()].to_byte_slice())?;
    file.bytes(BlockKind::SparseValues, sparse.values[range].to_byte_slice())?;
    let lengths = sparse.lengths(input.metric);
    file.bytes(BlockKind::SparseLengths, lengths.inner())?;
    let inverted = Inverted::build(sparse, input.metric, &lengths);
    file.bytes(BlockKind::Terms, inverted.terms.inner())?;
    file.bytes(BlockKind::TermStarts, inverted.starts.inner())?;
    file.bytes(BlockKind::TermHighest, inverted.highest.inner())?;
    file.bytes(BlockKind::TermLowest, inverted.lowest.inner())?;
    file.bytes(BlockKind::PostingRows, inverted.rows.inner())?;
    file.bytes(BlockKind::PostingImpacts, inverted.impacts.inner())
}

/// Appends aligned, checksummed blocks to a writer.
struct BlockWriter<'a> {
    out: &'a mut dyn Write,
    path: PathBuf,
    position: u64,
    /// Of everything written.
    crc32c: u32,
    entries: Vec<Entry>,
}

impl<'a> BlockWriter<'a> {
    fn new(out: &'a mut dyn Write, path: PathBuf) -> Result<Self, SegmentError> {
        let mut file = Self { out, path, position: 0, crc32c: 0, entries: Vec::new() };
        file.io(|file| file.write_all(&format::header()))?;
        Ok(file)
    }

    fn bytes(&mut self, kind: BlockKind, bytes: &[u8]) -> Result<(), SegmentError> {
        self.block(kind, |block| block.write_all(bytes))
    }

    fn json(&mut self, kind: BlockKind, value: &impl serde::Serialize) -> Result<(), SegmentError> {
        self.block(kind, |block| serde_json::to_writer(block, value).map_err(Into::into))
    }

    fn block(
        &mut self,
        kind: BlockKind,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), SegmentError> {
        self.io(Self::pad)?;
        let mut block = Block { file: self, crc32c: 0 };
        let offset = block.file.position;
        let written = write(&mut block);
        let crc32c = block.crc32c;
        self.io(|_| written)?;
        let length = self.position - offset;
        self.entries.push(Entry { kind: kind as u32, offset, length, crc32c });
        Ok(())
    }

    fn finish(mut self) -> Result<(u64, u32), SegmentError> {
        self.io(Self::pad)?;
        let footer = format::footer(&self.entries);
        let trailer = format::trailer(self.position, &footer);
        self.io(|file| {
            file.write_all(&footer)?;
            file.pad()?;
            file.write_all(&trailer)?;
            file.out.flush()
        })?;
        Ok((self.position, self.crc32c))
    }

    fn pad(&mut self) -> std::io::Result<()> {
        let padding = format::align(self.position) - self.position;
        self.write_all(&[0; format::ALIGNMENT as usize][..padding as usize])
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.out.write_all(bytes)?;
        self.position += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(())
    }

    fn io(&mut self, action: impl FnOnce(&mut Self) -> std::io::Result<()>) -> Result<(), SegmentError> {
        action(self).map_err(|source| SegmentError::Io { action: "write", path: self.path.clone(), source })
    }
}

/// The block being written.
struct Block<'b, 'a> {
    file: &'b mut BlockWriter<'a>,
    crc32c: u32,
}

impl Write for Block<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // In pieces, so that a block goes through the cache once for both checksums.
        for piece in bytes.chunks(64 * 1024) {
            self.file.write_all(piece)?;
            self.crc32c = crc32c::crc32c_append(self.crc32c, piece);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
