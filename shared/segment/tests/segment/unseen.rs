//! A segment and queries that it does not hold: what recall is measured with.

use tarn_model::{Metric, Vector};
use tarn_segment::{Build, Effort, Plan, Query, Segment, SegmentSettings};

use crate::clustered::clustered;
use crate::support::{Fixture, Mask};

const QUERIES: usize = 100;

pub(crate) struct Built {
    /// Its rows stand as they do in the segment, so that masks and answers mean the same rows.
    pub(crate) fixture: Fixture,
    pub(crate) segment: Segment,
    /// Rows of the same origin that the segment does not have.
    pub(crate) unseen: Vec<Vec<f32>>,
}

impl Built {
    pub(crate) fn new(
        metric: Metric,
        (rows, dimension, seed): (usize, usize, u64),
        build: Build,
        settings: &SegmentSettings,
    ) -> Self {
        let mut given = clustered(rows + QUERIES, dimension, seed);
        let unseen = given.split_off(rows);
        let mut fixture = Fixture::dense(metric, given);
        let segment = Segment::from_bytes("unseen.seg", fixture.file_with(build, settings).0).unwrap();
        fixture.rows = (0..segment.rows()).map(|row| (segment.key(row).to_vec(), segment.vector(row))).collect();
        Self { fixture, segment, unseen }
    }

    /// Mean recall@k over the unseen queries, and the plans that were used.
    pub(crate) fn recall(&self, k: usize, mask: &Mask, effort: Effort) -> (f64, Vec<Plan>) {
        let (mut found, mut plans) = (0, Vec::new());
        for query in &self.unseen {
            let prepared = Query::dense(self.fixture.metric, query).unwrap();
            let answer = self.segment.search(&prepared, k, &mask.rows(), effort, &|| false).unwrap();
            let want = self.fixture.naive(&Vector::Dense(query.clone()), k, mask);
            assert_eq!((answer.hits.len(), answer.considered), (want.len(), answer.allowed));
            assert!(answer.hits.iter().all(|hit| mask.allows(hit.row)));
            found += answer.hits.iter().filter(|hit| want.iter().any(|(row, _)| *row == hit.row)).count();
            plans.push(answer.plan);
        }
        (found as f64 / (k * self.unseen.len()) as f64, plans)
    }
}
