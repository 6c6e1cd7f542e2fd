//! Points one a line, as uploads take them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tarn_model::{AttributeValue, DataSource, Vector};
use tarn_timeline::{row_attributes, row_vector};

use super::{Encoder, text};
use crate::json::Wire;

pub(super) struct NdjsonEncoder {
    source: Arc<DataSource>,
}

impl NdjsonEncoder {
    pub(super) fn new(source: Arc<DataSource>) -> Self {
        Self { source }
    }
}

struct Point {
    attributes: Vec<(String, AttributeValue)>,
    vector: Vector,
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("attributes", &Wire(&self.attributes))?;
        map.serialize_entry("vector", &Wire(&self.vector))?;
        map.end()
    }
}

impl Encoder for NdjsonEncoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, String> {
        let mut lines = Vec::new();
        for row in 0..batch.num_rows() {
            let attributes = row_attributes(batch, &self.source, row).into_iter().collect();
            let vector = row_vector(batch, &self.source, row).ok_or("a live point has no vector")?;
            serde_json::to_writer(&mut lines, &Point { attributes, vector }).map_err(|error| text(&error))?;
            lines.push(b'\n');
        }
        Ok(lines.into())
    }

    fn end(&mut self) -> Result<Bytes, String> {
        Ok(Bytes::new())
    }
}
