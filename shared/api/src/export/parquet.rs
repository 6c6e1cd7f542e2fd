//! Parquet files.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{Encoder, Pieces, text};

/// A row group is written out once it has grown so large; it is what memory holds.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;

pub(super) struct ParquetEncoder {
    pieces: Pieces,
    /// `None` once the file has ended.
    writer: Option<ArrowWriter<Pieces>>,
}

impl ParquetEncoder {
    pub(super) fn new(schema: SchemaRef) -> Result<Self, String> {
        let pieces = Pieces::default();
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let writer = ArrowWriter::try_new(pieces.clone(), schema, Some(properties)).map_err(|error| text(&error))?;
        Ok(Self { pieces, writer: Some(writer) })
    }
}

impl Encoder for ParquetEncoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, String> {
        if let Some(writer) = &mut self.writer {
            writer.write(batch).map_err(|error| text(&error))?;
            if writer.in_progress_size() >= ROW_GROUP_BYTES {
                writer.flush().map_err(|error| text(&error))?;
            }
        }
        Ok(self.pieces.take())
    }

    fn end(&mut self) -> Result<Bytes, String> {
        if let Some(writer) = self.writer.take() {
            writer.close().map_err(|error| text(&error))?;
        }
        Ok(self.pieces.take())
    }
}
