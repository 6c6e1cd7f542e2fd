//! Builds a graph and measures it.
//!
//! Owns `small-builds-are-deterministic`: below [`SegmentSettings::parallel_rows`] one thread adds the rows in one order, so
//! that on one machine the same input gives the same bytes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::buffer::Buffer;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use tarn_model::{HnswParams, Metric};
use usearch::Index;

use super::{candidates, distance, options};
use crate::calibration::{Calibration, SHORT};
use crate::cost::{self, GraphCost};
use crate::dense::{DenseQuery, DenseRows};
use crate::error::SegmentError;
use crate::keys::Keys;
use crate::kind::SegmentSettings;
use crate::ladder::Ladder;
use crate::rows::Allowed;
use crate::write::ProgressFn;

/// At most one row in so many is held out.
const HELD_OUT_SHARE: usize = 8;
/// Rows between two reports of progress.
const REPORT_ROWS: usize = 1024;

/// A graph ready to be written.
pub(crate) struct Built {
    pub(crate) image: Buffer,
    pub(crate) calibration: Calibration,
}

pub(crate) fn build(
    rows: &DenseRows,
    metric: Metric,
    keys: &Keys,
    params: HnswParams,
    settings: &SegmentSettings,
    progress: ProgressFn<'_>,
) -> Result<Built, SegmentError> {
    let count = keys.len();
    let threads = if count >= settings.parallel_rows { settings.threads.max(1) } else { 1 };
    let mut index = Index::new(&options(rows.dimension as u32, metric, Some(params))).map_err(failed)?;
    distance::set(&mut index, rows.dimension, metric);
    // usearch deals its threads' random generators out in turn; with one thread there is nothing to deal.
    let reserved = if threads == 1 { 1 } else { threads.max(rayon::current_num_threads() + 1) };
    index.reserve_capacity_and_threads(count, reserved).map_err(failed)?;

    let held_out = sample(count, settings);
    let first: Vec<u32> = (0..count as u32).filter(|row| !held_out.contains(row)).collect();
    let last: Vec<u32> = held_out.iter().copied().collect();
    let done = AtomicUsize::new(0);
    let report = |added: usize| {
        let before = done.fetch_add(added, Ordering::Relaxed);
        progress((before + added) as u64, count as u64);
    };
    add(&index, rows, metric, &first, threads, &report)?;
    let calibration = calibrate(&index, rows, metric, keys, &last, params, reserved > 1)?;
    add(&index, rows, metric, &last, 1, &report)?;

    let mut image = vec![0u8; index.serialized_length()];
    index.save_to_buffer(&mut image).map_err(failed)?;
    Ok(Built { image: Buffer::from_vec(image), calibration })
}

/// The rows that calibrate, ascending. None when there are too few rows to tell anything.
fn sample(rows: usize, settings: &SegmentSettings) -> BTreeSet<u32> {
    let amount = settings.calibration_queries.min(rows / HELD_OUT_SHARE);
    if rows < amount + SHORT {
        return BTreeSet::new();
    }
    let mut rng = SmallRng::seed_from_u64(settings.seed);
    rand::seq::index::sample(&mut rng, rows, amount).into_iter().map(|row| row as u32).collect()
}

fn add(
    index: &Index,
    rows: &DenseRows,
    metric: Metric,
    order: &[u32],
    threads: usize,
    report: &(dyn Fn(usize) + Sync),
) -> Result<(), SegmentError> {
    let add_chunk = |chunk: &[u32]| {
        for &row in chunk {
            let query = DenseQuery::new(metric, rows.row(row));
            index.add(u64::from(row), &query.values).map_err(failed)?;
        }
        report(chunk.len());
        Ok(())
    };
    if threads == 1 {
        return order.chunks(REPORT_ROWS).try_for_each(add_chunk);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| SegmentError::Graph(format!("cannot start {threads} build threads: {error}")))?;
    pool.install(|| order.par_chunks(REPORT_ROWS).try_for_each(add_chunk))
}

/// Measures the graph of all rows but `held_out`, with these as queries.
fn calibrate(
    index: &Index,
    rows: &DenseRows,
    metric: Metric,
    keys: &Keys,
    held_out: &[u32],
    params: HnswParams,
    parallel: bool,
) -> Result<Calibration, SegmentError> {
    let masked: RoaringBitmap = held_out.iter().copied().collect();
    let ladder = Ladder { rows, metric, keys, held_out: &masked, queries: held_out };
    let (total, cost) = (keys.len() as u32, GraphCost::alone(params.m));
    let worthwhile = |ef: u32, allowed: &Allowed| cost::graph_is_cheaper(allowed, total, rows.dimension, cost, ef);
    ladder.measure(worthwhile, parallel, |query, ef| candidates(index, query, ef as usize, None))
}

fn failed(error: impl std::fmt::Display) -> SegmentError {
    SegmentError::Graph(error.to_string())
}
