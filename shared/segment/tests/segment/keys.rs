//! Lookup of rows by key.

use arrow::array::Array;
use roaring::RoaringBitmap;
use tarn_model::Metric;
use tarn_segment::{Build, Segment, SegmentError, SegmentSettings, Vectors, write_segment, write_segment_to};

use crate::support::{Fixture, key};

#[test]
fn every_key_is_found_and_no_other() {
    let fixture = Fixture::dense(Metric::L2, (0..500).map(|i| vec![i as f32]).collect());
    for segment in [fixture.in_memory(), fixture.open(Build::Flat)] {
        for row in 0..500 {
            assert_eq!(segment.find_key(&key(row)), Some(row));
        }
        assert_eq!(segment.find_key(b"key-"), None);
        assert_eq!(segment.find_key(&key(500)), None);
        let wanted = [key(3), key(900), key(499), key(3)];
        let found = segment.rows_of_keys(wanted.iter().map(Vec::as_slice));
        assert_eq!(found, RoaringBitmap::from_iter([3, 499]));
    }
}

#[test]
fn rows_in_memory_may_repeat_a_key_and_files_may_not() {
    let mut fixture = Fixture::dense(Metric::L2, vec![vec![0.0]; 4]);
    fixture.rows[2].0 = key(0);
    let segment = fixture.in_memory();
    assert_eq!(segment.find_key(&key(0)), Some(2));
    assert_eq!(segment.rows_of_keys([key(0).as_slice()]), RoaringBitmap::from_iter([0, 2]));

    let written =
        write_segment_to(&fixture.input(), Build::Flat, &SegmentSettings::default(), &mut Vec::new(), &|_, _| {});
    assert!(matches!(written, Err(SegmentError::Input(message)) if message == "rows 0 and 2 have the same key"));
}

#[test]
fn an_open_file_is_used_in_place() {
    let fixture = Fixture::dense(Metric::L2, (0..500).map(|i| vec![i as f32]).collect());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.seg");
    let summary = write_segment(&fixture.input(), Build::Flat, &SegmentSettings::default(), &path, &|_, _| {}).unwrap();
    assert!(write_segment(&fixture.input(), Build::Flat, &SegmentSettings::default(), &path, &|_, _| {}).is_err());
    let segment = Segment::open(&path, None).unwrap();
    let Vectors::Dense(values) = segment.vectors() else { panic!("dense rows are dense") };
    let vectors = values.inner().as_ptr() as usize;
    for column in segment.attributes().columns() {
        for buffer in column.to_data().buffers() {
            // Mapped bytes lie within the file's length of each other; a copy would lie elsewhere on the heap.
            assert!((buffer.as_ptr() as usize).abs_diff(vectors) < summary.bytes as usize);
        }
    }
}
