//! The cold reader: an outline from the end of a file, then cells, rows and records by ranges of it.
//!
//! Inputs are those of the target `segment`. What a plan asks for must lie in the file, in order and within its budget.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tarn_model::{Corrupt, ObjectRef};
use tarn_segment::{ColdAnswer, ColdBudget, ColdHits, Effort, FetchedCells, Outline, Query, Rows, compare_hits};

use crate::segment;

const NAME: &str = "hostile.seg";

pub(crate) fn run(data: &[u8]) {
    let file = Bytes::from(segment::file(data));
    let object = ObjectRef { id: 1.into(), bytes: file.len() as u64, crc32c: crc32c::crc32c(&file) };
    let tail = file.slice(segment::outline_start(&file)..);
    match Outline::read(NAME, tail, &object) {
        Ok(outline) => search(&Arc::new(outline), &file),
        Err(corrupt) => check(&corrupt),
    }
}

fn check(corrupt: &Corrupt) {
    assert!(corrupt.object == NAME && !corrupt.part.is_empty() && !corrupt.expected.is_empty());
}

/// The bytes of ranges, which must be what plans promise.
fn read(file: &Bytes, ranges: &[Range<u64>]) -> Vec<Bytes> {
    assert!(ranges.iter().all(|range| range.start < range.end && range.end <= file.len() as u64), "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "{ranges:?}");
    ranges.iter().map(|range| file.slice(range.start as usize..range.end as usize)).collect()
}

fn search(outline: &Arc<Outline>, file: &Bytes) {
    for column in 0..=outline.schema().fields().len() {
        if let Some(range) = outline.column_range(column) {
            let bytes = file.slice(range.start as usize..range.end as usize);
            match outline.columns(&[(column, bytes)]) {
                Ok(batch) => assert_eq!(batch.num_rows(), outline.rows() as usize),
                Err(corrupt) => check(&corrupt),
            }
        }
    }
    let _ = (outline.bytes(), outline.cells(), outline.calibration().effort(0.9, 10));
    let queries: Vec<Query> = segment::dense_queries(outline.dimension())
        .iter()
        .map(|query| Query::dense(outline.metric(), query).unwrap_or_else(|error| panic!("{error}")))
        .collect();
    let (all, half) = (0..outline.rows(), 0..outline.rows().div_ceil(2));
    let fetched = FetchedCells::new(1 << 20);
    let budgets = [ColdBudget::default(), ColdBudget { cell_ranges_max: 2, row_ranges_max: 1, bytes_max: 2000 }];
    let efforts = [
        Effort::Recall(0.0),
        Effort::Recall(0.9),
        Effort::Ef(3),
        Effort::Cells { nprobe: u32::MAX, rescored: u32::MAX },
    ];
    for (rows, k) in [(&all, 10), (&half, 2)] {
        let rows = Rows { ranges: std::slice::from_ref(rows), ..Rows::default() };
        for budget in budgets {
            for effort in efforts {
                for queries in [&queries[..1], &queries] {
                    let plan = outline.plan_cells(queries, k, effort, &rows, &budget, &fetched);
                    let Some(plan) = plan.unwrap_or_else(|error| panic!("{error}")) else { continue };
                    assert!(plan.ranges().len() <= budget.cell_ranges_max * queries.len());
                    let cells = read(file, plan.ranges());
                    let answers = plan.scan(&cells, &fetched).and_then(|plan| {
                        let slots = read(file, plan.ranges());
                        // Some points are known to be elsewhere.
                        let superseded = |key: &[u8]| key.last().is_some_and(|byte| byte % 4 == 0);
                        match plan.hits(&slots, &superseded)? {
                            ColdHits::Found(answers) => Ok(answers),
                            ColdHits::More(plan) => {
                                let records = read(file, plan.ranges());
                                plan.hits(&records, &superseded)
                            }
                        }
                    });
                    match answers {
                        Ok(answers) => {
                            assert_eq!(answers.len(), queries.len());
                            answers.iter().for_each(|answer| look_at(outline, answer, k));
                        }
                        Err(corrupt) => check(&corrupt),
                    }
                }
            }
        }
    }
}

fn look_at(outline: &Outline, answer: &ColdAnswer, k: usize) {
    assert!(answer.hits.len() <= k);
    for hit in &answer.hits {
        assert!(hit.row < outline.rows() && !hit.distance.is_nan());
        assert_eq!(
            (hit.vector.len(), hit.values.len()),
            (outline.dimension() as usize, outline.schema().fields().len())
        );
    }
    for pair in answer.hits.windows(2) {
        let key = |at: usize| (pair[at].distance, pair[at].key.as_slice());
        assert!(compare_hits(outline.metric(), key(0), key(1)).is_le());
    }
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    segment::seeds().into_iter().filter(|(name, _)| name.starts_with("cells")).collect()
}

#[cfg(test)]
mod tests {
    use tarn_segment::Segment;

    use super::*;

    #[test]
    fn seeds_have_outlines() {
        for (name, seed) in seeds() {
            let file = Bytes::from(segment::file(&seed));
            let object = ObjectRef { id: 1.into(), bytes: file.len() as u64, crc32c: crc32c::crc32c(&file) };
            let outline = Outline::read(&name, file.slice(segment::outline_start(&file)..), &object);
            let outline = outline.unwrap_or_else(|error| panic!("{error}"));
            let segment = Segment::from_bytes(&name, file);
            assert_eq!(outline.rows(), segment.unwrap_or_else(|error| panic!("{error}")).rows(), "{name}");
        }
    }
}
