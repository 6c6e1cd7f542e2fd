//! Chooses how to search dense rows: exactly, along a graph, or in cells.
//!
//! Who asks for a recall gets the cheapest way that was measured to reach it; where nothing did, everything is scored. Who
//! asks for an effort gets that of a graph or of cells, unless scoring everything is cheaper.

use tarn_model::{HnswParams, limits};

use crate::calibration::{Calibration, CellsCalibration};
use crate::cells::Probe;
use crate::cost::{self, GraphCost};
use crate::hit::Effort;
use crate::rows::Allowed;

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Exact,
    /// Keep so many candidates.
    Graph(u32),
    Cells(Probe),
}

/// What a segment has that leads to near rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways<'a> {
    pub(crate) rows: u32,
    pub(crate) dimension: usize,
    pub(crate) graph: Option<GraphWay<'a>>,
    pub(crate) cells: Option<CellsWay<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct GraphWay<'a> {
    /// The index's own `ef_search` is the least effort.
    pub(crate) params: HnswParams,
    pub(crate) cost: GraphCost,
    pub(crate) calibration: Option<&'a Calibration>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CellsWay<'a> {
    pub(crate) count: usize,
    pub(crate) calibration: Option<&'a CellsCalibration>,
}

impl Ways<'_> {
    /// `share`: of the rows of the cells that hold any allowed ones, how many are allowed.
    pub(crate) fn choose(&self, effort: Effort, k: usize, share: f64, allowed: &Allowed) -> Way {
        // An effort in candidates is the graph's where there is one, and one in cells is the cells'.
        let is_for_cells = self.cells.is_some() && matches!(effort, Effort::Cells { .. });
        let graph = self.graph.filter(|_| !is_for_cells).and_then(|way| Some((way, way.effort(effort, k)?)));
        let graph = graph.filter(|(way, ef)| cost::graph_is_cheaper(allowed, self.rows, self.dimension, way.cost, *ef));
        let is_for_graph = self.graph.is_some() && matches!(effort, Effort::Ef(_));
        let cells = self.cells.filter(|_| !is_for_graph);
        let cells = cells.and_then(|way| Some((way, way.probe(effort, k, share)?)));
        let cells =
            cells.filter(|(way, probe)| cost::cells_are_cheaper(allowed, self.rows, self.dimension, way.count, *probe));
        match (graph, cells) {
            (Some((graph, ef)), Some((cells, probe))) => {
                let by_graph = graph.cost.of(ef, allowed, self.rows);
                let by_cells = cost::cells_ns(probe, cells.count, self.rows, self.dimension);
                if by_graph < by_cells { Way::Graph(ef) } else { Way::Cells(probe) }
            }
            (Some((_, ef)), None) => Way::Graph(ef),
            (None, Some((_, probe))) => Way::Cells(probe),
            (None, None) => Way::Exact,
        }
    }
}

impl GraphWay<'_> {
    /// How many candidates to keep; `None` when the graph is not to be asked.
    fn effort(&self, effort: Effort, k: usize) -> Option<u32> {
        let ef = match effort {
            Effort::Exact => return None,
            Effort::Ef(ef) | Effort::Each { ef, .. } => ef,
            // A number of cells has no bound of its own, and each candidate takes memory.
            Effort::Cells { nprobe, .. } => nprobe.min(limits::HNSW_EF),
            Effort::Recall(recall) => self.calibration?.effort(recall, k)?,
        };
        Some(ef.max(self.params.ef_search).max(u32::try_from(k).unwrap_or(u32::MAX)))
    }
}

impl CellsWay<'_> {
    /// How many cells to probe and rows to rescore; `None` when cells are not to be asked.
    fn probe(&self, effort: Effort, k: usize, share: f64) -> Option<Probe> {
        let (nprobe, rescored) = match effort {
            Effort::Exact => return None,
            Effort::Ef(ef) => (ef, Effort::rescored(ef)),
            Effort::Cells { nprobe, rescored } | Effort::Each { nprobe, rescored, .. } => (nprobe, rescored),
            Effort::Recall(recall) => self.calibration?.effort_among(recall, k, share)?,
        };
        let all = u32::try_from(self.count).unwrap_or(u32::MAX);
        Some(Probe { nprobe: nprobe.min(all), rescored: rescored.max(u32::try_from(k).unwrap_or(u32::MAX)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{CalibrationPoint, CellsPoint, Recall};

    const ROWS: u32 = 1_000_000;
    const CELLS: usize = 8192;
    const DIMENSION: usize = 100;

    /// A graph that reaches recalls with these efforts, and cells that do with these numbers of them.
    struct Measured {
        graph: Calibration,
        cells: CellsCalibration,
    }

    impl Measured {
        fn new(graph: &[(u32, f32)], cells: &[(u32, f32)]) -> Self {
            let recall = |floor| Recall { mean: floor, floor };
            let point =
                |&(ef, floor): &(u32, f32)| CalibrationPoint { ef, at_10: recall(floor), at_100: recall(floor) };
            let ladder: Vec<CellsPoint> = cells
                .iter()
                .map(|&(nprobe, floor)| CellsPoint { nprobe, rescored: 24, recall: recall(floor) })
                .collect();
            let graph = Calibration { queries: 200, points: graph.iter().map(point).collect() };
            let cells = CellsCalibration { at_10: ladder.clone(), at_100: ladder, ..CellsCalibration::default() };
            Self { graph, cells }
        }

        fn both(&self) -> Ways<'_> {
            let params = HnswParams { m: 16, ef_construction: 100, ef_search: 16 };
            let cost = GraphCost::beside_cells(24.0, CELLS, ROWS, DIMENSION);
            let graph = GraphWay { params, cost, calibration: Some(&self.graph) };
            let cells = CellsWay { count: CELLS, calibration: Some(&self.cells) };
            Ways { rows: ROWS, dimension: DIMENSION, graph: Some(graph), cells: Some(cells) }
        }
    }

    fn all() -> Allowed {
        Allowed::from_runs(std::iter::once(0..ROWS).collect())
    }

    fn probe(nprobe: u32) -> Way {
        Way::Cells(Probe { nprobe, rescored: 24 })
    }

    #[test]
    fn of_two_that_promise_a_recall_the_cheaper_is_chosen() {
        let choose = |measured: &Measured, recall| measured.both().choose(Effort::Recall(recall), 10, 1.0, &all());
        // At the lower recall few cells do, at the higher one few candidates.
        let measured = Measured::new(&[(256, 0.9), (384, 0.99)], &[(64, 0.9), (8192, 0.99)]);
        assert_eq!(choose(&measured, 0.9), probe(64));
        assert_eq!(choose(&measured, 0.99), Way::Graph(384));
        // The other way round.
        let measured = Measured::new(&[(16, 0.9), (2048, 0.99)], &[(2048, 0.9), (2560, 0.99)]);
        assert_eq!(choose(&measured, 0.9), Way::Graph(16));
        assert_eq!(choose(&measured, 0.99), probe(2560));
    }

    #[test]
    fn what_promises_nothing_is_not_chosen() {
        let choose = |measured: &Measured, recall| measured.both().choose(Effort::Recall(recall), 10, 1.0, &all());
        let (never, cheap, dear) = (&[][..], (16, 0.95), (2048, 0.95));
        assert_eq!(choose(&Measured::new(never, &[dear]), 0.95), probe(2048));
        assert_eq!(choose(&Measured::new(&[dear], never), 0.95), Way::Graph(2048));
        assert_eq!(choose(&Measured::new(&[cheap], &[cheap]), 0.96), Way::Exact);
        assert_eq!(choose(&Measured::new(&[cheap], &[(64, 0.96)]), 0.96), probe(64));
        assert_eq!(choose(&Measured::new(&[(64, 0.96)], &[cheap]), 0.96), Way::Graph(64));
    }

    #[test]
    fn an_effort_says_itself_what_it_is_for() {
        let measured = Measured::new(&[(64, 0.95)], &[(64, 0.95)]);
        let both = measured.both();
        let cells = Effort::Cells { nprobe: 300, rescored: 5 };
        let choose = |ways: Ways<'_>, effort| ways.choose(effort, 24, 1.0, &all());
        assert_eq!(choose(both, Effort::Ef(300)), Way::Graph(300));
        assert_eq!(choose(both, cells), probe(300));
        assert_eq!(choose(both, Effort::Exact), Way::Exact);
        let graph_alone = Ways { cells: None, ..both };
        assert_eq!(choose(graph_alone, cells), Way::Graph(300));
        assert_eq!(choose(graph_alone, Effort::Ef(3)), Way::Graph(24));
        let many = Effort::Cells { nprobe: u32::MAX, rescored: 5 };
        assert_eq!(both.graph.unwrap().effort(many, 24), Some(limits::HNSW_EF), "a candidate takes memory");
        let cells_alone = Ways { graph: None, ..both };
        assert_eq!(choose(cells_alone, Effort::Ef(300)), Way::Cells(Probe { nprobe: 300, rescored: 316 }));
        let neither = Ways { cells: None, ..graph_alone };
        let neither = Ways { graph: None, ..neither };
        assert_eq!(choose(neither, Effort::Ef(300)), Way::Exact);
        assert_eq!(choose(neither, cells), Way::Exact);
        let each = |ef, nprobe| Effort::Each { ef, nprobe, rescored: 5 };
        assert_eq!(choose(graph_alone, each(40, 300)), Way::Graph(40));
        assert_eq!(choose(cells_alone, each(40, 300)), probe(300));
        assert_eq!(choose(both, each(24, 4000)), Way::Graph(24), "it costs less");
        assert_eq!(choose(both, each(4000, 24)), probe(24), "they cost less");
    }

    #[test]
    fn the_fewer_rows_are_allowed_the_less_a_graph_is_worth() {
        let measured = Measured::new(&[(128, 0.95)], &[(4096, 0.95)]);
        let choose = |step: u32| {
            let allowed = Allowed::from_runs((0..ROWS / step).map(|at| at * step..at * step + 1).collect());
            measured.both().choose(Effort::Recall(0.95), 10, 1.0 / f64::from(step), &allowed)
        };
        assert_eq!(choose(2), Way::Graph(128));
        assert!(matches!(choose(20), Way::Cells(_)), "{:?}", choose(20));
        assert_eq!(choose(2000), Way::Exact);
    }
}
