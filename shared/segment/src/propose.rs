//! What an index proposes, before anything is rescored: for measurements, and for tests that must reach an index which the
//! planner would not ask.

use crate::cells::Probe;
use crate::error::SegmentError;
use crate::hit::Effort;
use crate::links::Ground;
use crate::query::{self, Query};
use crate::read::DenseIndex;
use crate::rows::{Allowed, Rows};
use crate::segment::{Body, Segment};

impl Segment {
    /// The allowed rows that the graph proposes for [`Effort::Ef`], or the cells for [`Effort::Cells`], in no promised order
    /// and however cheap a scan would be; none when the segment has no such index.
    ///
    /// # Errors
    /// [`SegmentError::Input`] when the query does not fit the segment; [`SegmentError::Graph`].
    pub fn propose(&self, query: &Query, rows: &Rows<'_>, effort: Effort) -> Result<Vec<u32>, SegmentError> {
        query.check(self.meta.metric, self.meta.dimension)?;
        let (Body::Dense { rows: dense, index }, query::Body::Dense(query)) = (&self.body, &query.body) else {
            return Ok(Vec::new());
        };
        let allowed = Allowed::resolve(rows, self.meta.rows);
        let bits = allowed.bits_unless_all(self.meta.rows);
        match (index, effort) {
            (DenseIndex::Graph(graph), Effort::Ef(ef)) => graph.candidates(query, ef as usize, bits.as_ref()),
            (DenseIndex::Cells(cells, Some(links)), Effort::Ef(ef)) => {
                let ground = Ground { rows: dense, metric: self.meta.metric, order: None };
                let begin = (&**cells, cells.among(None));
                let walked = links.search(begin, ground, query, ef as usize, bits.as_ref(), &|| false);
                Ok(walked.near.into_iter().map(|(_, row)| row).collect())
            }
            (DenseIndex::Cells(cells, _), Effort::Cells { nprobe, rescored }) => {
                let (probe, among) = (Probe { nprobe, rescored }, cells.among(bits.as_ref()));
                Ok(cells.propose(query, probe, among, &|| false, |rows, _| rows.to_vec()))
            }
            _ => Ok(Vec::new()),
        }
    }
}
