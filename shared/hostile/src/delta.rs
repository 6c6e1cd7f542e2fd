//! Deltas. The decoder runs behind a fence that takes a panic of the Parquet reader for a finding about the object.

use std::sync::Arc;

use bytes::Bytes;
use tarn_model::VectorKind;
use tarn_timeline::{BatchInfo, PointBatch, decode_delta, decode_header, encode_delta};

use crate::seeds;

const SEQUENCE: u64 = 5;
const SEAL: &[u8; 8] = b"TARNSEAL";

pub(crate) fn run(data: &[u8]) {
    let mut bytes = data.to_vec();
    seal(&mut bytes);
    let bytes = Bytes::from(bytes);
    let _ = decode_header("hostile", &bytes);
    for kind in [VectorKind::Dense, VectorKind::Sparse] {
        let source = seeds::source(kind);
        match decode_delta("hostile", &source, 0, SEQUENCE, &bytes) {
            Ok(delta) => {
                assert_eq!(delta.batches.iter().map(|batch| batch.rows).sum::<u64>(), delta.rows() as u64);
                for column in delta.data.columns() {
                    column.to_data().validate_full().unwrap_or_else(|error| panic!("{error}"));
                }
                for row in 0..delta.rows() {
                    let _ = (delta.key(row), delta.is_deleted(row));
                }
            }
            Err(corrupt) => assert!(corrupt.object == "hostile" && !corrupt.part.is_empty()),
        }
    }
}

/// Writes the checksum where a seal is, before the footer that the last bytes lead to.
fn seal(bytes: &mut [u8]) {
    let Some(trailer) = bytes.len().checked_sub(8) else { return };
    let Some(length) = crate::blocks::u32_at(bytes, trailer) else { return };
    let Some(footer) = trailer.checked_sub(length as usize) else { return };
    let Some(sum_at) = footer.checked_sub(4) else { return };
    if !bytes[..sum_at].ends_with(SEAL) {
        return;
    }
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..sum_at]), &bytes[footer..]);
    bytes[sum_at..footer].copy_from_slice(&sum.to_le_bytes());
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, kind) in [("dense", VectorKind::Dense), ("sparse", VectorKind::Sparse)] {
        for rows in [1, 12] {
            let source = seeds::source(kind);
            let batch = PointBatch::from_updates(Arc::clone(&source), &seeds::updates(&source, rows));
            let batch = batch.unwrap_or_else(|error| panic!("{error}"));
            let batches = [BatchInfo { id: 3.into(), rows: u64::from(rows) }];
            let bytes = encode_delta(0, SEQUENCE, &batches, &batch).unwrap_or_else(|error| panic!("{error}"));
            seeds.push((format!("{name}-{rows}"), bytes.to_vec()));
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_valid_and_stay_so_when_they_are_sealed_again() {
        for (name, mut seed) in seeds() {
            let kind = if name.starts_with("dense") { VectorKind::Dense } else { VectorKind::Sparse };
            let before = seed.clone();
            seal(&mut seed);
            assert_eq!(seed, before, "{name}");
            decode_delta(&name, &seeds::source(kind), 0, SEQUENCE, &seed.into())
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
