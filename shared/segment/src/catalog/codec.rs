//! Catalogs as bytes.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, FixedSizeBinaryArray, ListArray, RecordBatch,
    RecordBatchOptions, StringArray, StructArray, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use roaring::RoaringBitmap;
use tarn_model::{Corrupt, ObjectRef, SplitKey};

use super::{Catalog, CatalogSegment, SplitRows};
use crate::ipc::{check_stream, fenced};
use crate::kind::SegmentKind;
use crate::statistics::Statistics;

/// Last bytes of a catalog.
const MAGIC: [u8; 8] = *b"TARN-CAT";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Checksum, version, magic.
const TRAILER: usize = 16;
/// Most bytes of a table, uncompressed: some million splits.
pub(super) const TABLE_BYTES: u64 = 256 << 20;
const SHARD: &str = "tarn.shard";

fn split_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Binary, false),
        Field::new("start", DataType::UInt32, false),
        Field::new("end", DataType::UInt32, false),
    ])
}

fn schema(shard: &str) -> Schema {
    let splits = Field::new("split", DataType::Struct(split_fields()), false);
    let fields = vec![
        Field::new("id", DataType::FixedSizeBinary(16), false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("crc32c", DataType::UInt32, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("outline", DataType::UInt64, false),
        Field::new("rows", DataType::UInt32, false),
        Field::new("deleted", DataType::Binary, false),
        Field::new("splits", DataType::List(Arc::new(splits)), false),
        Field::new("statistics", DataType::Binary, false),
    ];
    Schema::new_with_metadata(fields, HashMap::from([(SHARD.to_owned(), shard.to_owned())]))
}

fn kind_name(kind: SegmentKind) -> &'static str {
    match kind {
        SegmentKind::Flat => "flat",
        SegmentKind::Graph => "graph",
        SegmentKind::Cells => "cells",
        SegmentKind::Sparse => "sparse",
    }
}

/// `most`: bytes of the table, uncompressed.
pub(super) fn encode(catalog: &Catalog, most: u64) -> Result<Bytes, ArrowError> {
    let segments = &catalog.segments;
    let splits: Vec<&SplitRows> = segments.iter().flat_map(|segment| &segment.splits).collect();
    let mut deleted = BinaryBuilder::new();
    let mut buffer = Vec::new();
    for segment in segments {
        buffer.clear();
        segment.deleted.serialize_into(&mut buffer)?;
        deleted.append_value(&buffer);
    }
    let struct_array = StructArray::try_new(
        split_fields(),
        vec![
            Arc::new(BinaryArray::from_iter_values(splits.iter().map(|split| &split.key.0))),
            Arc::new(UInt32Array::from_iter_values(splits.iter().map(|split| split.rows.start))),
            Arc::new(UInt32Array::from_iter_values(splits.iter().map(|split| split.rows.end))),
        ],
        None,
    )?;
    let schema = Arc::new(schema(&catalog.shard));
    let split_field = Arc::new(Field::new("split", DataType::Struct(split_fields()), false));
    let offsets = OffsetBuffer::from_lengths(segments.iter().map(|segment| segment.splits.len()));
    let ids = segments.iter().map(|segment| segment.object.id.to_bytes());
    let ids = if segments.is_empty() {
        FixedSizeBinaryArray::new(16, arrow::buffer::Buffer::from_vec(Vec::<u8>::new()), None)
    } else {
        FixedSizeBinaryArray::try_from_iter(ids)?
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        Arc::new(UInt64Array::from_iter_values(segments.iter().map(|segment| segment.object.bytes))),
        Arc::new(UInt32Array::from_iter_values(segments.iter().map(|segment| segment.object.crc32c))),
        Arc::new(StringArray::from_iter_values(segments.iter().map(|segment| kind_name(segment.kind)))),
        Arc::new(UInt64Array::from_iter_values(segments.iter().map(|segment| segment.outline))),
        Arc::new(UInt32Array::from_iter_values(segments.iter().map(|segment| segment.rows))),
        Arc::new(deleted.finish()),
        Arc::new(ListArray::try_new(split_field, offsets, Arc::new(struct_array), None)?),
        Arc::new(BinaryArray::from_iter_values(
            segments.iter().map(|segment| segment.statistics.as_ref().map(|s| s.encode()).unwrap_or_default()),
        )),
    ];
    let options = RecordBatchOptions::new().with_row_count(Some(segments.len()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options)?;
    writer.write(&batch)?;
    let mut out = writer.into_inner()?;
    check_stream(&out, most).map_err(ArrowError::InvalidArgumentError)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), &VERSION.to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&MAGIC);
    Ok(out.into())
}

pub(super) fn decode(object: &str, bytes: &Bytes) -> Result<Catalog, Corrupt> {
    let wrong = |part: &str, expected: String, found: String| Corrupt {
        object: object.to_owned(),
        part: part.to_owned(),
        expected,
        found,
    };
    let Some((body, trailer)) = bytes.len().checked_sub(TRAILER).map(|at| bytes.split_at(at)) else {
        return Err(wrong("file", format!("at least {TRAILER} bytes"), format!("{} bytes", bytes.len())));
    };
    if trailer[8..] != MAGIC {
        return Err(wrong("trailer", format!("magic {MAGIC:02x?}"), format!("{:02x?}", &trailer[8..])));
    }
    let version = u32::from_le_bytes([trailer[4], trailer[5], trailer[6], trailer[7]]);
    if version != VERSION {
        return Err(wrong("trailer", format!("format version {VERSION}"), version.to_string()));
    }
    let stored = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
    let crc = crc32c::crc32c(&bytes[..bytes.len() - TRAILER]);
    let crc = crc32c::crc32c_append(crc, &trailer[4..8]);
    if stored != crc {
        return Err(wrong("file", format!("checksum {stored:08x}"), format!("checksum {crc:08x}")));
    }
    let table = |found: String| wrong("table", "an Arrow IPC stream".to_owned(), found);
    check_stream(body, TABLE_BYTES).map_err(table)?;
    let (found, batches) = fenced(|| read_table(body)).map_err(table)?;
    let Some(shard) = found.metadata().get(SHARD).cloned() else {
        return Err(wrong("table", format!("metadata {SHARD}"), "none".to_owned()));
    };
    if *found != schema(&shard) {
        return Err(wrong("table", "the columns of a catalog".to_owned(), format!("{:?}", found.fields())));
    }
    let mut segments = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let segment = segment(&batch, row);
            segments.push(segment.map_err(|found| wrong(&format!("segment {row}"), "valid values".to_owned(), found))?);
        }
    }
    Ok(Catalog { shard, segments })
}

fn read_table(stream: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
    let reader = StreamReader::try_new(Cursor::new(stream), None).map_err(|error| error.to_string())?;
    let schema = reader.schema();
    let batches: Result<Vec<RecordBatch>, ArrowError> = reader.collect();
    Ok((schema, batches.map_err(|error| error.to_string())?))
}

/// One row. The schema has been compared, so the columns have their types; none is nullable.
fn segment(batch: &RecordBatch, row: usize) -> Result<CatalogSegment, String> {
    let id: [u8; 16] = batch.column(0).as_fixed_size_binary().value(row).try_into().map_err(|_| "id".to_owned())?;
    let object = ObjectRef {
        id: u128::from_be_bytes(id).into(),
        bytes: batch.column(1).as_primitive::<UInt64Type>().value(row),
        crc32c: batch.column(2).as_primitive::<UInt32Type>().value(row),
    };
    let kind = match batch.column(3).as_string::<i32>().value(row) {
        "flat" => SegmentKind::Flat,
        "graph" => SegmentKind::Graph,
        "cells" => SegmentKind::Cells,
        "sparse" => SegmentKind::Sparse,
        other => return Err(format!("kind {other}")),
    };
    let deleted = RoaringBitmap::deserialize_from(batch.column(6).as_binary::<i32>().value(row))
        .map_err(|error| format!("deleted: {error}"))?;
    let splits = batch.column(7).as_list::<i32>().value(row);
    let splits = splits.as_struct();
    let keys = splits.column(0).as_binary::<i32>();
    let starts = splits.column(1).as_primitive::<UInt32Type>();
    let ends = splits.column(2).as_primitive::<UInt32Type>();
    let splits = (0..splits.len())
        .map(|i| SplitRows { key: SplitKey(keys.value(i).to_vec()), rows: starts.value(i)..ends.value(i) })
        .collect();
    let outline = batch.column(4).as_primitive::<UInt64Type>().value(row);
    let rows = batch.column(5).as_primitive::<UInt32Type>().value(row);
    let statistics = match batch.column(8).as_binary::<i32>().value(row) {
        [] => None,
        bytes => Some(Arc::new(Statistics::decode(bytes)?)),
    };
    Ok(CatalogSegment { object, kind, outline, rows, deleted, splits, statistics })
}
