//! The digest of a set of rows: the sum of their 128-bit hashes (XXH3), modulo 2^128, and their number.
//!
//! Equal sets have equal digests in whatever order they are read, a difference in one bit of one row changes it. It finds
//! damage and defects; it is no protection against somebody who makes collisions on purpose.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use tarn_model::{Attributes, DataSource, Vector, encode_value};
use tarn_timeline::{row_attributes, row_vector};
use xxhash_rust::xxh3::xxh3_128;

/// The digest of a set of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) rows: u64,
    sum: u128,
}

impl Digest {
    /// Adds one row. `version`: 0 where versions are not compared.
    pub(super) fn add(&mut self, version: u64, key: &[u8], attributes: &Attributes, vector: Option<&Vector>) {
        let mut bytes = version.to_le_bytes().to_vec();
        bytes.extend((key.len() as u64).to_le_bytes());
        bytes.extend(key);
        for (name, value) in attributes {
            bytes.extend((name.len() as u64).to_le_bytes());
            bytes.extend(name.as_bytes());
            encode_value(value, &mut bytes);
        }
        match vector {
            Some(Vector::Dense(values)) => bytes.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes())),
            Some(Vector::Sparse(vector)) => {
                bytes.extend(vector.indices.iter().flat_map(|index| index.to_le_bytes()));
                bytes.extend(vector.values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
            }
            None => {}
        }
        self.rows += 1;
        self.sum = self.sum.wrapping_add(xxh3_128(&bytes));
    }

    /// Adds the rows of a batch with the columns of a checkpoint file for which `wanted` holds of key and version.
    pub(super) fn add_batch(
        &mut self,
        source: &DataSource,
        batch: &RecordBatch,
        with_versions: bool,
        mut wanted: impl FnMut(&[u8], u64) -> bool,
    ) {
        let keys = batch.column(0).as_binary_opt::<i32>();
        let versions = batch.column(1).as_primitive_opt::<UInt64Type>();
        let (Some(keys), Some(versions)) = (keys, versions) else { return };
        for row in 0..keys.len() {
            let (key, version) = (keys.value(row), versions.value(row));
            if wanted(key, version) {
                let version = if with_versions { version } else { 0 };
                self.add(version, key, &row_attributes(batch, source, row), row_vector(batch, source, row).as_ref());
            }
        }
    }
}
