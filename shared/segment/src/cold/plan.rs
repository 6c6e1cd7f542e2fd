//! Which cells to read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tarn_model::Corrupt;

use super::answer::{Found, RowPlan};
use super::calibration::{CELL_RANGES, ColdCalibration, ROW_RANGES, measured_row_bytes};
use super::choose::{Ranked, RowChoice, RunCount, add_worth, choose_cells, scan_cells};
use super::fetched::FetchedCells;
use super::outline::Outline;
use super::runs::{covering_runs, joined};
use crate::cells::{FIRST_CELLS, MapQuery};
use crate::dense::DenseQuery;
use crate::error::SegmentError;
use crate::format::BlockKind;
use crate::hit::Effort;
use crate::query::{Body, Query};
use crate::rows::{Allowed, Bits, Rows};

/// How much one query may read. A plan for several queries has as many times that together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdBudget {
    /// Ranges of cells, at least 1.
    pub cell_ranges_max: usize,
    /// Ranges of rows, at least 1. Records that did not fit take at most as many again.
    pub row_ranges_max: usize,
    /// Bytes of cells and rows together. A query that would exceed it reads what is worth most, and may find less than
    /// was measured: [`CellPlan::capped`], [`RowPlan::capped`]. Rows without which there would be fewer than `k` hits are
    /// read beyond it, up to as many bytes again; if they take more, none is, and the answer is short.
    pub bytes_max: u64,
}

impl Default for ColdBudget {
    /// The ranges that recall is measured with at build, and 16 MiB.
    fn default() -> Self {
        Self { cell_ranges_max: CELL_RANGES, row_ranges_max: ROW_RANGES, bytes_max: 16 << 20 }
    }
}

impl ColdBudget {
    /// For searches with a filter, whose neighbours lie in more cells: with more ranges a plan reads fewer bytes between
    /// them.
    pub fn filtered() -> Self {
        Self { cell_ranges_max: 13, row_ranges_max: ROW_RANGES, bytes_max: 32 << 20 }
    }
}

/// Rows are read with what cells leave of the bytes, which is at least this part of all.
const BYTES_FOR_ROWS: u64 = 8;
/// How much dearer a byte becomes when a plan would read too many: of cells, and of rows.
const DEARER: f64 = 1.3;
const ROWS_DEARER: f64 = 2.0;
/// Where that begins at the latest: the least numbers that there are would not grow.
const DEARER_FROM: f64 = 1e-15;
/// A cell at hand is scanned when it is worth so much less than what must be paid to read one.
const AT_HAND: f64 = 1.0 / 4.0;

/// The cells that some queries look into. Made by [`Outline::plan_cells`][super::Outline::plan_cells].
#[derive(Debug)]
pub struct CellPlan {
    outline: Arc<Outline>,
    k: usize,
    budget: ColdBudget,
    allowed: u64,
    bits: Option<Bits>,
    lambda: f64,
    /// Every candidate is wanted: the effort says how many.
    all: bool,
    wanted: usize,
    queries: Vec<Planned>,
    /// Cells to read, and where they are.
    runs: Vec<Range<usize>>,
    ranges: Vec<Range<u64>>,
    /// Cells that were read before.
    held: HashMap<u32, Bytes>,
    capped: bool,
}

/// One query with the cells to scan for it.
#[derive(Debug)]
struct Planned {
    dense: DenseQuery,
    map: MapQuery,
    dots: Vec<f32>,
    cells: Vec<u32>,
}

pub(super) fn plan_cells(
    outline: &Arc<Outline>,
    queries: &[Query],
    k: usize,
    effort: Effort,
    rows: &Rows<'_>,
    budget: &ColdBudget,
    fetched: &FetchedCells,
) -> Result<Option<CellPlan>, SegmentError> {
    let mut dense = Vec::with_capacity(queries.len());
    for query in queries {
        query.check(outline.meta.metric, outline.meta.dimension)?;
        if let Body::Dense(query) = &query.body {
            dense.push(query.clone());
        }
    }
    let allowed = Allowed::resolve(rows, outline.meta.rows);
    let mut plan = CellPlan {
        outline: Arc::clone(outline),
        k,
        budget: ColdBudget {
            cell_ranges_max: budget.cell_ranges_max.saturating_mul(dense.len()),
            row_ranges_max: budget.row_ranges_max.saturating_mul(dense.len()),
            bytes_max: budget.bytes_max.saturating_mul(dense.len() as u64),
        },
        allowed: allowed.count,
        bits: None,
        lambda: 0.0,
        all: false,
        wanted: 0,
        queries: Vec::with_capacity(dense.len()),
        runs: Vec::new(),
        ranges: Vec::new(),
        held: HashMap::new(),
        capped: false,
    };
    let nothing = k == 0 || allowed.count == 0;
    for dense in dense {
        let map = outline.map.query(&dense);
        plan.queries.push(Planned { dense, map, dots: Vec::new(), cells: Vec::new() });
    }
    if nothing || plan.queries.is_empty() {
        return Ok(Some(plan));
    }
    if allowed.count < u64::from(outline.meta.rows) {
        plan.bits = Some(allowed.bits(outline.meta.rows));
    }
    let share = allowed.count as f64 / f64::from(outline.meta.rows);
    let possible = match effort {
        _ if budget.cell_ranges_max == 0 || budget.row_ranges_max == 0 => false,
        Effort::Exact => false,
        Effort::Recall(recall) => {
            let measured = outline.cold_calibration(k);
            match measured.and_then(|measured| Some((measured, measured.lambda(recall, share)?))) {
                Some((measured, lambda)) => plan.by_worth(measured, lambda, fetched),
                None => false,
            }
        }
        // As the search of a segment at hand does.
        Effort::Ef(ef) => plan.by_number((ef, Effort::rescored(ef)), share, rows.matches.is_some(), fetched),
        Effort::Cells { nprobe, rescored } | Effort::Each { nprobe, rescored, .. } => {
            plan.by_number((nprobe, rescored), share, rows.matches.is_some(), fetched)
        }
    };
    Ok(possible.then_some(plan))
}

impl CellPlan {
    /// The cells that are worth their bytes, to all queries together. Whatever is at hand costs nothing and is scanned, too.
    /// False when they are to be read in so few ranges that these have more bytes than may be read.
    fn by_worth(&mut self, measured: &ColdCalibration, lambda: f64, fetched: &FetchedCells) -> bool {
        let outline = Arc::clone(&self.outline);
        let (map, directory) = (&outline.map, &outline.map.directory);
        let by_cell = self.outline.map.directory.allowed_rows(self.bits.as_ref());
        let values = measured.values(self.allowed as f64 / f64::from(outline.meta.rows));
        let mut worth = vec![0.0; map.count()];
        let mut ranked = Vec::with_capacity(self.queries.len());
        for query in &self.queries {
            let of_query = Ranked::new(map, &query.map);
            add_worth(values, &of_query, &by_cell, &mut worth);
            ranked.push(of_query);
        }
        self.held = fetched.get_all(|cell| {
            let Some(worth) = worth.get(cell as usize) else { return false };
            let range = directory.range(cell as usize);
            *worth > AT_HAND * lambda * (range.end - range.start) as f64
        });
        let held = &self.held;
        let is_held = |cell: usize| held.contains_key(&(cell as u32));
        let bytes_max = self.budget.bytes_max - self.budget.bytes_max / BYTES_FOR_ROWS;
        let count = RunCount { measured: CELL_RANGES * self.queries.len(), most: self.budget.cell_ranges_max };
        let mut cell_lambda = lambda;
        let runs = loop {
            let runs = choose_cells(directory, &worth, &is_held, cell_lambda, count);
            let bytes: u64 =
                runs.iter().map(|run| directory.range(run.end - 1).end - directory.range(run.start).start).sum();
            if bytes <= bytes_max {
                break runs;
            }
            if count.most < count.measured {
                return false;
            }
            self.capped = true;
            cell_lambda = (cell_lambda * DEARER).max(DEARER_FROM);
        };
        self.lambda = lambda;
        self.wanted = measured.candidates.len().max(self.k);
        for (query, ranked) in self.queries.iter_mut().zip(ranked) {
            let read = |cell: u32| {
                runs.get(runs.partition_point(|run| run.end <= cell as usize))
                    .is_some_and(|run| run.start <= cell as usize)
            };
            let scanned = |cell: &u32| by_cell[*cell as usize] > 0 && (read(*cell) || held.contains_key(cell));
            query.cells = ranked.cells.iter().map(|(_, cell)| *cell).filter(scanned).collect();
            query.dots = ranked.dots;
        }
        self.read(runs);
        true
    }

    /// So many of the cells nearest to each query, whatever they cost; and those between them that must be read anyway.
    /// With a filter, cells without a row that matches do not count. False when that is more than may be read.
    fn by_number(
        &mut self,
        (nprobe, rescored): (u32, u32),
        share: f64,
        filtered: bool,
        fetched: &FetchedCells,
    ) -> bool {
        let outline = Arc::clone(&self.outline);
        let (map, directory) = (&outline.map, &outline.map.directory);
        let mut missing = Vec::new();
        let by_cell = filtered.then(|| self.outline.map.directory.allowed_rows(self.bits.as_ref()));
        for query in &mut self.queries {
            let cells = if let Some(by_cell) = &by_cell {
                let ranked = Ranked::new(map, &query.map);
                query.dots = ranked.dots;
                let some = ranked.cells.into_iter().filter(|&(_, cell)| by_cell[cell as usize] > 0);
                some.take(nprobe as usize).collect()
            } else {
                query.dots = map.dots();
                map.route(&query.map, nprobe as usize, &mut query.dots).into_best_first(FIRST_CELLS)
            };
            query.cells = cells.into_iter().map(|(_, cell)| cell).collect();
            missing.extend_from_slice(&query.cells);
        }
        missing.sort_unstable();
        missing.dedup();
        self.held = fetched.get_all(|cell| missing.binary_search(&cell).is_ok());
        missing.retain(|cell| !self.held.contains_key(cell));
        let start = |cell: u32| directory.range(cell as usize).start;
        let end = |cell: u32| directory.range(cell as usize).end;
        let runs = covering_runs(&missing, self.budget.cell_ranges_max, |a, b| start(b) - end(a));
        let runs: Vec<Range<usize>> =
            runs.into_iter().map(|run| missing[run.start] as usize..missing[run.end - 1] as usize + 1).collect();
        for query in &mut self.queries {
            let mut known: Vec<u32> = query.cells.clone();
            known.sort_unstable();
            let read = runs.iter().flat_map(|run| run.start as u32..run.end as u32);
            query.cells.extend(read.filter(|cell| known.binary_search(cell).is_err()));
        }
        self.all = true;
        self.wanted = self.k.max(rescored as usize);
        self.lambda = outline.cold_calibration(self.k).map_or(0.0, |measured| measured.least_lambda(share));
        self.read(runs);
        self.bytes() <= self.budget.bytes_max && self.ranges.len() <= self.budget.cell_ranges_max
    }

    fn read(&mut self, runs: Vec<Range<usize>>) {
        let (directory, codes) = (&self.outline.map.directory, self.outline.codes.start);
        let range =
            |run: &Range<usize>| codes + directory.range(run.start).start..codes + directory.range(run.end - 1).end;
        self.ranges = runs.iter().map(range).collect();
        self.runs = runs;
    }

    /// What to read of the file: disjoint, ascending, not empty; at most the budget's.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Bytes of all ranges.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Cells that will be scanned, those fetched earlier included; summed over queries.
    pub fn cells(&self) -> usize {
        self.queries.iter().map(|query| query.cells.len()).sum()
    }

    /// Whether the byte budget has left out cells that the effort asked for: recall may be lower than was measured.
    pub fn capped(&self) -> bool {
        self.capped
    }

    /// Scans the cells and chooses the rows to read. `bytes`: those of [`Self::ranges`], in that order. What is verified
    /// goes into `fetched`.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not the cells'.
    pub fn scan(self, bytes: &[Bytes], fetched: &FetchedCells) -> Result<RowPlan, Corrupt> {
        let outline = &self.outline;
        let directory = &outline.map.directory;
        outline.check_lengths(BlockKind::CellCodes, &self.ranges, bytes)?;
        let mut at_hand: HashMap<u32, &[u8]> = self.held.iter().map(|(&cell, bytes)| (cell, bytes.as_ref())).collect();
        let mut read = Vec::new();
        for (run, bytes) in self.runs.iter().zip(bytes) {
            let start = directory.range(run.start).start;
            for cell in run.clone() {
                let range = directory.range(cell);
                let bytes = &bytes[(range.start - start) as usize..(range.end - start) as usize];
                directory
                    .check_cell(cell, bytes)
                    .map_err(|(kind, found)| outline.corrupt(kind, "the cell of the directory".to_owned(), found))?;
                at_hand.insert(cell as u32, bytes);
                read.push((cell as u32, bytes));
            }
        }
        fetched.keep(read.into_iter());

        let mut queries = Vec::with_capacity(self.queries.len());
        for query in self.queries {
            let cells = query.cells.iter().filter_map(|&cell| Some((cell, *at_hand.get(&cell)?)));
            let candidates = scan_cells(directory, &query.map, &query.dots, cells, self.bits.as_ref(), self.wanted);
            queries.push(Found { query: query.dense, candidates, cells: query.cells.len() as u32 });
        }
        let chances = outline.cold_calibration(self.k).map_or(&[][..], |measured| &measured.candidates);
        let cell_bytes: u64 = self.ranges.iter().map(|range| range.end - range.start).sum();
        let ranges_max = self.budget.row_ranges_max;
        let choice = RowChoice {
            chances,
            k: self.k,
            lambda: self.lambda,
            row_bytes: measured_row_bytes(outline.slots.dimension),
            most: if self.all { ranges_max } else { ROW_RANGES * queries.len() },
            all: self.all,
        };
        let room = RowRoom {
            ranges_max,
            slot_bytes: outline.slots.bytes as u64,
            bytes: self.budget.bytes_max.saturating_sub(cell_bytes),
            bytes_max: self.budget.bytes_max,
        };
        let (runs, capped) = choose_rows(choice, &queries, room);
        let capped = capped || self.capped;
        Ok(RowPlan::new(Arc::clone(outline), self.k, self.allowed, ranges_max, queries, runs, capped))
    }
}

/// What rows may take.
#[derive(Clone, Copy)]
struct RowRoom {
    ranges_max: usize,
    slot_bytes: u64,
    /// What the cells have left.
    bytes: u64,
    /// What rows may take that there must be.
    bytes_max: u64,
}

/// Fewer rows as long as they are too many bytes, and whether there are fewer than were asked for. What is forced, so that
/// there are `k` hits, stays, unless it is too much by itself: then there are none.
fn choose_rows(mut choice: RowChoice<'_>, queries: &[Found], room: RowRoom) -> (Vec<Range<u32>>, bool) {
    let candidates: Vec<&[(f32, u32)]> = queries.iter().map(|query| query.candidates.as_slice()).collect();
    let rows =
        |choice: RowChoice<'_>| joined(&choice.rows(&candidates), room.ranges_max, |end, start| u64::from(start - end));
    let bytes =
        |runs: &[Range<u32>]| runs.iter().map(|run| u64::from(run.end - run.start) * room.slot_bytes).sum::<u64>();
    let asked = rows(choice);
    let mut runs = asked.clone();
    // A byte can become no dearer than all it may bring.
    while bytes(&runs) > room.bytes && choice.lambda > 0.0 && choice.lambda < 1.0 {
        choice.lambda *= ROWS_DEARER;
        runs = rows(choice);
    }
    if bytes(&runs) > room.bytes_max {
        runs.clear();
    }
    let capped = runs != asked;
    (runs, capped)
}

#[cfg(test)]
mod tests {
    use tarn_model::Metric;

    use super::*;

    #[test]
    fn rows_that_take_too_many_bytes_are_left_out_and_that_is_said() {
        let candidates = [10, 12, 500, 900].map(|row| (0.0, row)).to_vec();
        let queries = [Found { query: DenseQuery::new(Metric::L2, &[0.0]), candidates, cells: 1 }];
        let choice =
            RowChoice { chances: &[1.0, 0.9, 0.5, 0.1], k: 2, lambda: 1e-6, row_bytes: 100, most: 4, all: false };
        let rows = |choice, ranges_max, bytes, bytes_max| {
            choose_rows(choice, &queries, RowRoom { ranges_max, slot_bytes: 100, bytes, bytes_max })
        };
        assert_eq!(rows(choice, 4, 400, 1000), (vec![10..11, 12..13, 500..501, 900..901], false));
        assert_eq!(rows(choice, 3, 500, 1000), (vec![10..13, 500..501, 900..901], false));
        assert_eq!(rows(choice, 4, 250, 1000), (vec![10..11, 12..13], true));
        // Two are wanted.
        assert_eq!(rows(choice, 4, 50, 1000), (vec![10..11, 12..13], true));
        assert_eq!(rows(RowChoice { k: 4, ..choice }, 4, 50, 1000), rows(choice, 4, 400, 1000));
        assert_eq!(rows(choice, 4, 50, 100), (vec![], true));
        // Where nothing was measured, all are, or none.
        let unmeasured = RowChoice { lambda: 0.0, chances: &[], all: true, ..choice };
        assert_eq!(rows(unmeasured, 1, 100_000, 100_000).0.len(), 1);
        assert_eq!(rows(unmeasured, 1, 80_000, 80_000), (vec![], true));
    }
}
