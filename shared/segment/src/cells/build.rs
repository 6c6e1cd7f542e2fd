//! Makes the cells of a segment: trains, assigns, orders, encodes, measures.
//!
//! Vectors are not copied: rows keep their places in memory, and `order` says where each goes in the file. Rows that
//! measure the recall have no part in the centroids.

use std::collections::BTreeSet;

use arrow::buffer::Buffer;
use half::f16;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rayon::prelude::*;
use tarn_model::Metric;

use super::Cells;
use super::calibrate::calibrate;
use super::encode::{decode_centroid, encode_centroid, encode_row};
use super::exact::up;
use super::layout::{Entry, FACTOR_FLOOR, centroid_bytes, parts, put_centroid, put_row, write_directory};
use super::nearest::nearest;
use super::points::Points;
use super::train::{mean, members, order, train};
use crate::calibration::CellsCalibration;
use crate::dense::DenseRows;
use crate::error::SegmentError;
use crate::keys::Keys;
use crate::kind::SegmentSettings;
use crate::write::ProgressFn;

/// A directory of more cells is dearer to fetch and to route through than larger cells are to scan.
const MAX_CELLS: usize = 8192;
/// At most one row in so many is held out.
const HELD_OUT_SHARE: usize = 8;
/// Of large segments up to so many times the calibration queries, then at most one row in so many: one scan per query
/// measures everything, and with more queries less is kept in reserve.
const MORE_QUERIES: usize = 5;
const MORE_SHARE: usize = 32;
/// Fewer rows than this beyond those held out tell nothing.
const MEASURABLE_ROWS: usize = 10;
/// How many standard deviations the best of a cell's rows lies above their mean: the expected maximum of eighty.
const BEST_OF_CELL: f64 = 2.4;

/// Cells ready to be written.
pub(crate) struct Built {
    /// The row of the input that comes first, second, …
    pub(crate) order: Vec<u32>,
    pub(crate) directory: Vec<u8>,
    pub(crate) centroids: Buffer,
    pub(crate) codes: Buffer,
    pub(crate) calibration: CellsCalibration,
    /// The rows of the input that measured it.
    pub(crate) held_out: BTreeSet<u32>,
    /// What a file of them will open as.
    pub(crate) cells: Cells,
}

pub(crate) fn build(
    rows: &DenseRows,
    metric: Metric,
    keys: &Keys,
    settings: &SegmentSettings,
    progress: ProgressFn<'_>,
) -> Result<Built, SegmentError> {
    let total = keys.len();
    let dimension = rows.dimension;
    let points = Points::new(rows, metric);
    let held_out = sample(total, settings);
    let all: Vec<u32> = (0..total as u32).collect();
    let trained: Vec<u32> = all.iter().copied().filter(|row| !held_out.contains(row)).collect();
    let count = (total / settings.rows_per_cell.max(1)).clamp(1, MAX_CELLS);

    let centroids = train(&points, &trained, count, settings.seed);
    let centroids: Vec<f32> =
        order(&centroids, dimension).iter().flat_map(|&cell| vector(&centroids, dimension, cell)).copied().collect();
    progress(total as u64 / 4, total as u64);
    let assigned = nearest(&points, &all, &centroids);
    progress(total as u64 / 2, total as u64);
    let mut members = members(&assigned, centroids.len() / dimension, &all);
    // What each cell has got is its own best description; empty ones would only cost a probe.
    let centroids: Vec<Vec<f32>> = members
        .par_iter()
        .enumerate()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(cell, rows)| {
            let trained: Vec<u32> = rows.iter().copied().filter(|row| !held_out.contains(row)).collect();
            mean(&points, &trained).unwrap_or_else(|| vector(&centroids, dimension, cell as u32).to_vec())
        })
        .collect();
    members.retain(|rows| !rows.is_empty());

    let mut centroid_codes = vec![0; centroid_bytes(members.len(), dimension)];
    let mut codes_of = vec![0; dimension];
    let mut targets = Vec::with_capacity(members.len());
    for (cell, centroid) in centroids.iter().enumerate() {
        let step = encode_centroid(centroid, &mut codes_of);
        put_centroid(&mut centroid_codes, cell, &codes_of);
        // Rows are coded relative to what the router will see, so that rounding a centroid costs them nothing.
        targets.push((step, codes_of.iter().map(|&code| decode_centroid(code, step)).collect::<Vec<f32>>()));
    }

    let sizes: Vec<usize> =
        members.iter().map(|rows| parts(rows.len() as u32, dimension, metric).size as usize).collect();
    let mut codes = vec![0u8; sizes.iter().sum()];
    let mut slices = Vec::with_capacity(sizes.len());
    let mut rest = codes.as_mut_slice();
    for size in sizes {
        let (slice, after) = std::mem::take(&mut rest).split_at_mut(size);
        slices.push(slice);
        rest = after;
    }
    let entries: Vec<Entry> = slices
        .into_par_iter()
        .zip(&members)
        .zip(&targets)
        .map(|((bytes, rows), (step, centroid))| encode_cell(&points, metric, rows, centroid, *step, bytes))
        .collect();
    progress(total as u64 * 3 / 4, total as u64);

    let order = members.concat();
    let directory = write_directory(&points.centre, &entries);
    let (centroids, codes) = (Buffer::from_vec(centroid_codes), Buffer::from_vec(codes));
    let cells = Cells::read(&directory, centroids.clone(), codes.clone(), metric, dimension as u32, total as u32)
        .map_err(|(block, found)| SegmentError::Input(format!("rows that have no cells: {}: {found}", block.name())))?;
    let calibration = calibrate(&cells, rows, metric, keys, &order, &held_out);
    Ok(Built { order, directory, centroids, codes, calibration, held_out, cells })
}

/// The rows that calibrate. None when there are too few rows to tell anything.
pub(super) fn sample(rows: usize, settings: &SegmentSettings) -> BTreeSet<u32> {
    let some = settings.calibration_queries.min(rows / HELD_OUT_SHARE);
    let amount = settings.calibration_queries.saturating_mul(MORE_QUERIES).min(rows / MORE_SHARE).max(some);
    if rows < amount + MEASURABLE_ROWS {
        return BTreeSet::new();
    }
    let mut rng = SmallRng::seed_from_u64(settings.seed);
    rand::seq::index::sample(&mut rng, rows, amount).into_iter().map(|row| row as u32).collect()
}

fn vector(vectors: &[f32], dimension: usize, number: u32) -> &[f32] {
    &vectors[number as usize * dimension..][..dimension]
}

/// Writes the bytes of a cell, which are zeros, and returns what the directory says of it.
fn encode_cell(
    points: &Points,
    metric: Metric,
    rows: &[u32],
    centroid: &[f32],
    centroid_step: f32,
    bytes: &mut [u8],
) -> Entry {
    let dimension = points.dimension();
    let parts = parts(rows.len() as u32, dimension, metric);
    let share = if metric == Metric::Cosine { share(points, rows, centroid) } else { 1.0 };
    let mut residual = vec![0.0; dimension];
    let mut all_codes = vec![0; dimension * rows.len()];
    let mut factors = Vec::with_capacity(rows.len());
    let mut spread = 0.0;
    for (at, (&row, codes)) in rows.iter().zip(all_codes.chunks_exact_mut(dimension)).enumerate() {
        points.load(row, &mut residual);
        let square = dot(&residual, &residual);
        for (x, c) in residual.iter_mut().zip(centroid) {
            *x -= share * c;
        }
        spread += dot(&residual, &residual);
        let factor = encode_row(&residual, codes);
        put_row(bytes, rows.len(), at, codes);
        factors.push((factor, square));
    }
    // Factors are stored relative to the largest: f16 then holds those of any data.
    let step = factors.iter().fold(0.0f32, |step, (factor, _)| step.max(*factor));
    let (mut loss, mut reach) = (0.0f64, 0.0f64);
    for (at, (&row, (factor, square))) in rows.iter().zip(factors).enumerate() {
        let relative = f16::from_f32(if step > 0.0 { factor / step } else { 0.0 });
        let place = parts.codes as usize + 2 * at;
        bytes[place..place + 2].copy_from_slice(&relative.to_le_bytes());
        points.load(row, &mut residual);
        let codes = &all_codes[at * dimension..][..dimension];
        // As the kernels multiply them.
        let factor = f64::from(relative.to_f32() * step);
        let (mut along, mut lost, mut length) = (0.0, 0.0, 0.0);
        for ((&x, &c), &code) in residual.iter().zip(centroid).zip(codes) {
            let code = f64::from(code) - 7.5;
            let left = f64::from(x) - f64::from(share) * f64::from(c) - code * factor;
            along += f64::from(c) * left;
            lost += left * left;
            length += code * code;
        }
        loss = loss.max(lost.sqrt() / (f64::from(relative) + FACTOR_FLOOR));
        reach = reach.max(length.sqrt());
        if metric == Metric::L2 {
            let bias = (along - 0.5 * square) as f32;
            let place = parts.biases_at as usize + 4 * at;
            bytes[place..place + 4].copy_from_slice(&bias.to_le_bytes());
        }
    }
    let bias = match metric {
        Metric::L2 => -0.5 * dot(centroid, centroid),
        Metric::InnerProduct => BEST_OF_CELL * (spread / (rows.len() * dimension) as f64).sqrt(),
        _ => 0.0,
    };
    let crc32c = crc32c::crc32c(bytes);
    let (rows, bias, loss, spread) = (rows.len() as u32, bias as f32, up(loss), up(reach));
    Entry { rows, share, step, centroid_step, bias, crc32c, loss, spread }
}

/// How much of the centroid the cell's rows have, by least squares.
fn share(points: &Points, rows: &[u32], centroid: &[f32]) -> f32 {
    let mut row_values = vec![0.0; points.dimension()];
    let mut along = 0.0;
    for &row in rows {
        points.load(row, &mut row_values);
        along += dot(&row_values, centroid);
    }
    let square = dot(centroid, centroid) * rows.len() as f64;
    if square > 0.0 { (along / square) as f32 } else { 0.0 }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    // Lanes, so that the compiler may take several at a time.
    let mut lanes = [0.0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f64::from(a) * f64::from(b);
        }
    }
    lanes.iter().sum()
}
