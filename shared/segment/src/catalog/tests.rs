//! Catalogs survive encoding, and nothing else decodes.

use super::*;

fn segment(number: u32, rows: u32, splits: Vec<SplitRows>) -> CatalogSegment {
    CatalogSegment {
        object: ObjectRef { id: u128::from(number).into(), bytes: 1000 + u64::from(number), crc32c: !number },
        kind: [SegmentKind::Flat, SegmentKind::Graph, SegmentKind::Sparse][number as usize % 3],
        outline: 100 * u64::from(number),
        rows,
        deleted: RoaringBitmap::new(),
        splits,
        statistics: None,
    }
}

fn split(key: impl Into<Vec<u8>>, rows: Range<u32>) -> SplitRows {
    SplitRows { key: SplitKey(key.into()), rows }
}

fn statistics(rows: u8) -> Statistics {
    let mut statistics = Statistics::new([0.5, -1.0].into());
    (0..rows).for_each(|row| statistics.add_dense(&[f32::from(row), 1.0]));
    statistics
}

fn small() -> Catalog {
    let mut first = segment(1, 10, vec![split("a", 0..4), split("b", 4..10)]);
    first.deleted.extend([0, 3, 9]);
    let mut second = segment(2, 5, vec![split("", 0..5)]);
    second.statistics = Some(Arc::new(statistics(5)));
    Catalog { shard: "shard ü".to_owned(), segments: vec![first, second] }
}

#[test]
fn a_catalog_round_trips() {
    let empty = Catalog { shard: "0".to_owned(), segments: Vec::new() };
    let no_rows = Catalog { shard: "0".to_owned(), segments: vec![segment(0, 0, Vec::new())] };
    for catalog in [small(), empty, no_rows] {
        assert_eq!(Catalog::decode("catalog", &catalog.encode().unwrap()).unwrap(), catalog);
    }
    assert_eq!(small().segments[0].live_rows(), 7);
}

#[test]
fn a_hundred_thousand_splits_take_less_than_four_megabytes() {
    // Keys as they are: a type tag, then text that shares little.
    let splits: Vec<SplitRows> = (0u32..100_000)
        .map(|i| {
            let mut key = vec![4u8];
            key.extend_from_slice(format!("customer-{:08x}", i.wrapping_mul(2_654_435_761)).as_bytes());
            key.extend_from_slice(&[0, 0]);
            split(key, i * 7..(i + 1) * 7)
        })
        .collect();
    let mut segment = segment(0, 700_000, splits);
    segment.deleted = (0..700_000).filter(|row| row % 13 == 0).collect();
    let catalog = Catalog { shard: "0".to_owned(), segments: vec![segment] };
    let bytes = catalog.encode().unwrap();
    assert!(bytes.len() < 4_000_000, "{} bytes", bytes.len());
    assert_eq!(Catalog::decode("catalog", &bytes).unwrap(), catalog);
}

#[test]
fn a_table_that_readers_would_refuse_is_not_written() {
    assert!(codec::encode(&small(), 100).unwrap_err().to_string().contains("more than 100"));
}

#[test]
fn splits_cover_their_segment() {
    let broken = [
        vec![split("a", 0..4)],
        vec![split("a", 1..10)],
        vec![split("a", 0..4), split("b", 5..10)],
        vec![split("a", 0..4), split("b", 3..10)],
        vec![split("a", 0..4), split("a", 4..10)],
        vec![split("a", 0..0), split("b", 0..10)],
        vec![split("a", 0..11)],
        vec![],
    ];
    for splits in broken {
        let catalog = Catalog { shard: "0".to_owned(), segments: vec![segment(1, 10, splits)] };
        let message = catalog.encode().unwrap_err().to_string();
        assert!(message.contains("splits-cover-their-segment"), "{message}");
        let error = Catalog::decode("c", &codec::encode(&catalog, codec::TABLE_BYTES).unwrap()).unwrap_err();
        assert_eq!(error.expected, "splits-cover-their-segment");
    }
}

#[test]
fn deleted_rows_exist() {
    let mut catalog = small();
    catalog.segments[1].deleted.insert(5);
    assert!(catalog.encode().unwrap_err().to_string().contains("deleted-rows-exist"));
}

#[test]
fn outline_is_in_its_segment() {
    let mut catalog = small();
    catalog.segments[1].outline = catalog.segments[1].object.bytes;
    assert!(catalog.encode().is_ok());
    catalog.segments[1].outline += 1;
    assert!(catalog.encode().unwrap_err().to_string().contains("outline-is-in-its-segment"));
}

#[test]
fn statistics_count_live_rows() {
    let mut catalog = small();
    catalog.segments[1].deleted.insert(2);
    assert!(catalog.encode().unwrap_err().to_string().contains("statistics-count-live-rows"));
    let error = Catalog::decode("c", &codec::encode(&catalog, codec::TABLE_BYTES).unwrap()).unwrap_err();
    assert_eq!(error.expected, "statistics-count-live-rows");
    catalog.segments[1].statistics = Some(Arc::new(statistics(4)));
    assert!(catalog.encode().is_ok());
}

#[test]
fn every_flipped_bit_and_every_cut_is_seen() {
    let bytes = small().encode().unwrap();
    for at in 0..bytes.len() {
        assert_eq!(Catalog::decode("c", &bytes.slice(..at)).unwrap_err().object, "c");
        for bit in 0..8 {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            assert!(Catalog::decode("c", &changed.into()).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn another_format_version_is_refused_by_name() {
    let mut bytes = small().encode().unwrap().to_vec();
    let at = bytes.len() - 12;
    bytes[at] = 2;
    let error = Catalog::decode("c", &bytes.into()).unwrap_err();
    assert_eq!((error.expected.as_str(), error.found.as_str()), ("format version 1", "2"));
}
