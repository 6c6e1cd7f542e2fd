//! The exact scan over dense rows.
//!
//! Rows are taken in blocks that stay in the second-level cache, and every query of a batch is scored against a block before
//! the next one is read: memory is read once, whatever the number of queries. Large scans are divided among the threads of
//! the current rayon pool.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use tarn_model::Metric;

use crate::dense::{DenseQuery, DenseRows};
use crate::keys::Keys;
use crate::rows::Allowed;
use crate::topk::TopK;

/// Bytes of rows that are scored together, a fraction of a second-level cache.
const BLOCK_BYTES: usize = 256 * 1024;
/// Rows between two calls of `stop`, at most.
const BLOCK_ROWS: usize = 4096;
/// Bytes of rows below which one thread does it all.
const PARALLEL_BYTES: usize = 4 * 1024 * 1024;
/// Rows in runs that are shorter than this, on average, are gathered one by one: the processor cannot guess what comes
/// next, so it is told.
const GATHERED_ROWS: u64 = 4;

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
    let threads = rayon::current_num_threads();
    let bytes = usize::try_from(allowed.count).unwrap_or(usize::MAX).saturating_mul(row_bytes);
    let considered = AtomicU64::new(0);
    let gathered: Vec<u32> = match allowed.is_scattered(GATHERED_ROWS) {
        true => allowed.runs.iter().flat_map(Clone::clone).collect(),
        false => Vec::new(),
    };
    let blocks = match gathered.is_empty() {
        true => blocks(&allowed.runs, block_rows),
        false => gathered.chunks(block_rows).map(Block::Rows).collect(),
    };
    let run = |blocks: &[Block<'_>]| {
        let mut tops: Vec<TopK<'k>> = queries.iter().map(|_| TopK::new(k, keys)).collect();
        let mut scratch = vec![0.0f32; block_rows];
        for block in blocks {
            if stop() {
                break;
            }
            for (query, top) in queries.iter().zip(&mut tops) {
                match block {
                    Block::Rows(list) => rows.offer_each(metric, query, list, top),
                    Block::Pieces(pieces) => {
                        for piece in pieces {
                            let scratch = &mut scratch[..(piece.end - piece.start) as usize];
                            rows.offer_rows(metric, query, piece.start, scratch, top);
                        }
                    }
                }
            }
            considered.fetch_add(block.rows(), Ordering::Relaxed);
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

/// What is scored together.
enum Block<'a> {
    /// Pieces of runs.
    Pieces(Vec<Range<u32>>),
    /// Rows that lie apart.
    Rows(&'a [u32]),
}

impl Block<'_> {
    fn rows(&self) -> u64 {
        match self {
            Block::Pieces(pieces) => pieces.iter().map(|piece| u64::from(piece.end - piece.start)).sum(),
            Block::Rows(rows) => rows.len() as u64,
        }
    }
}

/// Pieces of runs, at most `block_rows` rows together.
fn blocks<'a>(runs: &[Range<u32>], block_rows: usize) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    let (mut open, mut rows) = (Vec::new(), 0);
    for run in runs {
        let mut start = run.start;
        while start < run.end {
            let take = (block_rows - rows).min((run.end - start) as usize);
            open.push(start..start + take as u32);
            rows += take;
            start += take as u32;
            if rows == block_rows {
                blocks.push(Block::Pieces(std::mem::take(&mut open)));
                rows = 0;
            }
        }
    }
    if rows > 0 {
        blocks.push(Block::Pieces(open));
    }
    blocks
}
