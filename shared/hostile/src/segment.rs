//! Segment files: opened, then searched in every way.
//!
//! An input is a file, or blocks as `blocks` joins them. A file that opens must answer any search: with rows that it has,
//! distances that are numbers, in order, as many as there are.

use bytes::Bytes;
use roaring::RoaringBitmap;
use serde_json::Value;
use tarn_model::{HnswParams, Metric, SparseVector, Vector};
use tarn_segment::{
    Build, Effort, Query, Rows, Segment, SegmentError, SegmentSettings, compare_hits, write_segment_to,
};

use crate::blocks::{Block, assemble, join, places, seal_frame, split, take_apart, u32_at, u64_at};
use crate::seeds;

const META: u32 = 1;
const ATTRIBUTES: u32 = 6;
const CELLS: u32 = 20;
const CELL_CODES: u32 = 22;
const ROW_SLOTS: u32 = 24;
const RECORDS: u32 = 25;
const ATTRIBUTE_COLUMNS: u32 = 26;
/// With the centroids and the calibration.
const OUTLINE: [u32; 5] = [META, CELLS, 21, 23, ATTRIBUTE_COLUMNS];

/// The file that an input stands for, its checksums repaired.
pub(crate) fn file(data: &[u8]) -> Vec<u8> {
    if data.starts_with(b"TARN-SEG") {
        let mut file = data.to_vec();
        seal_frame(&mut file);
        return file;
    }
    let mut blocks = split(data);
    seal_cells(&mut blocks);
    seal_slots(&mut blocks);
    seal_columns(&mut blocks);
    assemble(&blocks)
}

/// Where the blocks begin that a cold reader needs; the beginning when there are none.
pub(crate) fn outline_start(file: &[u8]) -> usize {
    let first = places(file).filter(|(kind, _)| OUTLINE.contains(kind)).map(|(_, place)| place.start).min();
    first.unwrap_or(0).min(file.len())
}

pub(crate) fn run(data: &[u8]) {
    match Segment::from_bytes("hostile.seg", Bytes::from(file(data))) {
        Ok(segment) => search(&segment),
        Err(SegmentError::Corrupt(corrupt)) => {
            assert!(corrupt.object == "hostile.seg" && !corrupt.part.is_empty() && !corrupt.expected.is_empty());
        }
        Err(SegmentError::Graph(_)) => {}
        Err(error) => panic!("bytes are at fault, not {error}"),
    }
}

fn search(segment: &Segment) {
    let total = segment.rows();
    look_at_rows(segment);
    let half = 0..total.div_ceil(2);
    let (every_third, all) = ((0..total).step_by(3).collect::<RoaringBitmap>(), 0..total);
    let masks = [
        Rows { ranges: std::slice::from_ref(&all), ..Rows::default() },
        Rows { ranges: std::slice::from_ref(&half), deleted: Some(&every_third), ..Rows::default() },
    ];
    for query in queries(segment) {
        let query = Query::new(segment.metric(), &query).unwrap_or_else(|error| panic!("{error}"));
        for rows in &masks {
            for (k, effort) in [(1, Effort::Recall(0.9)), (10, Effort::Exact), (usize::MAX / 4, Effort::Ef(20))] {
                let answer = segment.search(&query, k, rows, effort, &|| false);
                let answer = answer.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(answer.hits.len() as u64, answer.allowed.min(k as u64));
                let key = |at: usize| (answer.hits[at].distance, segment.key(answer.hits[at].row));
                for at in 0..answer.hits.len() {
                    assert!(answer.hits[at].row < total && !answer.hits[at].distance.is_nan());
                    assert!(at == 0 || compare_hits(segment.metric(), key(at - 1), key(at)).is_le());
                }
            }
            for effort in [
                Effort::Ef(1),
                Effort::Ef(64),
                Effort::Cells { nprobe: 2, rescored: 5 },
                Effort::Cells { nprobe: u32::MAX, rescored: u32::MAX },
            ] {
                let proposed = segment.propose(&query, rows, effort).unwrap_or_else(|error| panic!("{error}"));
                let allowed = |row: &u32| {
                    rows.ranges.iter().any(|range| range.contains(row))
                        && rows.deleted.is_none_or(|deleted| !deleted.contains(*row))
                };
                assert!(proposed.iter().all(allowed));
            }
        }
    }
}

fn look_at_rows(segment: &Segment) {
    for column in segment.attributes().columns() {
        assert_eq!(column.len(), segment.rows() as usize);
        column.to_data().validate_full().unwrap_or_else(|error| panic!("{error}"));
    }
    for row in 0..segment.rows().min(50) {
        let _ = (segment.find_key(segment.key(row)), segment.vector(row));
    }
    let _ = segment.rows_of_keys([&b""[..], b"k37"]);
    if let Some(cells) = segment.cell_calibration() {
        let _ = (cells.effort(0.9, 10), cells.effort(0.0, usize::MAX));
    }
    if let Some(graph) = segment.calibration() {
        let _ = (graph.effort(0.9, 10), graph.effort(0.0, usize::MAX));
    }
}

fn queries(segment: &Segment) -> Vec<Vector> {
    let dimension = segment.dimension();
    let mut queries = if segment.metric().is_sparse() {
        let last = dimension.saturating_sub(1);
        let some = [(0, 1.0), (1, -2.0), (11, 0.5), (22, 1e-120), (last.max(23), 1.0)];
        let within = some.into_iter().filter(|(index, _)| *index < dimension);
        [SparseVector::from_pairs([]), SparseVector::from_pairs(within)].map(Vector::Sparse).to_vec()
    } else {
        dense_queries(dimension).map(Vector::Dense).to_vec()
    };
    // Rows have passed the checks that queries have to.
    queries.extend((segment.rows() > 0).then(|| segment.vector(segment.rows() - 1)));
    queries
}

pub(crate) fn dense_queries(dimension: u32) -> [Vec<f32>; 2] {
    [vec![0.0; dimension as usize], (0..dimension).map(|i| (i % 7) as f32 - 2.5).collect()]
}

fn find(blocks: &[Block], kind: u32) -> Option<usize> {
    blocks.iter().position(|block| block.0 == kind)
}

/// The meta block, as JSON, and the dimension in it, if one can calculate with it.
fn meta(blocks: &[Block]) -> Option<(Value, u64)> {
    let meta: Value = serde_json::from_slice(&blocks[find(blocks, META)?].1).ok()?;
    let dimension = meta["dimension"].as_u64().filter(|&dimension| dimension <= 1 << 20)?;
    Some((meta, dimension))
}

/// Makes the directory's checksums of cells true, as far as cells can be found.
fn seal_cells(blocks: &mut [Block]) -> Option<()> {
    let (meta, dimension) = meta(blocks)?;
    let (directory, codes) = (find(blocks, CELLS)?, find(blocks, CELL_CODES)?);
    let biased = meta["metric"] == "l2";
    let (mut at, mut entry) = (0u64, 8 + 4 * dimension as usize);
    loop {
        let rows = u32_at(&blocks[directory].1, entry).map(u64::from)?;
        let codes_end = rows * 4 * dimension.div_ceil(8) + 2 * rows;
        let end = if biased { codes_end.next_multiple_of(4) + 4 * rows } else { codes_end };
        let end = at + end.next_multiple_of(64);
        let sum = crc32c::crc32c(blocks[codes].1.get(at as usize..end as usize)?);
        blocks[directory].1.get_mut(entry + 20..entry + 24)?.copy_from_slice(&sum.to_le_bytes());
        (at, entry) = (end, entry + 24);
    }
}

/// Makes the checksums in rows' slots true: of slots, and of records that are elsewhere.
fn seal_slots(blocks: &mut [Block]) -> Option<()> {
    let (meta, dimension) = meta(blocks)?;
    let bytes = meta["slotBytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok())?;
    let area = 4 * dimension as usize;
    if bytes < area + 6 {
        return None;
    }
    let records = find(blocks, RECORDS).map(|at| blocks[at].1.clone()).unwrap_or_default();
    let slots = find(blocks, ROW_SLOTS)?;
    for (row, slot) in (0u32..).zip(blocks[slots].1.chunks_exact_mut(bytes)) {
        if slot[area + 4..area + 6] == [0xff; 2] && slot.len() >= area + 22 {
            let offset = u64_at(slot, area + 6).and_then(|offset| usize::try_from(offset).ok())?;
            let length = u32_at(slot, area + 14)? as usize;
            if let Some(record) = offset.checked_add(length).and_then(|end| records.get(offset..end)) {
                slot[area + 18..area + 22].copy_from_slice(&crc32c::crc32c(record).to_le_bytes());
            }
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(&row.to_le_bytes()), &slot[..area]);
        let sum = crc32c::crc32c_append(sum, &slot[area + 4..]);
        slot[area..area + 4].copy_from_slice(&sum.to_le_bytes());
    }
    Some(())
}

/// Makes the checksums of attribute columns true, as far as columns can be found.
fn seal_columns(blocks: &mut [Block]) -> Option<()> {
    let (layout, attributes) = (find(blocks, ATTRIBUTE_COLUMNS)?, find(blocks, ATTRIBUTES)?);
    let mut json: Value = serde_json::from_slice(&blocks[layout].1).ok()?;
    for column in json["columns"].as_array_mut()? {
        let (offset, length) = (column["offset"].as_u64()?, column["length"].as_u64()?);
        let end = usize::try_from(offset.checked_add(length)?).ok()?;
        let sum = crc32c::crc32c(blocks[attributes].1.get(offset as usize..end)?);
        *column.get_mut("crc32c")? = sum.into();
    }
    blocks[layout].1 = serde_json::to_vec(&json).ok()?;
    Some(())
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let params = HnswParams { m: 3, ef_construction: 8, ef_search: 4 };
    let (graph, both) = (Build::Graph(params), Build::CellsAndGraph(params));
    let mut seeds = Vec::new();
    for (name, metric, build) in [
        ("flat-l2", Metric::L2, Build::Flat),
        ("flat-cosine", Metric::Cosine, Build::Flat),
        ("graph-l2", Metric::L2, graph),
        ("graph-ip", Metric::InnerProduct, graph),
        ("graph-cosine", Metric::Cosine, graph),
        ("cells-l2", Metric::L2, Build::Cells),
        ("cells-ip", Metric::InnerProduct, Build::Cells),
        ("cells-cosine", Metric::Cosine, Build::Cells),
        ("both-l2", Metric::L2, both),
        ("both-ip", Metric::InnerProduct, both),
        ("both-cosine", Metric::Cosine, both),
        ("sparse-cosine", Metric::SparseCosine, Build::Sparse),
        ("sparse-jaccard", Metric::SparseJaccard, Build::Sparse),
    ] {
        for (rows, dimension) in [(0, 3), (1, 9), (40, 3)] {
            let settings = SegmentSettings { rows_per_cell: 6, ..SegmentSettings::default() };
            let mut file = Vec::new();
            let input = seeds::input(metric, rows, dimension);
            write_segment_to(&input, build, &settings, &mut file, &|_, _| {}).unwrap_or_else(|error| panic!("{error}"));
            seeds.push((format!("{name}-{rows}"), join(&take_apart(&file))));
            if rows == 1 {
                seeds.push((format!("{name}-file"), file));
            }
        }
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_valid_in_both_forms() {
        for (name, seed) in seeds() {
            let file = if seed.starts_with(b"TARN-SEG") { seed } else { assemble(&split(&seed)) };
            Segment::from_bytes(&name, file.into()).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn changed_cells_are_sealed() {
        let (_, seed) = seeds().into_iter().find(|(name, _)| name == "cells-l2-40").expect("a seed with cells");
        let mut blocks = split(&seed);
        let codes = blocks.iter().position(|block| block.0 == CELL_CODES).expect("codes");
        blocks[codes].1[0] ^= 1;
        assert!(Segment::from_bytes("unsealed", assemble(&blocks).into()).is_err());
        seal_cells(&mut blocks);
        Segment::from_bytes("sealed", assemble(&blocks).into()).expect("cells with true checksums");
    }

    #[test]
    fn a_graph_beside_cells_is_there_as_a_whole_or_not_at_all() {
        const GRAPH: [(u32, &str); 3] = [(27, "link-starts"), (28, "links"), (19, "calibration")];
        let (_, seed) = seeds().into_iter().find(|(name, _)| name == "both-l2-40").expect("a seed with both");
        let blocks = split(&seed);
        let part = |blocks: &[Block]| match Segment::from_bytes("changed", assemble(blocks).into()) {
            Err(SegmentError::Corrupt(corrupt)) => corrupt.part,
            other => panic!("{other:?}"),
        };
        let with_params = |params: Value| {
            let mut blocks = blocks.clone();
            let at = find(&blocks, META).expect("meta");
            let mut meta: Value = serde_json::from_slice(&blocks[at].1).expect("JSON");
            meta["hnsw"] = params;
            blocks[at].1 = serde_json::to_vec(&meta).expect("JSON");
            blocks
        };
        for (kind, name) in GRAPH {
            // One is missing; and one alone is there without parameters.
            let rest: Vec<Block> = blocks.iter().filter(|block| block.0 != kind).cloned().collect();
            assert_eq!(part(&rest), format!("block {name}"));
            let mut alone = with_params(Value::Null);
            alone.retain(|block| block.0 == kind || GRAPH.iter().all(|(other, _)| block.0 != *other));
            assert_eq!(part(&alone), format!("block {name}"));
        }
        for m in [0, 1, 129, u32::MAX] {
            let params = serde_json::json!({ "m": m, "efConstruction": 8, "efSearch": 4 });
            assert_eq!(part(&with_params(params)), "block meta", "{m}");
        }
        // Fewer than some rows have.
        let params = serde_json::json!({ "m": 2, "efConstruction": 8, "efSearch": 4 });
        assert_eq!(part(&with_params(params)), "block link-starts");
    }
}
