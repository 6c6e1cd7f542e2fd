//! What a search costs, roughly: whether to use a graph or cells, or to score the allowed rows one by one.
//!
//! With `n` rows, `a` of them allowed:
//! - exact: `a · bytes per row / 16 GB/s`, four times as much when the allowed rows lie scattered;
//! - graph: `ef · 2m · 50 ns · n / a`: a search looks at about `2m` neighbours for each candidate that it keeps, and keeps
//!   allowed ones only. Beside cells, which choose where it begins: `ef · links of a row · (60 + 0.4 d) ns · n / a`;
//! - cells: `cells · d · 0.024 ns` to choose some, `probed rows · d · 0.036 ns` to scan them, whether allowed or not, and
//!   `(70 + d) ns` for each row that is rescored;
//! - exact, with cells: all rows' codes and 2 % of the allowed rows, at these prices.
//!
//! Fewer than [`FEW_ROWS`] rows are always scanned. An exact plan never finds less than another, so an error of the
//! estimate costs time, not recall. Builders ask the same question: efforts at which a scan is cheaper are not
//! calibrated, nor those of a graph at which cells that promise everything are.

use crate::cells::Probe;
use crate::links::ENTRIES;
use crate::rows::Allowed;

/// Up to so many allowed rows are scanned without asking what a graph would cost.
const FEW_ROWS: u64 = 4096;
/// Bytes that a scan reads in a nanosecond.
const SCAN_BYTES_PER_NS: f64 = 16.0;
/// How much dearer scattered rows are.
const SCATTERED: f64 = 4.0;
/// Mean run length below which rows count as scattered.
const SCATTERED_RUN: u64 = 8;
/// Nanoseconds per neighbour that a graph search looks at, mostly a cache miss.
const GRAPH_NS_PER_NEIGHBOUR: f64 = 50.0;
/// Of a graph beside cells: nanoseconds per link, and per coordinate of the vector that it leads to if that is new.
const LINK_NS: f64 = 60.0;
const LINK_COORDINATE_NS: f64 = 0.4;

/// The share of the allowed rows that codes leave to an exact search, and how many of them there are for each hit at least.
const LEFT_BY_CODES: f64 = 0.02;
const LEAST_ROWS_PER_HIT: u64 = 32;

/// Nanoseconds per coordinate of a centroid, which is in a cache, and of a row in a cell that is probed, which comes from
/// memory: half a byte at 14 GB/s.
const ROUTE_NS: f64 = 0.024;
const CELL_ROW_NS: f64 = 0.036;
/// Nanoseconds per row that is rescored, and per coordinate of it: mostly cache misses.
const RESCORE_ROW_NS: f64 = 70.0;
const RESCORE_NS: f64 = 1.0;

/// What a search along a graph costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GraphCost {
    /// Nanoseconds before it begins.
    start_ns: f64,
    /// And for each candidate that it keeps, when all rows are allowed.
    candidate_ns: f64,
}

impl GraphCost {
    /// Of a graph with `m` links a node.
    pub(crate) fn alone(m: u32) -> Self {
        Self { start_ns: 0.0, candidate_ns: 2.0 * f64::from(m) * GRAPH_NS_PER_NEIGHBOUR }
    }

    /// Of a graph with so many links a row, on average, beside cells.
    pub(crate) fn beside_cells(links: f64, cells: usize, total: u32, dimension: usize) -> Self {
        let candidate_ns = links * (LINK_NS + LINK_COORDINATE_NS * dimension as f64);
        Self { start_ns: cells_ns(ENTRIES, cells, total, dimension), candidate_ns }
    }

    /// Nanoseconds of a search of `total` rows.
    pub(crate) fn of(self, ef: u32, allowed: &Allowed, total: u32) -> f64 {
        self.start_ns + f64::from(ef) * self.candidate_ns * f64::from(total) / allowed.count.max(1) as f64
    }
}

/// Whether a graph of `total` rows answers in less time than a scan of the allowed rows.
pub(crate) fn graph_is_cheaper(allowed: &Allowed, total: u32, dimension: usize, graph: GraphCost, ef: u32) -> bool {
    if allowed.count <= FEW_ROWS || u64::from(ef) >= allowed.count {
        return false;
    }
    graph.of(ef, allowed, total) < exact_ns(allowed, dimension)
}

/// Whether probing some of `cells` over `total` rows answers in less time than a scan of the allowed rows.
pub(crate) fn cells_are_cheaper(allowed: &Allowed, total: u32, dimension: usize, cells: usize, probe: Probe) -> bool {
    if allowed.count <= FEW_ROWS || u64::from(probe.rescored) >= allowed.count {
        return false;
    }
    cells_ns(probe, cells, total, dimension) < exact_ns(allowed, dimension)
}

/// Whether an exact search reads less when codes tell which rows it need not score.
pub(crate) fn codes_are_cheaper(allowed: &Allowed, total: u32, dimension: usize, k: usize) -> bool {
    if allowed.count <= FEW_ROWS || (k as u64).saturating_mul(LEAST_ROWS_PER_HIT) > allowed.count {
        return false;
    }
    let rescored = (allowed.count as f64 * LEFT_BY_CODES) as u32;
    cells_ns(Probe { nprobe: 1, rescored }, 1, total, dimension) < exact_ns(allowed, dimension)
}

/// Whether there are rows enough to ask what cells would cost.
pub(crate) fn may_be_cells(allowed: &Allowed) -> bool {
    allowed.count > FEW_ROWS
}

/// Nanoseconds of a search of cells.
pub(crate) fn cells_ns(probe: Probe, cells: usize, total: u32, dimension: usize) -> f64 {
    let (cells, dimension) = (cells.max(1) as f64, dimension as f64);
    let probed = f64::from(probe.nprobe).min(cells) * f64::from(total) / cells;
    let rescored = f64::from(probe.rescored) * (RESCORE_ROW_NS + RESCORE_NS * dimension);
    cells * dimension * ROUTE_NS + probed * dimension * CELL_ROW_NS + rescored
}

fn exact_ns(allowed: &Allowed, dimension: usize) -> f64 {
    let scattered = allowed.is_scattered(SCATTERED_RUN);
    let bytes = (dimension * size_of::<f32>()) as f64;
    allowed.count as f64 * bytes / SCAN_BYTES_PER_NS * if scattered { SCATTERED } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_and_cells_are_for_many_rows_of_which_most_are_allowed() {
        let total = 300_000;
        let allowed = |share: u32, run: u32| {
            let step = run * share;
            let runs: Vec<_> = (0..total / step).map(|i| i * step..i * step + run).collect();
            Allowed::from_runs(runs)
        };
        let graph = |share, run, ef| graph_is_cheaper(&allowed(share, run), total, 128, GraphCost::alone(16), ef);
        assert!(graph(1, 1000, 64) && graph(1, 1000, 512) && graph(2, 100, 64) && graph(2, 1, 256));
        assert!(!graph(10, 1, 512) && !graph(100, 1, 64) && !graph(100, 100, 16));
        let few = Allowed::from_runs(std::iter::once(0..4096).collect());
        assert!(!graph_is_cheaper(&few, total, 16_384, GraphCost::alone(2), 16));
        let cells = |share, run, nprobe| {
            cells_are_cheaper(&allowed(share, run), total, 128, 4096, Probe { nprobe, rescored: 24 })
        };
        assert!(cells(1, 1000, 128) && cells(1, 1000, 4096) && cells(2, 1, 512) && cells(10, 1, 256));
        assert!(!cells(50, 100, 4096));
        let codes = |share, run, k| codes_are_cheaper(&allowed(share, run), total, 128, k);
        assert!(codes(1, 1000, 10) && codes(1, 1000, 1000) && codes(10, 1, 10));
        assert!(!codes(1, 1000, 10_000) && !codes(50, 100, 10) && !codes_are_cheaper(&few, total, 128, 1));
        assert!(!cells_are_cheaper(&few, total, 16_384, 4096, Probe { nprobe: 1, rescored: 10 }));
    }
}
