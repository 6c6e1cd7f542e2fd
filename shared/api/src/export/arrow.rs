//! Arrow IPC streams.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use super::{Encoder, Pieces, text};

pub(super) struct ArrowEncoder {
    pieces: Pieces,
    writer: StreamWriter<Pieces>,
}

impl ArrowEncoder {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, String> {
        let pieces = Pieces::default();
        let writer = StreamWriter::try_new(pieces.clone(), schema).map_err(|error| text(&error))?;
        Ok(Self { pieces, writer })
    }
}

impl Encoder for ArrowEncoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, String> {
        self.writer.write(batch).map_err(|error| text(&error))?;
        Ok(self.pieces.take())
    }

    fn end(&mut self) -> Result<Bytes, String> {
        self.writer.finish().map_err(|error| text(&error))?;
        Ok(self.pieces.take())
    }
}
