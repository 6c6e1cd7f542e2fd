//! The exact scan over dense rows.
//!
//! Rows are taken in blocks that stay in the second-level cache, and every query of a batch is scored against a block before
//! the next one is read: memory is read once, whatever the number of queries. Large scans are divided among the threads of
//! the current rayon pool.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use tarn_model::Metric;

use crate::dense::{DenseQuery, DenseRows, PREFETCH_ROWS};
use crate::kernels;
use crate::keys::Keys;
use crate::rows::Allowed;
use crate::topk::TopK;

/// Bytes of rows that are scored together, a fraction of a second-level cache.
const BLOCK_BYTES: usize = 256 * 1024;
/// Rows between two calls of `stop`, at most.
const BLOCK_ROWS: usize = 4096;
/// Bytes of rows below which one thread does it all.
const PARALLEL_BYTES: usize = 4 * 1024 * 1024;
/// Runs shorter than this are gathered: the processor cannot guess what comes next, so it is told.
const GATHERED_ROWS: u32 = 4;

/// Scans the allowed rows. Returns the best of each query and the number of rows considered.
pub(crate) fn scan<'k>(
    rows: &DenseRows,
    metric: Metric,
    queries: &[&DenseQuery],
    allowed: &Allowed,
    k: usize,
    keys: &'k Keys,
    stop: &(dyn Fn() -> bool + Sync),
) -> (Vec<TopK<'k>>, u64) {
    let row_bytes = rows.stride * size_of::<f32>();
    let block_rows = (BLOCK_BYTES / row_bytes).clamp(1, BLOCK_ROWS);
    let blocks = blocks(&allowed.runs, block_rows);
    let threads = rayon::current_num_threads();
    let bytes = usize::try_from(allowed.count).unwrap_or(usize::MAX).saturating_mul(row_bytes);
    let considered = AtomicU64::new(0);
    let run = |blocks: &[Block]| {
        let mut tops: Vec<TopK<'k>> = queries.iter().map(|_| TopK::new(k, keys)).collect();
        let mut scratch = vec![0.0f32; block_rows];
        for block in blocks {
            if stop() {
                break;
            }
            for (query, top) in queries.iter().zip(&mut tops) {
                scan_block(rows, metric, query, &block.pieces, &mut scratch, top);
            }
            considered.fetch_add(block.rows as u64, Ordering::Relaxed);
        }
        tops
    };
    let tops = if bytes < PARALLEL_BYTES || threads < 2 {
        run(&blocks)
    } else {
        let share = blocks.len().div_ceil(threads * 4).max(1);
        blocks.par_chunks(share).map(run).reduce_with(merge).unwrap_or_default()
    };
    (tops, considered.into_inner())
}

fn merge<'k>(mut left: Vec<TopK<'k>>, right: Vec<TopK<'k>>) -> Vec<TopK<'k>> {
    for (left, right) in left.iter_mut().zip(right) {
        left.merge(right);
    }
    left
}

/// Pieces of runs, at most `block_rows` rows together.
struct Block {
    pieces: Vec<Range<u32>>,
    rows: usize,
}

fn blocks(runs: &[Range<u32>], block_rows: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open = Block { pieces: Vec::new(), rows: 0 };
    for run in runs {
        let mut start = run.start;
        while start < run.end {
            let take = (block_rows - open.rows).min((run.end - start) as usize);
            open.pieces.push(start..start + take as u32);
            open.rows += take;
            start += take as u32;
            if open.rows == block_rows {
                blocks.push(std::mem::replace(&mut open, Block { pieces: Vec::new(), rows: 0 }));
            }
        }
    }
    if open.rows > 0 {
        blocks.push(open);
    }
    blocks
}

fn scan_block(
    rows: &DenseRows,
    metric: Metric,
    query: &DenseQuery,
    pieces: &[Range<u32>],
    scratch: &mut [f32],
    top: &mut TopK<'_>,
) {
    for (i, piece) in pieces.iter().enumerate() {
        let length = piece.end - piece.start;
        if length < GATHERED_ROWS
            && let Some(ahead) = pieces.get(i + PREFETCH_ROWS)
        {
            kernels::prefetch(rows.row(ahead.start));
        }
        rows.offer_rows(metric, query, piece.start, &mut scratch[..length as usize], top);
    }
}
