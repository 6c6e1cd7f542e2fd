//! Cells: rows clustered by nearness, in 4-bit codes. A search looks into the few cells nearest to the query.
//!
//! 1. *Route*: the query in bytes against every centroid in 7 bits; the best `nprobe` cells are probed.
//! 2. *Scan*: the same bytes against the codes of these cells' rows, sixteen at a time, masked; the best `rescored` rows stay.
//! 3. *Rescore*: these few against the f32 originals, by the kernels of the exact scan. That is the caller's.
//!
//! With `c` a centroid as its codes give it, `r = x − share · c` and `r̂` the code of `r`, a row's score is higher when nearer:
//! - cosine, of unit vectors: `share · ⟨q, c⟩ + ⟨q, r̂⟩`.
//! - inner product, of rows less their common centre: `⟨q, c⟩ + ⟨q, r̂⟩`. What the centre adds is the same for all. Cells are
//!   chosen by `⟨q, c⟩` plus how far above it the best of the cell's rows may come, `|q| · bias`: the nearest row under this
//!   metric may be a long one far from its centroid.
//! - L2, both less the centre: `⟨q, c⟩ + ⟨q, r̂⟩ − |x|² / 2 + ⟨c, r − r̂⟩`. The last two are the row's bias; what error is
//!   left counts against `q − c` only.
//!
//! Owns `cells-hold-every-row`: a row is in one cell, rows are numbered cell by cell, and probing all cells with room for all
//! rows finds what the exact scan finds.

mod build;
mod calibrate;
mod candidates;
mod encode;
mod kernels;
mod layout;
mod nearest;
mod points;
mod train;

use arrow::buffer::Buffer;
use tarn_model::Metric;

pub(crate) use build::build;
pub(crate) use layout::Fault;

use candidates::Candidates;
use kernels::{Centroids, CodeQuery};
use layout::Directory;

use crate::dense::DenseQuery;
use crate::rows::Bits;

/// Cells that are scanned before the others: their rows raise the threshold, and fewer of the others' are kept.
const FIRST_CELLS: usize = 6;
/// Cells between two calls of `stop`, a few thousand rows.
const STOP_CELLS: usize = 64;

/// How many cells to probe, and how many rows to rescore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) nprobe: u32,
    pub(crate) rescored: u32,
}

/// What a search proposes.
#[derive(Debug)]
pub(crate) struct Proposed {
    /// The best by approximate score, best first, at most as many as were asked for.
    pub(crate) rows: Vec<(f32, u32)>,
    /// Rows in the cells that were scanned, when `stop` ended the search; `None` when it did not.
    pub(crate) stopped_after: Option<u64>,
}

/// Cells over bytes that it keeps alive.
#[derive(Debug)]
pub(crate) struct Cells {
    metric: Metric,
    directory: Directory,
    centroids: Buffer,
    codes: Buffer,
}

impl Cells {
    /// Opens the three blocks of a segment's cells, after checking every bound and every number in them.
    pub(crate) fn read(
        directory: &[u8],
        centroids: Buffer,
        codes: Buffer,
        metric: Metric,
        dimension: u32,
        rows: u32,
    ) -> Result<Self, Fault> {
        let directory = Directory::read(directory, &centroids, &codes, metric, dimension as usize, rows)?;
        Ok(Self { metric, directory, centroids, codes })
    }

    /// The number of cells.
    pub(crate) fn count(&self) -> usize {
        self.directory.cells()
    }

    /// Rows near the query. With `allowed`, others are passed over.
    pub(crate) fn candidates(
        &self,
        query: &DenseQuery,
        probe: Probe,
        allowed: Option<&Bits>,
        stop: &dyn Fn() -> bool,
    ) -> Proposed {
        let values = self.coordinates(query);
        let code = CodeQuery::new(&values);
        let mut dots = vec![0.0; self.directory.biases.len()];
        let cells = self.route(&code, &values, probe.nprobe as usize, &mut dots);
        let total = self.directory.first_rows.last().map_or(0, |&rows| rows as usize);
        let mut best = Candidates::new(probe.rescored as usize, total);
        let cell = |at: usize| {
            let (_, cell) = cells.get(at)?;
            Some(self.directory.cell(*cell as usize, &self.codes, dots[*cell as usize]))
        };
        let mut scanned = 0;
        let mut ahead = cell(0);
        let mut stopped_after = None;
        let mut at = 0;
        while let Some(rows) = ahead {
            if at % STOP_CELLS == 0 && stop() {
                stopped_after = Some(scanned);
                break;
            }
            at += 1;
            ahead = cell(at);
            if let Some(ahead) = &ahead {
                kernels::prefetch(ahead);
            }
            kernels::scan(&code, &rows, allowed, &mut best);
            scanned += rows.rows as u64;
        }
        Proposed { rows: best.into_sorted(), stopped_after }
    }

    /// The query where the rows' codes are.
    fn coordinates(&self, query: &DenseQuery) -> Vec<f32> {
        match self.metric {
            Metric::L2 => query.values.iter().zip(&self.directory.centre).map(|(x, centre)| x - centre).collect(),
            _ => query.values.clone(),
        }
    }

    /// The cells to probe, the best few of them first.
    fn route(&self, code: &CodeQuery, values: &[f32], nprobe: usize, dots: &mut [f32]) -> Vec<(f32, u32)> {
        let weight = match self.metric {
            Metric::InnerProduct => values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt() as f32,
            _ => 1.0,
        };
        let Directory { centroid_steps, biases, .. } = &self.directory;
        let centroids = Centroids { codes: &self.centroids, scales: centroid_steps, biases };
        let mut best = Candidates::new(nprobe, self.count());
        kernels::route(code, &centroids, weight, dots, &mut best);
        best.into_best_first(FIRST_CELLS)
    }
}

#[cfg(test)]
mod tests;
