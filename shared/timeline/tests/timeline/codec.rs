//! Deltas: what is written comes back, and damage is found.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tarn_model::{
    AttributeType, AttributeValue, Attributes, Corrupt, DataSource, PointKey, Update, VectorKind, limits,
};
use tarn_timeline::{BatchInfo, Delta, PointBatch, decode_delta, decode_header, delta_schema, encode_delta};

use crate::common::{any_updates, batch, delete, dense_source, id, source, sparse_source, updates, upsert};

const OBJECT: &str = "sources/s/1/timeline/000/00000000000000000003.parquet";

fn encode(batch: &PointBatch) -> Bytes {
    encode_delta(0, 3, &[BatchInfo { id: id(1), rows: batch.rows() as u64 }], batch).expect("encodes")
}

fn decode(source: &DataSource, bytes: &Bytes) -> Result<Delta, Corrupt> {
    decode_delta(OBJECT, source, 0, 3, bytes)
}

fn mixed(source: &Arc<DataSource>) -> PointBatch {
    let updates: Vec<Update> =
        (0..40).map(|id| if id % 5 == 4 { delete(id - 2) } else { upsert(source, id, id as f32) }).collect();
    batch(source, &updates)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_encoded_comes_back((source, expected) in any_updates(20)) {
        let batch = batch(&source, &expected);
        prop_assert_eq!(&updates(&batch), &expected);
        let delta = decode(&source, &encode(&batch)).expect("decodes");
        prop_assert_eq!(&delta.data, batch.record_batch());
        for (row, update) in expected.iter().enumerate() {
            let attributes = match update {
                Update::Upsert(point) => &point.attributes,
                Update::Delete(attributes) => attributes,
            };
            let key = PointKey::encode(&source, attributes).expect("a key");
            prop_assert_eq!(delta.key(row), key.0.as_slice());
            prop_assert_eq!(delta.is_deleted(row), matches!(update, Update::Delete(_)));
        }
    }
}

#[test]
fn a_header_names_place_and_uploads() {
    let source = dense_source();
    let batch = mixed(&source);
    let infos = [BatchInfo { id: id(1), rows: 15 }, BatchInfo { id: id(2), rows: 25 }];
    let bytes = encode_delta(0, 3, &infos, &batch).expect("encodes");
    let header = decode_header(OBJECT, &bytes).expect("decodes");
    assert_eq!((header.source, header.lane, header.sequence), (source.id.clone(), 0, 3));
    assert_eq!(header.batches, infos);
    assert_eq!(encode_delta(0, 3, &infos, &batch).expect("encodes"), bytes, "encoding is deterministic");
}

#[test]
fn rows_that_do_not_add_up_are_refused_before_they_are_durable() {
    let error = encode_delta(0, 3, &[BatchInfo { id: id(1), rows: 41 }], &mixed(&dense_source())).expect_err("refused");
    assert_eq!((error.part.as_str(), error.expected.as_str()), ("tarn.batches", "40 rows"));
}

#[test]
fn delta_matches_source() {
    let source = dense_source();
    let bytes = encode(&mixed(&source));
    let mut other = DataSource::clone(&source);
    other.id.version = "1.1".to_owned();
    let error = decode(&other, &bytes).expect_err("another source");
    assert_eq!((error.object.as_str(), error.part.as_str()), (OBJECT, "tarn.source"));

    let error = decode_delta(OBJECT, &source, 0, 4, &bytes).expect_err("another place");
    assert_eq!((error.expected.as_str(), error.found.as_str()), ("sequence 4 of lane 0", "sequence 3 of lane 0"));

    let mut other = DataSource::clone(&source);
    other.vector_dimension = 5;
    assert_eq!(decode(&other, &bytes).expect_err("another dimension").part, "columns");
    let mut other = DataSource::clone(&source);
    other.attribute_types.remove("price");
    assert_eq!(decode(&other, &bytes).expect_err("another attribute").part, "columns");
}

#[test]
fn sealed_bytes_are_unchanged() {
    for source in [dense_source(), sparse_source()] {
        let batch = mixed(&source);
        let bytes = encode(&batch);
        for length in 0..bytes.len() {
            let error = decode(&source, &bytes.slice(..length)).expect_err("truncated");
            assert_eq!(error.object, OBJECT);
        }
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            let error = decode(&source, &Bytes::from(flipped)).expect_err("a bit is flipped");
            assert!(["seal", "magic", "footer length"].contains(&error.part.as_str()), "{error}");
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        decode(&source, &Bytes::from(longer)).expect_err("a byte too many");
    }
}

/// Whoever can write into the bucket can seal nonsense. It must not panic, nor be taken for data.
#[test]
fn sealed_nonsense_is_corrupt() {
    let source = dense_source();
    let bytes = encode(&mixed(&source));
    let footer = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().expect("four bytes"));
    let seal_at = bytes.len() - 8 - footer as usize - 4;
    let mut unharmed = 0;
    std::panic::set_hook(Box::new(|_| {}));
    for at in (4..bytes.len() - 8).step_by(3) {
        let mut nonsense = bytes.to_vec();
        nonsense[at] = nonsense[at].wrapping_add(0x55);
        let checksum =
            crc32c::crc32c_append(crc32c::crc32c(&nonsense[..seal_at]), &nonsense[seal_at + 4..]).to_le_bytes();
        nonsense[seal_at..seal_at + 4].copy_from_slice(&checksum);
        // Some bytes are compressed vectors or free text, where other bytes are as good.
        if let Ok(delta) = decode(&source, &Bytes::from(nonsense)) {
            assert_eq!(delta.data.schema(), delta_schema(&source));
            unharmed += 1;
        }
    }
    let _ = std::panic::take_hook();
    assert!(unharmed < bytes.len() / 6, "{unharmed} of {}", bytes.len() / 3);
}

/// A file of a few bytes can claim millions of tombstones, and the reader makes place for the vector of each.
#[test]
fn a_delta_of_more_tombstones_than_memory_holds_is_corrupt() {
    let narrow = source(VectorKind::Dense, 1, &[("id", AttributeType::Int64)], &["id"]);
    let mut wide = DataSource::clone(&narrow);
    wide.vector_dimension = limits::DENSE_DIMENSION;
    let most = limits::BATCH_BYTES / (4 * limits::DENSE_DIMENSION as usize);
    let tombstones: Vec<Update> = (0..=most as i64).map(|id| Update::Delete(id_attribute(id))).collect();
    // Written for a source whose vectors are small, and passed off as one whose vectors are not.
    let bytes = encode(&batch(&narrow, &tombstones));
    let error = decode(&wide, &bytes).expect_err("refused");
    assert_eq!((error.part.as_str(), error.found.as_str()), ("rows", (most + 1).to_string().as_str()), "{error}");
}

fn id_attribute(id: i64) -> Attributes {
    Attributes::from([("id".to_owned(), AttributeValue::Int64(id))])
}
