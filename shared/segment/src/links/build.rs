//! Makes the graph beside cells.
//!
//! Cells find the rows near a row faster than a graph that grows row by row does, and for many rows at once: each row's
//! candidates come from its own cells and those around. A row is linked to some of them, and they to the row. Which ones does
//! not depend on the number of threads.
//!
//! Rows that measure the recall are left out until it is measured, as in any graph: a walk that begins at the query itself
//! would find its neighbours by their links.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use roaring::RoaringBitmap;
use tarn_model::{HnswParams, Metric};

use super::Links;
use super::lists::Lists;
use super::select::Selector;
use super::walk::Ground;
use crate::calibration::{Calibration, CellsCalibration, CellsPoint, ENOUGH, SHORT};
use crate::cells::{self, Points, Probe};
use crate::cost::{self, GraphCost};
use crate::dense::{DenseQuery, DenseRows};
use crate::error::SegmentError;
use crate::keys::Keys;
use crate::kind::SegmentSettings;
use crate::ladder::Ladder;
use crate::rows::{Allowed, Bits, Rows};
use crate::write::ProgressFn;

/// The recall with which cells look for candidates: what they miss is found by way of others.
const CANDIDATE_RECALL: f32 = 0.9;
/// Cells that are probed for it, at most: where not even many reach that recall, a build must not compare all rows with all.
const CANDIDATE_CELLS: u32 = 256;
/// Up to so many times the calibration queries measure the graph, of the more that measure cells: each effort is a search.
const MORE_QUERIES: usize = 2;
/// Rows whose links are put together by one thread at a time.
const CHUNK: usize = 256;

/// A graph ready to be written.
pub(crate) struct Built {
    pub(crate) links: Links,
    pub(crate) calibration: Calibration,
}

pub(crate) fn build(
    rows: &DenseRows,
    metric: Metric,
    keys: &Keys,
    built: &cells::Built,
    params: HnswParams,
    settings: &SegmentSettings,
    progress: ProgressFn<'_>,
) -> Result<Built, SegmentError> {
    let count = built.order.len();
    let points = Points::new(rows, metric);
    let making = Making { rows, metric, points: &points, built, params, progress };
    let held_out: RoaringBitmap =
        (0u32..).zip(&built.order).filter(|(_, row)| built.held_out.contains(row)).map(|(place, _)| place).collect();
    // Where links begin is a u32, too.
    let most = (2 * params.m as usize).min(u32::MAX as usize / count.max(1));

    let everything = 0..count as u32;
    let mask = Rows { ranges: std::slice::from_ref(&everything), deleted: Some(&held_out), ..Rows::default() };
    let linked = Allowed::resolve(&mask, everything.end).bits(everything.end);

    let chosen = making.choose(&linked, (params.m as usize).min(most));
    let mut lists = making.both_ways(&chosen, &held_out, most);
    let links = lists.packed();
    let calibration = making.calibrate(&links, keys, &held_out, &linked, settings)?;
    if held_out.is_empty() {
        return Ok(Built { links, calibration });
    }
    drop(links);
    making.add(&chosen, &held_out, &mut lists, most);
    drop(chosen);
    Ok(Built { links: lists.packed(), calibration })
}

/// What a graph is made of. Rows are numbered as the cells have them.
struct Making<'a> {
    rows: &'a DenseRows,
    metric: Metric,
    points: &'a Points,
    built: &'a cells::Built,
    params: HnswParams,
    progress: ProgressFn<'a>,
}

impl Making<'_> {
    fn count(&self) -> usize {
        self.built.order.len()
    }

    fn query(&self, place: u32) -> DenseQuery {
        DenseQuery::new(self.metric, self.rows.row(self.built.order[place as usize]))
    }

    /// For every row, which of the rows near it that are not held out it is linked to. `linked`: these.
    fn choose(&self, linked: &Bits, most: usize) -> Lists {
        let cells = &self.built.cells;
        let probe = candidate_probe(&self.built.calibration, self.params);
        let nearest_first = self.metric != Metric::InnerProduct;
        let size = cells.together(probe);
        let done = AtomicUsize::new(0);
        let mut lists = Lists::new(self.count(), most);
        let (links, lengths, room) = lists.parts_mut();
        links.par_chunks_mut(size * room).zip(lengths.par_chunks_mut(size)).enumerate().for_each(
            |(chunk, (links, lengths))| {
                let first = (chunk * size) as u32;
                let queries: Vec<DenseQuery> = (first..).take(lengths.len()).map(|place| self.query(place)).collect();
                let borrowed: Vec<&DenseQuery> = queries.iter().collect();
                let mut selector = Selector::new(self.points, &self.built.order);
                cells.propose_many(&borrowed, probe, cells.among(Some(linked)), &|| false, |proposed| {
                    let lists = links.chunks_exact_mut(room).zip(lengths.iter_mut());
                    for (at, (links, length)) in lists.enumerate() {
                        let candidates = proposed.rows(at).iter().copied();
                        let chosen = selector.select(first + at as u32, candidates, nearest_first, room);
                        links[..chosen.len()].copy_from_slice(chosen);
                        *length = chosen.len() as u32;
                    }
                });
                self.report(&done, lengths.len());
            },
        );
        lists
    }

    /// The links of rows that are not held out, and those of the others to them.
    fn both_ways(&self, chosen: &Lists, held_out: &RoaringBitmap, most: usize) -> Lists {
        let count = self.count();
        let rows = || (0..count as u32).filter(|&row| !held_out.contains(row));
        let mut ends = vec![0u32; count + 1];
        for &to in rows().flat_map(|row| chosen.of(row)) {
            ends[to as usize + 1] += 1;
        }
        let mut before = 0;
        for end in &mut ends {
            before += *end;
            *end = before;
        }
        let mut next = ends.clone();
        let mut back = vec![0u32; before as usize];
        for row in rows() {
            for &to in chosen.of(row) {
                back[next[to as usize] as usize] = row;
                next[to as usize] += 1;
            }
        }
        drop(next);
        let mut lists = Lists::new(count, most);
        let (links, lengths, room) = lists.parts_mut();
        links.par_chunks_mut(CHUNK * room).zip(lengths.par_chunks_mut(CHUNK)).enumerate().for_each(
            |(chunk, (links, lengths))| {
                let mut selector = Selector::new(self.points, &self.built.order);
                let mut both: Vec<u32> = Vec::new();
                for (at, (links, length)) in links.chunks_exact_mut(room).zip(lengths).enumerate() {
                    let row = chunk * CHUNK + at;
                    if held_out.contains(row as u32) {
                        continue;
                    }
                    both.clear();
                    both.extend_from_slice(chosen.of(row as u32));
                    both.extend_from_slice(&back[ends[row] as usize..ends[row + 1] as usize]);
                    both.sort_unstable();
                    both.dedup();
                    let kept = match both.len() > room {
                        true => selector.select(row as u32, both.iter().copied(), true, room),
                        false => &both,
                    };
                    links[..kept.len()].copy_from_slice(kept);
                    *length = kept.len() as u32;
                }
            },
        );
        lists
    }

    /// Measures the graph of all rows but `held_out`, with some of these as queries.
    fn calibrate(
        &self,
        links: &Links,
        keys: &Keys,
        held_out: &RoaringBitmap,
        linked: &Bits,
        settings: &SegmentSettings,
    ) -> Result<Calibration, SegmentError> {
        let (cells, order) = (&self.built.cells, &self.built.order);
        let most = settings.calibration_queries.saturating_mul(MORE_QUERIES).max(1);
        let every = (held_out.len() as usize).div_ceil(most).max(1);
        let queries: Vec<u32> = held_out.iter().step_by(every).map(|place| order[place as usize]).collect();
        let total = self.count() as u32;
        let ground = Ground { rows: self.rows, metric: self.metric, order: Some(order) };
        let cost = GraphCost::beside_cells(links.mean(), cells.count(), total, self.rows.dimension);
        let masked: RoaringBitmap = held_out.iter().map(|place| order[place as usize]).collect();
        let ladder = Ladder { rows: self.rows, metric: self.metric, keys, held_out: &masked, queries: &queries };
        let by_cells = self.dearest_promise().unwrap_or(f64::INFINITY);
        let worthwhile = |ef: u32, allowed: &Allowed| {
            cost.of(ef, allowed, total) < by_cells
                && cost::graph_is_cheaper(allowed, total, self.rows.dimension, cost, ef)
        };
        ladder.measure(worthwhile, true, |query, ef| {
            let walked = links.search((cells, cells.among(Some(linked))), ground, query, ef as usize, None, &|| false);
            Ok(walked.near.into_iter().map(|(_, place)| order[place as usize]).collect())
        })
    }

    /// What cells cost when they promise whatever may be asked for: nobody takes a graph that costs more. `None` when they
    /// do not promise that much.
    fn dearest_promise(&self) -> Option<f64> {
        let calibration = &self.built.calibration;
        let ends = calibration.at_10.last().zip(calibration.at_100.last());
        let ends = ends.filter(|(few, many)| few.recall.floor.min(many.recall.floor) >= ENOUGH);
        ends.map(|(few, many)| {
            let (cells, total) = (self.built.cells.count(), self.count() as u32);
            let ns = |point: &CellsPoint| cost::cells_ns(point.probe(), cells, total, self.rows.dimension);
            ns(few).max(ns(many))
        })
    }

    /// Links the rows that were held out to those that they chose, and these to them.
    fn add(&self, chosen: &Lists, held_out: &RoaringBitmap, lists: &mut Lists, most: usize) {
        let mut selector = Selector::new(self.points, &self.built.order);
        for row in held_out {
            lists.set(row, chosen.of(row));
            for &to in chosen.of(row) {
                let mut links = lists.of(to).to_vec();
                links.push(row);
                if links.len() > most {
                    links = selector.select(to, links.iter().copied(), true, most).to_vec();
                }
                lists.set(to, &links);
            }
        }
    }

    /// Cells were three quarters of the work, as far as anybody is told.
    fn report(&self, done: &AtomicUsize, rows: usize) {
        let total = self.count() as u64;
        let done = (done.fetch_add(rows, Ordering::Relaxed) + rows) as u64;
        (self.progress)(total * 3 / 4 + done / 4, total);
    }
}

/// Where to look for the candidates of a row.
fn candidate_probe(cells: &CellsCalibration, params: HnswParams) -> Probe {
    let nprobe = cells.effort(CANDIDATE_RECALL, SHORT).map_or(CANDIDATE_CELLS, |(nprobe, _)| nprobe);
    // One more: a row is the nearest to itself.
    Probe { nprobe: nprobe.min(CANDIDATE_CELLS), rescored: params.ef_construction.max(params.m) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Recall;

    #[test]
    fn cells_that_promise_little_do_not_make_a_build_compare_all_rows() {
        let params = HnswParams { m: 16, ef_construction: 100, ef_search: 1 };
        let ladder = |nprobe| vec![CellsPoint { nprobe, rescored: 24, recall: Recall { mean: 0.95, floor: 0.93 } }];
        let measured = |nprobe| CellsCalibration { at_10: ladder(nprobe), ..CellsCalibration::default() };
        assert_eq!(candidate_probe(&measured(48), params), Probe { nprobe: 48, rescored: 101 });
        for hard in [measured(2048), CellsCalibration::default()] {
            assert_eq!(candidate_probe(&hard, params).nprobe, CANDIDATE_CELLS);
        }
    }
}
