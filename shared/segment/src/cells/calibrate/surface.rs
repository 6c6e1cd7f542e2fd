//! What each number of cells probed and rows rescored finds, all from one scan of every code per query.
//!
//! The best rows by code, of all allowed ones, are scored exactly: the nearest of them are the truth. A step finds one of
//! these when its cell is among those probed, and fewer rows than are rescored stand before it by code in these cells. Which
//! those are is known, for they are among the best of all. So a step costs a walk along the best rows, not a search.

use rayon::prelude::*;
use tarn_model::Metric;

use crate::cells::candidates::Candidates;
use crate::cells::{Allowing, Cells, MapQuery, kernels};
use crate::dense::{DenseQuery, DenseRows, PREFETCH_ROWS};
use crate::hit::Hit;
use crate::keys::Keys;
use crate::topk::TopK;

/// Rows that are scored exactly: twice the most that a step rescores, so that next to no neighbour stands behind.
const KEPT: usize = 800;
/// Queries that are scanned together: a cell's codes stay in the first-level cache, what belongs to the queries in the second.
const TOGETHER: usize = 16;

/// What is measured.
pub(in crate::cells) struct Surface<'a> {
    pub(in crate::cells) cells: &'a Cells,
    pub(in crate::cells) rows: &'a DenseRows,
    pub(in crate::cells) metric: Metric,
    pub(in crate::cells) keys: &'a Keys,
    /// The row of `rows` at each place of the cells.
    pub(in crate::cells) order: &'a [u32],
    /// Cells probed.
    pub(in crate::cells) nprobes: &'a [u32],
    /// Neighbours, and rows rescored for them; each list ascends.
    pub(in crate::cells) rescored: [(usize, &'a [u32]); 2],
}

/// What is known of a query.
pub(in crate::cells) struct Found {
    /// The nearest allowed rows, as many as the larger number of neighbours.
    pub(in crate::cells) nearest: Vec<Hit>,
    /// The share of the neighbours found: by cells probed, then by rows rescored, those of both lists one after the other.
    pub(in crate::cells) recalls: Vec<Vec<f32>>,
}

/// One of the best rows by code.
struct Kept {
    /// How many cells are nearer than its own.
    rank: u32,
    /// For each number of neighbours: whether it is one.
    near: [bool; 2],
}

impl Surface<'_> {
    /// In the order of the queries.
    pub(in crate::cells) fn measure(&self, queries: &[DenseQuery], allowing: &Allowing) -> Vec<Found> {
        let found: Vec<Vec<Found>> = queries.par_chunks(TOGETHER).map(|some| self.some(some, allowing)).collect();
        found.into_iter().flatten().collect()
    }

    fn some(&self, queries: &[DenseQuery], allowing: &Allowing) -> Vec<Found> {
        let map = self.cells.map();
        let count = map.count();
        let mut routed: Vec<(MapQuery, Vec<f32>, Vec<u32>, Candidates)> = queries
            .iter()
            .map(|query| {
                let query = map.query(query);
                let mut dots = map.dots();
                let mut best = Candidates::new(count, count);
                map.route_by(&query, &allowing.biases, &mut dots, &mut best);
                let mut ranks = vec![u32::MAX; count];
                for (rank, (_, cell)) in (0u32..).zip(best.sorted()) {
                    ranks[cell as usize] = rank;
                }
                (query, dots, ranks, Candidates::new(KEPT, self.order.len()))
            })
            .collect();
        for cell in (0..count).filter(|&cell| allowing.biases[cell] > f32::NEG_INFINITY) {
            let bytes = self.cells.bytes_of(cell);
            for (query, dots, _, best) in &mut routed {
                let rows = map.directory.cell(cell, bytes, dots[cell]);
                kernels::scan(&query.code, &rows, Some(&allowing.bits), best);
            }
        }
        let routed = routed.into_iter().zip(queries);
        routed.map(|((_, _, ranks, best), query)| self.one(query, &ranks, &best.into_sorted())).collect()
    }

    /// `best`: the best rows by code, best first. `ranks`: of the cells.
    fn one(&self, query: &DenseQuery, ranks: &[u32], best: &[(f32, u32)]) -> Found {
        let [(few, _), (many, _)] = self.rescored;
        let mut top = TopK::new(many, self.keys);
        let mut scores = vec![0.0f32; best.len()];
        for (at, (score, &(_, place))) in scores.iter_mut().zip(best).enumerate() {
            if let Some(&(_, ahead)) = best.get(at + PREFETCH_ROWS) {
                self.rows.prefetch(self.order[ahead as usize]);
            }
            self.rows.offer_rows(self.metric, query, self.order[place as usize], std::slice::from_mut(score), &mut top);
        }
        let nearest = top.into_hits(false);
        // As far as the last of the neighbours: any row as near counts as one.
        let farthest =
            |k: usize| nearest.get(k.min(nearest.len()).wrapping_sub(1)).map_or(f64::NEG_INFINITY, |hit| hit.distance);
        let (near, far) = (farthest(few), farthest(many));
        let first_rows = &self.cells.map().directory.first_rows;
        let kept: Vec<Kept> = best
            .iter()
            .zip(&scores)
            .map(|(&(_, place), &score)| Kept {
                rank: ranks[first_rows.partition_point(|&first| first <= place) - 1],
                near: [f64::from(score) <= near, f64::from(score) <= far],
            })
            .collect();
        let recalls = self.nprobes.iter().map(|&nprobe| self.step(&kept, nprobe, nearest.len())).collect();
        Found { nearest, recalls }
    }

    /// The recall by rows rescored, when so many cells are probed.
    fn step(&self, kept: &[Kept], nprobe: u32, nearest: usize) -> Vec<f32> {
        let mut found: [Vec<usize>; 2] = self.rescored.map(|(_, list)| vec![0; list.len()]);
        for (before, row) in (0u32..).zip(kept.iter().filter(|row| row.rank < nprobe)) {
            for (which, (_, list)) in self.rescored.iter().enumerate().filter(|(which, _)| row.near[*which]) {
                for (found, _) in found[which].iter_mut().zip(*list).filter(|(_, rescored)| before < **rescored) {
                    *found += 1;
                }
            }
        }
        let share = |(found, k): (&Vec<usize>, usize)| {
            let k = k.min(nearest);
            let share = move |&found: &usize| if k == 0 { 1.0 } else { found.min(k) as f32 / k as f32 };
            found.iter().map(share).collect::<Vec<f32>>()
        };
        found.iter().zip(self.rescored.map(|(k, _)| k)).flat_map(share).collect()
    }
}
