//! Catalogs. What decodes must come out of its own bytes unchanged.

use std::io::Cursor;
use std::sync::Arc;

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use roaring::RoaringBitmap;
use tarn_model::{ObjectRef, SplitKey};
use tarn_segment::{Catalog, CatalogSegment, SegmentKind, SplitRows, Statistics};

/// Checksum, version, magic.
const TRAILER: usize = 16;

pub(crate) fn run(data: &[u8]) {
    let mut bytes = data.to_vec();
    seal(&mut bytes);
    match Catalog::decode("hostile", &bytes.into()) {
        Ok(catalog) => {
            let _: Vec<u64> = catalog.segments.iter().map(CatalogSegment::live_rows).collect();
            let again = catalog.encode().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(Catalog::decode("again", &again).unwrap_or_else(|error| panic!("{error}")), catalog);
        }
        Err(corrupt) => assert!(corrupt.object == "hostile" && !corrupt.part.is_empty()),
    }
}

fn seal(bytes: &mut [u8]) {
    let Some(at) = bytes.len().checked_sub(TRAILER) else { return };
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..at]), &bytes[at + 4..at + 8]);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let segment = |number: u32, kind: SegmentKind| CatalogSegment {
        object: ObjectRef { id: u128::from(number).into(), bytes: 4096, crc32c: number },
        kind,
        outline: 64 * u64::from(number),
        rows: 10 * number,
        deleted: (0..number).chain(5 * number..6 * number).collect::<RoaringBitmap>(),
        splits: (0..number)
            .map(|i| SplitRows { key: SplitKey(vec![1; i as usize]), rows: 10 * i..10 * i + 10 })
            .collect(),
        // Of those that are not among the deleted.
        statistics: (number > 1).then(|| {
            let mut statistics = Statistics::new([0.5, -1.0].into());
            (0..8 * number as u16).for_each(|row| statistics.add_dense(&[f32::from(row), 1.0]));
            Arc::new(statistics)
        }),
    };
    let kinds = [SegmentKind::Flat, SegmentKind::Graph, SegmentKind::Cells, SegmentKind::Sparse];
    let many = (1..).zip(kinds).map(|(number, kind)| segment(number, kind)).collect();
    let mut seeds = Vec::new();
    for (name, segments) in [("none", Vec::new()), ("one", vec![segment(1, SegmentKind::Cells)]), ("many", many)] {
        let catalog = Catalog { shard: "0".to_owned(), segments };
        let bytes = catalog.encode().unwrap_or_else(|error| panic!("{error}"));
        seeds.push((format!("{name}-plain"), uncompressed(&bytes)));
        seeds.push((name.to_owned(), bytes.to_vec()));
    }
    seeds
}

/// The same table without compression, in which mutations reach single values.
fn uncompressed(catalog: &Bytes) -> Vec<u8> {
    let (table, trailer) = catalog.split_at(catalog.len() - TRAILER);
    let again = || {
        let reader = StreamReader::try_new(Cursor::new(table), None)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &reader.schema())?;
        for batch in reader {
            writer.write(&batch?)?;
        }
        writer.into_inner()
    };
    let mut bytes = again().unwrap_or_else(|error| panic!("{error}"));
    bytes.extend_from_slice(trailer);
    seal(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_valid() {
        for (name, seed) in seeds() {
            Catalog::decode(&name, &seed.into()).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
