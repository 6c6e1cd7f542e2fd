//! Measures cells: recall by cells probed and rows rescored.
//!
//! Every step of the ladders is measured on the same queries, from one scan of all codes for each: see `surface`. Steps that
//! cost more than another and find less are left out. What this costs grows with the rows, as the rest of a build does: it is
//! about a tenth of one.

mod cold;
mod surface;

use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use tarn_model::Metric;

use cold::Measured;
use surface::Found;
pub(super) use surface::Surface;

use super::{Allowing, Cells};
use crate::calibration::{CellsCalibration, CellsPoint, CellsShare, ENOUGH, LONG, Recall, SHORT};
use crate::cost;
use crate::dense::{DenseQuery, DenseRows};
use crate::hit::Hit;
use crate::keys::Keys;
use crate::rows::{Allowed, Rows};

/// Cells probed. A step is at most a quarter above the one before, where recalls are asked for: a promise is then little
/// exceeded.
const LADDER: [u32; 30] = [
    4, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768,
    1024, 1280, 1536, 2048,
];
/// Numbers of rows rescored, for few neighbours and for many.
const SHORT_RESCORED: [u32; 6] = [16, 24, 32, 48, 64, 96];
const LONG_RESCORED: [u32; 5] = [120, 150, 200, 300, 400];
/// Queries that measure readers of ranges, about: their plans are made one by one.
const COLD_QUERIES: usize = 500;
/// Filters: one row in so many is allowed, at random; those that leave fewer rows are not measured.
const ONE_ROW_IN: [u64; 2] = [10, 100];
const MEASURABLE_ROWS: u64 = 2000;

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
    // Rows to be found are all but the queries.
    let everything = 0..total;
    let bits = |chosen: &dyn Fn(u32) -> bool| {
        let ranges = std::slice::from_ref(&everything);
        let places: RoaringBitmap = (0..total).filter(|&at| chosen(order[at as usize])).collect();
        let allowed = Allowed::resolve(&Rows { ranges, matches: Some(&places), ..Rows::default() }, total);
        (allowed.count, allowed.bits(total))
    };
    let queries: Vec<DenseQuery> = held_out.iter().map(|&row| DenseQuery::new(metric, rows.row(row))).collect();
    let nprobes: Vec<u32> = LADDER.into_iter().take_while(|&nprobe| nprobe as usize <= cells.count()).collect();
    let rescored = [(SHORT, &SHORT_RESCORED[..]), (LONG, &LONG_RESCORED[..])];
    let surface = Surface { cells, rows, metric, keys, order, nprobes: &nprobes, rescored };
    let ladders = |found: &[Found]| {
        let cost = |point: &CellsPoint| cost::cells_ns(point.probe(), cells.count(), total, rows.dimension);
        steps(found, &nprobes).map(|points| worthwhile(points, cost))
    };

    let found = surface.measure(&queries, &cells.allowing(bits(&|row| !held_out.contains(&row)).1));
    [calibration.at_10, calibration.at_100] = ladders(&found);
    let masked: RoaringBitmap = held_out.iter().copied().collect();
    // Not the first ones: rows may come in an order that means something.
    let every = queries.len().div_ceil(COLD_QUERIES);
    let some: Vec<DenseQuery> = queries.iter().step_by(every).cloned().collect();
    let truth: Vec<Vec<Hit>> = found.into_iter().step_by(every).map(|found| found.nearest).collect();
    let measured = Measured { cells, rows, metric, keys, order, queries: &some, held_out: &masked, truth: &truth };
    calibration.cold = measured.measure();
    for every in ONE_ROW_IN {
        // Of whatever order the input is: a multiplicative hash, not every so many rows.
        let chosen = |row: u32| u64::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < (1 << 32) / every;
        let (count, places) = bits(&|row| chosen(row) && !held_out.contains(&row));
        if count < MEASURABLE_ROWS {
            break;
        }
        let allowing: Allowing = cells.allowing(places);
        let [at_10, at_100] = ladders(&surface.measure(&queries, &allowing));
        calibration.shares.push(CellsShare { allowed: allowing.share as f32, at_10, at_100 });
    }
    calibration
}

/// All steps for few and for many neighbours, up to one that leaves nothing to be wished for.
fn steps(found: &[Found], nprobes: &[u32]) -> [Vec<CellsPoint>; 2] {
    let mut steps: [Vec<CellsPoint>; 2] = [Vec::new(), Vec::new()];
    for (at, &nprobe) in nprobes.iter().enumerate() {
        for (column, rescored) in SHORT_RESCORED.into_iter().chain(LONG_RESCORED).enumerate() {
            let recalls: Vec<f32> = found.iter().map(|found| found.recalls[at][column]).collect();
            let point = CellsPoint { nprobe, rescored, recall: Recall::of(&recalls) };
            steps[usize::from(column >= SHORT_RESCORED.len())].push(point);
        }
        if steps.iter().all(|points| points.iter().any(|point| point.recall.floor >= ENOUGH)) {
            break;
        }
    }
    steps
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
