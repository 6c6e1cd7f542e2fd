//! Receipts: how a repeated upload takes effect once.
//!
//! Owns `key-commits-once`. The first attempt with an idempotency key creates a receipt that names the upload's batch id,
//! the head that it saw, and the digest of the payload. Whoever holds the receipt (the first attempt and every repetition)
//! appends under the same batch id, and only at a sequence S such that it has seen every delta from that head to S - 1 and
//! found the batch id in none. Sequences are won by create-if-absent, so two of them cannot both get there: the second
//! one has to read what the first one wrote.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tarn_model::{Corrupt, DataSourceId, FORMAT, ReadToken};
use ulid::Ulid;

/// What stands at `receipts/{sha256 of the key}.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    pub(crate) format: u32,
    pub(crate) source: DataSourceId,
    pub(crate) batch_id: Ulid,
    /// The batch id is in no delta up to here.
    pub(crate) head: ReadToken,
    /// See [`payload_digest`].
    pub(crate) payload: String,
    /// For people; no protocol reads it.
    pub(crate) created_ms: i64,
}

impl Receipt {
    pub(crate) fn encode(&self, object: &str) -> Result<Bytes, Corrupt> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|error| corrupt(object, "a receipt", error.to_string()))
    }

    pub(crate) fn parse(object: &str, bytes: &[u8], source: &DataSourceId) -> Result<Self, Corrupt> {
        let receipt: Self =
            serde_json::from_slice(bytes).map_err(|error| corrupt(object, "a receipt", error.to_string()))?;
        if receipt.format != FORMAT {
            return Err(corrupt(object, &format!("format {FORMAT}"), format!("format {}", receipt.format)));
        }
        if receipt.source != *source {
            return Err(corrupt(object, &source.to_string(), receipt.source.to_string()));
        }
        Ok(receipt)
    }
}

fn corrupt(object: &str, expected: &str, found: String) -> Corrupt {
    Corrupt { object: object.to_owned(), part: "receipt".to_owned(), expected: expected.to_owned(), found }
}

/// SHA-256 of what a batch says, in hex: a function of the updates and their order alone, not of how they were encoded or
/// how their arrays are laid out.
pub(crate) fn payload_digest(batch: &RecordBatch) -> String {
    let mut digest = Sha256::new();
    digest.update((batch.num_rows() as u64).to_le_bytes());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        digest.update((field.name().len() as u64).to_le_bytes());
        digest.update(field.name().as_bytes());
        digest_column(column, &mut digest);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest_column(column: &ArrayRef, digest: &mut Sha256) {
    for row in 0..column.len() {
        digest.update([u8::from(column.is_valid(row))]);
        if column.is_valid(row) {
            digest_value(column, row, digest);
        }
    }
}

fn digest_value(column: &ArrayRef, row: usize, digest: &mut Sha256) {
    let mut bytes = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    match column.data_type() {
        DataType::Boolean => bytes(&[u8::from(column.as_boolean().value(row))]),
        DataType::Int64 => bytes(&column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        DataType::Float64 => bytes(&column.as_primitive::<Float64Type>().value(row).to_le_bytes()),
        DataType::Timestamp(..) => bytes(&column.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes()),
        DataType::Utf8 => bytes(column.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => bytes(column.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => bytes(column.as_fixed_size_binary().value(row)),
        DataType::FixedSizeList(..) => digest_numbers(&column.as_fixed_size_list().value(row), digest),
        DataType::List(_) => digest_numbers(&column.as_list::<i32>().value(row), digest),
        // Canonical columns have no other type.
        other => bytes(other.to_string().as_bytes()),
    }
}

fn digest_numbers(numbers: &ArrayRef, digest: &mut Sha256) {
    digest.update((numbers.len() as u64).to_le_bytes());
    let mut bytes = Vec::with_capacity(numbers.len() * 8);
    if let Some(numbers) = numbers.as_primitive_opt::<Float32Type>() {
        bytes.extend(numbers.values().iter().flat_map(|number| number.to_le_bytes()));
    } else if let Some(numbers) = numbers.as_primitive_opt::<UInt32Type>() {
        bytes.extend(numbers.values().iter().flat_map(|number| number.to_le_bytes()));
    } else if let Some(numbers) = numbers.as_primitive_opt::<Float64Type>() {
        bytes.extend(numbers.values().iter().flat_map(|number| number.to_le_bytes()));
    }
    digest.update(&bytes);
}
