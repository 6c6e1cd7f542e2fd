//! Measures cells: recall by cells probed and rows rescored.
//!
//! Each number of cells is searched once per query, with room for the most rows that are ever rescored; what fewer would
//! have found follows from the order of the approximate scores. Steps that cost more than another and find less are left
//! out.

mod cold;

use std::collections::BTreeSet;

use rayon::prelude::*;
use roaring::RoaringBitmap;
use tarn_model::Metric;

use cold::Measured;

use super::{Allowing, Cells, Probe};
use crate::calibration::{CellsCalibration, CellsPoint, CellsShare, Recall, recall};
use crate::cost;
use crate::dense::{DenseQuery, DenseRows};
use crate::flat;
use crate::hit::Hit;
use crate::keys::Keys;
use crate::rows::{Allowed, Rows};
use crate::topk::TopK;

/// Cells probed.
const LADDER: [u32; 18] = [4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 1536, 2048];
/// Neighbours that a recall is measured over, and numbers of rows rescored for them.
const SHORT: usize = 10;
const SHORT_RESCORED: [u32; 6] = [16, 24, 32, 48, 64, 96];
const LONG: usize = 100;
const LONG_RESCORED: [u32; 5] = [120, 150, 200, 300, 400];
/// Filters: one row in so many is allowed, at random; those that leave fewer rows are not measured.
const ONE_ROW_IN: [u64; 2] = [10, 100];
const MEASURABLE_ROWS: u64 = 2000;
/// A floor that no further step needs to raise.
const ENOUGH: f32 = 0.999;

/// `order`: the row of `rows` at each place of the cells. `held_out`: rows that no centroid knows.
pub(super) fn calibrate(
    cells: &Cells,
    rows: &DenseRows,
    metric: Metric,
    keys: &Keys,
    order: &[u32],
    held_out: &BTreeSet<u32>,
) -> CellsCalibration {
    let total = order.len() as u32;
    let mut calibration = CellsCalibration { queries: held_out.len() as u32, ..CellsCalibration::default() };
    if held_out.len() < 2 {
        return calibration;
    }
    // Rows to be found are all but the queries, by both numberings.
    let everything = 0..total;
    let all_but = |masked: RoaringBitmap| {
        let ranges = std::slice::from_ref(&everything);
        Allowed::resolve(&Rows { ranges, deleted: Some(&masked), ..Rows::default() }, total)
    };
    let stored = all_but((0..total).filter(|&at| held_out.contains(&order[at as usize])).collect()).bits(total);
    let given = all_but(held_out.iter().copied().collect());

    let queries: Vec<DenseQuery> = held_out.iter().map(|&row| DenseQuery::new(metric, rows.row(row))).collect();
    let borrowed: Vec<&DenseQuery> = queries.iter().collect();
    let (truth, _) = flat::scan(rows, metric, &borrowed, &given, LONG, keys, &|| false);
    let truth: Vec<Vec<Hit>> = truth.into_iter().map(|top| top.into_hits(false)).collect();
    let masked: RoaringBitmap = held_out.iter().copied().collect();
    let measured = Measured { cells, rows, metric, keys, order, queries: &queries, held_out: &masked, truth: &truth };
    calibration.cold = measured.measure();
    let distances = |hits: &Vec<Hit>| -> Vec<f64> { hits.iter().map(|hit| hit.distance).collect() };
    let truth: Vec<Vec<f64>> = truth.iter().map(distances).collect();
    let ladders = Ladders { cells, rows, metric, keys, order, queries: &queries };
    let [short, long] = ladders.measure(&truth, &cells.allowing(stored));
    calibration.at_10 = short;
    calibration.at_100 = long;
    for every in ONE_ROW_IN {
        // Of whatever order the input is: a multiplicative hash, not every so many rows.
        let chosen = |row: u32| u64::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < (1 << 32) / every;
        let chosen = |row: u32| chosen(row) && !held_out.contains(&row);
        let places: RoaringBitmap = (0..total).filter(|&at| chosen(order[at as usize])).collect();
        if places.len() < MEASURABLE_ROWS {
            break;
        }
        let given: RoaringBitmap = (0..total).filter(|&row| chosen(row)).collect();
        let resolve = |matches: &RoaringBitmap| {
            let ranges = std::slice::from_ref(&everything);
            Allowed::resolve(&Rows { ranges, matches: Some(matches), ..Rows::default() }, total)
        };
        let (truth, _) = flat::scan(rows, metric, &borrowed, &resolve(&given), LONG, keys, &|| false);
        let truth: Vec<Vec<f64>> = truth.into_iter().map(|top| distances(&top.into_hits(false))).collect();
        let allowing = cells.allowing(resolve(&places).bits(total));
        let [at_10, at_100] = ladders.measure(&truth, &allowing);
        calibration.shares.push(CellsShare { allowed: allowing.share as f32, at_10, at_100 });
    }
    calibration
}

/// What is measured.
struct Ladders<'a> {
    cells: &'a Cells,
    rows: &'a DenseRows,
    metric: Metric,
    keys: &'a Keys,
    order: &'a [u32],
    queries: &'a [DenseQuery],
}

impl Ladders<'_> {
    /// The ladders for few and for many neighbours. `truth`: the distances of the nearest allowed rows.
    fn measure(&self, truth: &[Vec<f64>], allowing: &Allowing) -> [Vec<CellsPoint>; 2] {
        let Self { cells, rows, metric, keys, order, queries } = *self;
        let mut steps: [Vec<CellsPoint>; 2] = [Vec::new(), Vec::new()];
        for nprobe in LADDER.into_iter().take_while(|&nprobe| nprobe as usize <= cells.count()) {
            let most = LONG_RESCORED[LONG_RESCORED.len() - 1];
            let recalls: Vec<Vec<f32>> = queries
                .par_iter()
                .zip(truth)
                .map(|(query, truth)| {
                    let probe = Probe { nprobe, rescored: most };
                    let proposed = cells.candidates_among(query, probe, allowing, &|| false).rows;
                    let proposed: Vec<u32> = proposed.into_iter().map(|(_, at)| order[at as usize]).collect();
                    let found = |k: usize, rescored: u32| {
                        let mut top = TopK::new(k, keys);
                        rows.offer_each(metric, query, &proposed[..proposed.len().min(rescored as usize)], &mut top);
                        let hits = top.into_hits(false);
                        recall(&hits.iter().map(|hit| hit.distance).collect::<Vec<f64>>(), truth, k)
                    };
                    let short = SHORT_RESCORED.map(|rescored| found(SHORT, rescored));
                    short.into_iter().chain(LONG_RESCORED.map(|rescored| found(LONG, rescored))).collect()
                })
                .collect();
            let measured = |column: usize| Recall::of(&recalls.iter().map(|all| all[column]).collect::<Vec<f32>>());
            for (column, rescored) in SHORT_RESCORED.into_iter().chain(LONG_RESCORED).enumerate() {
                let point = CellsPoint { nprobe, rescored, recall: measured(column) };
                steps[usize::from(column >= SHORT_RESCORED.len())].push(point);
            }
            let reached = |points: &[CellsPoint]| points.iter().any(|point| point.recall.floor >= ENOUGH);
            if reached(&steps[0]) && reached(&steps[1]) {
                break;
            }
        }
        let cost = |point: &CellsPoint| {
            let probe = Probe { nprobe: point.nprobe, rescored: point.rescored };
            cost::cells_ns(probe, cells.count(), order.len() as u32, rows.dimension)
        };
        steps.map(|points| worthwhile(points, cost))
    }
}

/// The steps by ascending cost, each of which finds more than all that cost less.
fn worthwhile(mut points: Vec<CellsPoint>, cost: impl Fn(&CellsPoint) -> f64) -> Vec<CellsPoint> {
    points.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    let mut best = f32::NEG_INFINITY;
    points.retain(|point| {
        let better = point.recall.floor > best;
        best = best.max(point.recall.floor);
        better
    });
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_cost_more_and_find_less_are_left_out() {
        let point = |nprobe, rescored, floor| CellsPoint { nprobe, rescored, recall: Recall { mean: floor, floor } };
        let points =
            vec![point(8, 16, 0.5), point(8, 32, 0.5), point(16, 16, 0.7), point(16, 32, 0.65), point(32, 16, 0.8)];
        let kept = worthwhile(points, |point| f64::from(point.nprobe * 100 + point.rescored));
        let kept: Vec<(u32, u32)> = kept.iter().map(|point| (point.nprobe, point.rescored)).collect();
        assert_eq!(kept, [(8, 16), (16, 16), (32, 16)]);
    }
}
