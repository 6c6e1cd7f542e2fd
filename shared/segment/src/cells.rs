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
//! Several queries share what is read: see `propose`.
//!
//! Owns `cells-hold-every-row`: a row is in one cell, rows are numbered cell by cell, and probing all cells with room for all
//! rows finds what the exact scan finds.

mod build;
mod calibrate;
mod candidates;
mod encode;
mod exact;
mod kernels;
mod layout;
mod nearest;
mod points;
mod propose;
mod scratch;
mod train;

use std::ops::Range;

use arrow::buffer::Buffer;
use tarn_model::Metric;

pub(crate) use build::{Built, build};
pub(crate) use candidates::Candidates;
pub(crate) use exact::Exact;
pub(crate) use kernels::{CodeQuery, prefetch, scan};
pub(crate) use layout::{Directory, Fault};
pub(crate) use points::Points;
pub(crate) use propose::Among;

use kernels::Centroids;

use crate::dense::DenseQuery;
use crate::rows::Bits;

/// Cells that are scanned before the others: their rows raise the threshold, and fewer of the others' are kept.
pub(crate) const FIRST_CELLS: usize = 6;

/// How many cells to probe, and how many rows to rescore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) nprobe: u32,
    pub(crate) rescored: u32,
}

/// Allowed rows, and the cells that hold any.
#[derive(Debug)]
pub(crate) struct Allowing {
    bits: Bits,
    /// Those of the cells; `-inf` where no row is allowed.
    biases: Vec<f32>,
    /// How many of the rows in these cells are allowed. A filter that goes with nearness leaves most rows of few cells:
    /// a search of these then finds about what one without a filter does.
    pub(crate) share: f64,
}

/// Which cells there are and where they lie among all points: what is needed to choose some.
#[derive(Debug)]
pub(crate) struct Map {
    metric: Metric,
    pub(crate) directory: Directory,
    centroids: Buffer,
}

/// A query as cells see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MapQuery {
    /// Where the rows' codes are.
    values: Vec<f32>,
    pub(crate) code: CodeQuery,
}

/// Cells over bytes that it keeps alive.
#[derive(Debug)]
pub(crate) struct Cells {
    map: Map,
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
        let map = Map::read(directory, centroids, codes.len() as u64, metric, dimension, rows)?;
        map.directory.check_codes(&codes)?;
        Ok(Self { map, codes })
    }

    /// The number of cells.
    pub(crate) fn count(&self) -> usize {
        self.map.count()
    }

    /// Which cells there are.
    pub(crate) fn map(&self) -> &Map {
        &self.map
    }

    /// How many rows they have together.
    fn rows(&self) -> usize {
        self.map.directory.first_rows.last().map_or(0, |&rows| rows as usize)
    }

    /// The bytes of one.
    pub(crate) fn bytes_of(&self, cell: usize) -> &[u8] {
        self.map.directory.bytes_of(cell, &self.codes)
    }

    /// Finds out which cells hold any of the allowed rows.
    pub(crate) fn allowing(&self, bits: Bits) -> Allowing {
        let Directory { first_rows, biases, .. } = &self.map.directory;
        let mut biases = biases.clone();
        let (mut allowed, mut all) = (0u64, 0u64);
        for ((count, rows), bias) in bits.counts(first_rows).into_iter().zip(first_rows.windows(2)).zip(&mut biases) {
            if count == 0 {
                *bias = f32::NEG_INFINITY;
            } else {
                allowed += u64::from(count);
                all += u64::from(rows[1] - rows[0]);
            }
        }
        Allowing { bits, biases, share: allowed as f64 / all.max(1) as f64 }
    }
}

impl Map {
    /// Reads two blocks of a segment's cells, after checking every bound and every number in them.
    pub(crate) fn read(
        directory: &[u8],
        centroids: Buffer,
        codes_length: u64,
        metric: Metric,
        dimension: u32,
        rows: u32,
    ) -> Result<Self, Fault> {
        let directory = Directory::read(directory, &centroids, codes_length, metric, dimension as usize, rows)?;
        Ok(Self { metric, directory, centroids })
    }

    /// The number of cells.
    pub(crate) fn count(&self) -> usize {
        self.directory.cells()
    }

    /// Bytes of memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.centroids.len() + self.count() * 48 + self.directory.centre.len() * 4
    }

    /// Prepares a query.
    pub(crate) fn query(&self, query: &DenseQuery) -> MapQuery {
        let mut out = MapQuery::default();
        self.prepare(query, &mut out);
        out
    }

    /// Prepares a query in memory that is there.
    fn prepare(&self, query: &DenseQuery, out: &mut MapQuery) {
        out.values.clear();
        match self.metric {
            Metric::L2 => {
                out.values.extend(query.values.iter().zip(&self.directory.centre).map(|(x, centre)| x - centre));
            }
            _ => out.values.extend_from_slice(&query.values),
        }
        out.code.set(&out.values);
    }

    /// Room for what [`Self::route`] finds out.
    pub(crate) fn dots(&self) -> Vec<f32> {
        vec![0.0; self.directory.biases.len()]
    }

    /// The cells to probe. `dots` gets the query's inner product with every centroid.
    pub(crate) fn route(&self, query: &MapQuery, nprobe: usize, dots: &mut [f32]) -> Candidates {
        let mut best = Candidates::new(nprobe, self.count());
        self.route_by(query, &self.directory.biases, dots, &mut best);
        best
    }

    /// As [`Self::route`], with other biases, into `best`: cells of `-inf` are never chosen.
    fn route_by(&self, query: &MapQuery, biases: &[f32], dots: &mut [f32], best: &mut Candidates) {
        let all = self.centroids(biases, 0..dots.len());
        kernels::route(&query.code, &all, self.weight(query), dots, best);
    }

    /// What the biases of cells count for a query.
    fn weight(&self, query: &MapQuery) -> f32 {
        match self.metric {
            Metric::InnerProduct => {
                query.values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt() as f32
            }
            _ => 1.0,
        }
    }

    /// Some of the centroids: whole blocks.
    fn centroids<'a>(&'a self, biases: &'a [f32], cells: Range<usize>) -> Centroids<'a> {
        let size = self.centroids.len() / biases.len().max(1);
        Centroids {
            codes: &self.centroids[cells.start * size..cells.end * size],
            scales: &self.directory.centroid_steps[cells.clone()],
            biases: &biases[cells.clone()],
            first: cells.start as u32,
        }
    }
}

#[cfg(test)]
mod tests;
