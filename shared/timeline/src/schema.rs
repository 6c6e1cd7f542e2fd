//! The canonical Arrow schemas of deltas and checkpoint files, and how their columns are written.
//!
//! Columns of a delta: `_key`, `_deleted`, one per attribute in key order, then the vector (`_vector`, or `_indices` and
//! `_values`). A checkpoint file has `_version` in the place of `_deleted`. An attribute whose name begins with `_` gets
//! one more `_` in front, so that no attribute can take the name of a column of ours.
//!
//! Both are plain Parquet: any reader opens them. See `docs/formats/delta.md` and `docs/formats/checkpoint.md`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use tarn_model::{AttributeType, DataSource, ValidationError, VectorKind, limits};

/// The point key: canonical bytes of the permanent attributes.
pub const KEY_COLUMN: &str = "_key";
/// Whether the row is a tombstone. Deltas only.
pub const DELETED_COLUMN: &str = "_deleted";
/// The update that wrote the row, see [`pack_version`]. Checkpoint files only.
pub const VERSION_COLUMN: &str = "_version";
/// The dense vector.
pub const VECTOR_COLUMN: &str = "_vector";
/// The coordinate indices of a sparse vector.
pub const INDICES_COLUMN: &str = "_indices";
/// The coordinate values of a sparse vector.
pub const VALUES_COLUMN: &str = "_values";

const ROW_BITS: u32 = 24;
/// Most rows of one delta, so that a row number fits into [`pack_version`].
pub const MAX_DELTA_ROWS: usize = (1 << ROW_BITS) - 1;

/// The column that holds an attribute.
pub fn attribute_column(name: &str) -> String {
    if name.starts_with('_') { format!("_{name}") } else { name.to_owned() }
}

/// The position of an update in its timeline as one number that orders as (sequence, row) does.
pub fn pack_version(sequence: u64, row: u32) -> u64 {
    (sequence << ROW_BITS) | u64::from(row)
}

/// The inverse of [`pack_version`]: (sequence, row).
pub fn unpack_version(version: u64) -> (u64, u32) {
    (version >> ROW_BITS, (version & ((1 << ROW_BITS) - 1)) as u32)
}

/// The Arrow type of an attribute's column.
pub(crate) fn attribute_data_type(attribute_type: AttributeType) -> DataType {
    match attribute_type {
        AttributeType::Bool => DataType::Boolean,
        AttributeType::Int64 => DataType::Int64,
        AttributeType::Float64 => DataType::Float64,
        AttributeType::String => DataType::Utf8,
        AttributeType::Uuid => DataType::FixedSizeBinary(16),
        AttributeType::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// The schema of every delta of a data source.
pub fn delta_schema(source: &DataSource) -> SchemaRef {
    schema(source, Field::new(DELETED_COLUMN, DataType::Boolean, false), true)
}

/// The schema of every checkpoint data file of a data source.
pub fn checkpoint_schema(source: &DataSource) -> SchemaRef {
    schema(source, Field::new(VERSION_COLUMN, DataType::UInt64, false), false)
}

fn schema(source: &DataSource, second: Field, tombstones: bool) -> SchemaRef {
    let mut fields = vec![Field::new(KEY_COLUMN, DataType::Binary, false), second];
    for (name, &attribute_type) in &source.attribute_types {
        let nullable = tombstones && !source.permanent_attributes.contains(name);
        let mut field = Field::new(attribute_column(name), attribute_data_type(attribute_type), nullable);
        if attribute_type == AttributeType::Uuid {
            field.set_metadata(HashMap::from([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())]));
        }
        fields.push(field);
    }
    match source.vector_kind {
        VectorKind::Dense => {
            let data_type = DataType::FixedSizeList(coordinate(DataType::Float32), dimension(source));
            fields.push(Field::new(VECTOR_COLUMN, data_type, tombstones));
        }
        VectorKind::Sparse => {
            fields.push(Field::new(INDICES_COLUMN, DataType::List(coordinate(DataType::UInt32)), tombstones));
            fields.push(Field::new(VALUES_COLUMN, DataType::List(coordinate(DataType::Float64)), tombstones));
        }
    }
    Arc::new(Schema::new(fields))
}

/// The child field of a vector column: no coordinate is null. `element` is the name that the Parquet format prescribes.
pub(crate) fn coordinate(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", data_type, false))
}

/// Refuses rows whose dense vectors take more than [`limits::BATCH_BYTES`]; there is a place for one in tombstones too. (Sparse
/// ones have no place where there is nothing.)
pub(crate) fn check_vector_bytes(source: &DataSource, rows: usize) -> Result<(), ValidationError> {
    let row_bytes = match source.vector_kind {
        VectorKind::Dense => size_of::<f32>() * usize::try_from(source.vector_dimension).unwrap_or(usize::MAX / 8),
        VectorKind::Sparse => return Ok(()),
    };
    let most = limits::BATCH_BYTES / row_bytes.max(1);
    if rows <= most {
        return Ok(());
    }
    Err(ValidationError::one(format!(
        "an upload takes at most {most} points or tombstones with vectors of dimension {}; send several uploads",
        source.vector_dimension
    )))
}

/// The dimension as Arrow counts it. Definitions are limited far below `i32::MAX` for dense vectors.
pub(crate) fn dimension(source: &DataSource) -> i32 {
    i32::try_from(source.vector_dimension).unwrap_or(i32::MAX)
}

/// How deltas and checkpoint files are written: vectors PLAIN and `LZ4_RAW` without dictionary or statistics (they are
/// incompressible, and a dictionary costs four times the rest), keys likewise, attributes zstd with a dictionary.
pub fn writer_properties(source: &DataSource) -> WriterPropertiesBuilder {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let mut properties = WriterProperties::builder()
        .set_created_by("tarn".to_owned())
        .set_compression(zstd)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(false);
    let raw = match source.vector_kind {
        VectorKind::Dense => vec![vec![KEY_COLUMN], vec![VECTOR_COLUMN, "list", "element"]],
        VectorKind::Sparse => {
            vec![vec![KEY_COLUMN], vec![INDICES_COLUMN, "list", "element"], vec![VALUES_COLUMN, "list", "element"]]
        }
    };
    for parts in raw {
        let path = ColumnPath::new(parts.into_iter().map(str::to_owned).collect());
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::PLAIN)
            .set_column_compression(path.clone(), Compression::LZ4_RAW)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    properties
}
