//! Measures a graph: the recall of a ladder of efforts, on rows that the graph does not know.

use rayon::prelude::*;
use roaring::RoaringBitmap;
use tarn_model::Metric;

use crate::calibration::{Calibration, CalibrationPoint, ENOUGH, LONG, Recall, SHORT, recall};
use crate::dense::{DenseQuery, DenseRows};
use crate::error::SegmentError;
use crate::flat;
use crate::hit::Hit;
use crate::keys::Keys;
use crate::rows::{Allowed, Rows};
use crate::topk::TopK;

/// Efforts that are measured, as far as a search would use them: beyond, an exact scan is cheaper.
const LADDER: [u32; 15] = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048];

/// What is measured with.
pub(crate) struct Ladder<'a> {
    pub(crate) rows: &'a DenseRows,
    pub(crate) metric: Metric,
    pub(crate) keys: &'a Keys,
    /// Rows that the graph does not have.
    pub(crate) held_out: &'a RoaringBitmap,
    /// Those that are asked for.
    pub(crate) queries: &'a [u32],
}

impl Ladder<'_> {
    /// `worthwhile`: whether a search would take such an effort, when these rows are allowed. `find`: the rows that the graph
    /// proposes for it, in any order. `parallel`: several at once.
    pub(crate) fn measure(
        &self,
        worthwhile: impl Fn(u32, &Allowed) -> bool,
        parallel: bool,
        find: impl Fn(&DenseQuery, u32) -> Result<Vec<u32>, SegmentError> + Sync,
    ) -> Result<Calibration, SegmentError> {
        let mut calibration = Calibration { queries: self.queries.len() as u32, points: Vec::new() };
        if self.queries.len() < 2 {
            return Ok(calibration);
        }
        let total = self.keys.len() as u32;
        let everything = 0..total;
        let ranges = std::slice::from_ref(&everything);
        let allowed = Allowed::resolve(&Rows { ranges, deleted: Some(self.held_out), ..Rows::default() }, total);
        let queries: Vec<DenseQuery> =
            self.queries.iter().map(|&row| DenseQuery::new(self.metric, self.rows.row(row))).collect();
        let borrowed: Vec<&DenseQuery> = queries.iter().collect();
        let negated = self.metric.higher_is_nearer();
        let scores = |hits: Vec<Hit>| -> Vec<f64> {
            hits.iter().map(|hit| if negated { -hit.distance } else { hit.distance }).collect()
        };
        let (truth, _) = flat::scan(self.rows, self.metric, &borrowed, &allowed, LONG, self.keys, &|| false);
        let truth: Vec<Vec<f64>> = truth.into_iter().map(|top| scores(top.into_hits(negated))).collect();

        for ef in LADDER.into_iter().take_while(|&ef| worthwhile(ef, &allowed)) {
            let measure = |(query, truth): (&DenseQuery, &Vec<f64>)| {
                let mut top = TopK::new(LONG, self.keys);
                self.rows.offer_each(self.metric, query, &find(query, ef)?, &mut top);
                let found = scores(top.into_hits(negated));
                Ok((recall(&found, truth, SHORT), recall(&found, truth, LONG)))
            };
            let recalls: Result<Vec<(f32, f32)>, SegmentError> = match parallel {
                true => queries.par_iter().zip(&truth).map(measure).collect(),
                false => queries.iter().zip(&truth).map(measure).collect(),
            };
            let (short, long): (Vec<f32>, Vec<f32>) = recalls?.into_iter().unzip();
            let point = CalibrationPoint { ef, at_10: Recall::of(&short), at_100: Recall::of(&long) };
            calibration.points.push(point);
            if point.at_10.floor >= ENOUGH && point.at_100.floor >= ENOUGH {
                break;
            }
        }
        Ok(calibration)
    }
}
