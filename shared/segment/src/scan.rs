//! Exact scans by any score: for what an index's own order does not serve.
//!
//! A search by a score that the index does not serve, or in the other direction, or by the sum of several queries, compares
//! every allowed row. What it adds up and compares is f64; the sums inside one comparison are the kernels'. The same row and
//! query give the same bits in whatever block or segment they meet, so that merges have nothing to round.

use std::ops::Range;

use tarn_model::{Metric, Score, Vector};

use crate::dense::{DenseQuery, DenseRows};
use crate::error::SegmentError;
use crate::hit::{Answer, Plan};
use crate::kernels;
use crate::query::Query;
use crate::rows::{Allowed, Rows};
use crate::segment::{Body, Segment};
use crate::sparse::SparseQuery;
use crate::topk::TopK;

/// Most rows that are scored together.
const BLOCK_ROWS: u32 = 1024;
/// Coordinates that are compared, and scores that are put together, between two calls of `stop`: two milliseconds.
const STOP_COORDINATES: usize = 2 * 1024 * 1024;
/// What a comparison costs beside its coordinates, as so many of them.
const COMPARED_COORDINATES: usize = 16;
/// Squared norms below this may have lost bits in f32.
const TINY_SQUARE: f64 = 1e-30;

/// What every allowed row of a segment is ranked by. Share one among all segments of an index.
#[derive(Clone, Debug)]
pub struct Scan {
    metric: Metric,
    dimension: usize,
    form: Form,
    higher_is_better: bool,
    vectors: Prepared,
    queries: Vec<Sum>,
}

/// The vectors that rows are compared with, each once, however many queries it is part of.
#[derive(Clone, Debug)]
enum Prepared {
    Dense(Vec<Vec<f32>>),
    Sparse(Vec<SparseQuery>),
}

/// One query: its score of a row is the sum over its parts of the best of each part's vectors. Vectors are named by position.
#[derive(Clone, Debug)]
struct Sum {
    /// What all parts have in common.
    common: Vec<u32>,
    /// The rest of each.
    parts: Vec<Vec<u32>>,
}

impl Sum {
    fn new(parts: &[Vec<u32>], vectors: usize) -> Self {
        let mut parts = parts.to_vec();
        let mut times = vec![0; vectors];
        for part in &mut parts {
            part.sort_unstable();
            part.dedup();
            part.iter().for_each(|&at| times[at as usize] += 1);
        }
        if let [only] = parts.as_mut_slice() {
            return Self { common: std::mem::take(only), parts };
        }
        let is_common = |at: u32| times[at as usize] == parts.len();
        let common = (0..vectors as u32).filter(|&at| is_common(at)).collect();
        let rest = |part: &Vec<u32>| part.iter().copied().filter(|&at| !is_common(at)).collect();
        Self { common, parts: parts.iter().map(rest).collect() }
    }

    /// Scores that are put together for a row.
    fn scores(&self) -> usize {
        self.common.len() + self.parts.iter().map(|part| part.len() + 1).sum::<usize>()
    }
}

/// How a comparison becomes a score.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    SquaredL2,
    L2,
    L1,
    Dot,
    /// From a cosine distance, in the metric's own unit or as a score that it serves.
    Cosine(Option<Score>),
    /// From a distance between sparse vectors.
    Sparse(Option<Score>),
}

impl Form {
    fn new(metric: Metric, score: Option<Score>) -> Option<Self> {
        if metric.is_sparse() {
            return score.is_none_or(|score| score.is_served_by(metric)).then_some(Self::Sparse(score));
        }
        Some(match (score, metric) {
            (None, Metric::L2) => Self::SquaredL2,
            (None, Metric::InnerProduct) | (Some(Score::VectorMultiplication), _) => Self::Dot,
            (None, _) => Self::Cosine(None),
            (Some(Score::VectorDistance), _) => Self::L2,
            (Some(Score::QuickVectorDistance), _) => Self::L1,
            (Some(score @ (Score::CosineSimilarity | Score::AngularDistance)), _) => Self::Cosine(Some(score)),
        })
    }
}

impl Scan {
    /// A scan of segments of this metric. `score`: `None` for the metric's own distance. `queries`: of each, its parts, and of
    /// each part its vectors, by their positions in `vectors`; one vector in one part is the plain case.
    ///
    /// # Errors
    /// The metric has no such score, a query has no vectors or names one that is not there, or [`Query::new`] refuses one.
    pub fn new(
        metric: Metric,
        score: Option<Score>,
        higher_is_better: bool,
        vectors: &[Vector],
        queries: &[Vec<Vec<u32>>],
    ) -> Result<Self, SegmentError> {
        let form = Form::new(metric, score).ok_or_else(|| {
            let score = score.map_or("", Score::name);
            SegmentError::Input(format!("{score} does not compare vectors of {}", metric.algorithm_type()))
        })?;
        let mut dimension = 0;
        for vector in vectors {
            Query::new(metric, vector)?;
            let Vector::Dense(values) = vector else { continue };
            if dimension != 0 && dimension != values.len() {
                let other = values.len();
                return Err(SegmentError::Input(format!("queries of dimensions {dimension} and {other}")));
            }
            dimension = values.len();
        }
        let is_vector = |at: &u32| (*at as usize) < vectors.len();
        if queries.iter().any(|parts| parts.is_empty() || parts.iter().any(Vec::is_empty)) {
            return Err(SegmentError::Input("a query without vectors".to_owned()));
        }
        if !queries.iter().flatten().flatten().all(is_vector) {
            return Err(SegmentError::Input("a query names a vector that is not there".to_owned()));
        }
        // Vectors of the other kind have been refused: none is dropped.
        let dense = |vector: &Vector| match vector {
            Vector::Dense(values) => Some(form.prepare(values)),
            Vector::Sparse(_) => None,
        };
        let sparse = |vector: &Vector| match vector {
            Vector::Sparse(sparse) => Some(SparseQuery::new(sparse)),
            Vector::Dense(_) => None,
        };
        let prepared = match metric.is_sparse() {
            true => Prepared::Sparse(vectors.iter().filter_map(sparse).collect()),
            false => Prepared::Dense(vectors.iter().filter_map(dense).collect()),
        };
        let queries = queries.iter().map(|parts| Sum::new(parts, vectors.len())).collect();
        Ok(Self { metric, dimension, form, higher_is_better, vectors: prepared, queries })
    }

    /// Rows of a segment that are scored together, and between two calls of `stop`.
    fn block_rows(&self, segment: &Segment) -> u32 {
        let coordinates = match &self.vectors {
            Prepared::Dense(vectors) => vectors.len() * (self.dimension + COMPARED_COORDINATES),
            Prepared::Sparse(vectors) => {
                let of_row = match &segment.body {
                    Body::Sparse { rows, lengths, .. } => rows.values.len() / lengths.len().max(1),
                    Body::Dense { .. } => 0,
                };
                vectors.iter().map(|vector| vector.terms.len() + of_row + COMPARED_COORDINATES).sum()
            }
        };
        let scores: usize = self.queries.iter().map(Sum::scores).sum();
        let rows = STOP_COORDINATES / (coordinates + scores).max(1);
        (rows.min(BLOCK_ROWS as usize) as u32).max(1)
    }

    /// How many answers it gives.
    pub fn queries(&self) -> usize {
        self.queries.len()
    }

    fn check(&self, segment: &Segment) -> Result<(), SegmentError> {
        let (metric, dimension) = (segment.metric(), segment.dimension() as usize);
        if self.metric != metric {
            return Err(SegmentError::Input(format!("a scan for {:?} in a segment for {metric:?}", self.metric)));
        }
        if !metric.is_sparse() && self.dimension != dimension {
            let found = self.dimension;
            return Err(SegmentError::Input(format!("a scan of dimension {found} in a segment of {dimension}")));
        }
        Ok(())
    }
}

impl Form {
    fn prepare(self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::Cosine(_) => DenseQuery::new(Metric::Cosine, values).values,
            _ => values.to_vec(),
        }
    }

    /// The score from what the kernel gives. `norm`: the row's, for cosines.
    fn score(self, compared: f64, norm: f64) -> f64 {
        let score = match self {
            Self::SquaredL2 | Self::L1 | Self::Dot | Self::Sparse(None) => compared,
            Self::L2 => compared.sqrt(),
            Self::Cosine(score) => {
                let cosine = if norm > 0.0 { (compared / norm).clamp(-1.0, 1.0) } else { 0.0 };
                match score {
                    None => 1.0 - cosine,
                    Some(Score::AngularDistance) => Score::angular(cosine),
                    Some(_) => cosine,
                }
            }
            Self::Sparse(Some(score)) => score.of_distance(Metric::SparseCosine, compared),
        };
        // There is only one zero.
        score + 0.0
    }
}

impl Segment {
    /// The `k` best of the allowed rows for each query of the scan. `stop` as in [`Segment::search`].
    ///
    /// # Errors
    /// [`SegmentError::Input`] when the scan does not fit the segment.
    pub fn scan(
        &self,
        scan: &Scan,
        k: usize,
        rows: &Rows<'_>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Answer>, SegmentError> {
        scan.check(self)?;
        let allowed = Allowed::resolve(rows, self.rows());
        let mut tops: Vec<TopK<'_>> = scan.queries.iter().map(|_| TopK::new(k, &self.keys)).collect();
        let (block_rows, mut considered, mut since) = (scan.block_rows(self), 0, u32::MAX);
        let mut block = Block::default();
        'rows: for run in allowed.runs.iter() {
            let mut start = run.start;
            while start < run.end {
                if since >= block_rows {
                    if stop() {
                        break 'rows;
                    }
                    since = 0;
                }
                let end = run.end.min(start.saturating_add(block_rows));
                block.score(self, scan, start..end, &mut tops);
                considered += u64::from(end - start);
                since += end - start;
                start = end;
            }
        }
        let answer = |top: TopK<'_>| Answer {
            hits: top.into_hits(scan.higher_is_better),
            allowed: allowed.count,
            considered,
            plan: Plan::Exact,
        };
        Ok(tops.into_iter().map(answer).collect())
    }
}

/// Room for the scores of adjacent rows.
#[derive(Default)]
struct Block {
    compared: Vec<f32>,
    norms: Vec<f64>,
    /// By each vector: the rows' scores by the first, then those by the second.
    scores: Vec<f64>,
    /// By the best vector that all parts of a query have in common.
    common: Vec<f64>,
    /// By the best vector of a part.
    best: Vec<f64>,
    /// By all parts.
    sums: Vec<f64>,
}

impl Block {
    fn score(&mut self, segment: &Segment, scan: &Scan, rows: Range<u32>, tops: &mut [TopK<'_>]) {
        self.compare(segment, scan, rows.clone());
        let count = rows.len();
        let better = if scan.higher_is_better { f64::max } else { f64::min };
        let worst = if scan.higher_is_better { f64::NEG_INFINITY } else { f64::INFINITY };
        let best_of = |scores: &[f64], vectors: &[u32], best: &mut [f64]| {
            for &at in vectors {
                let by_one = &scores[at as usize * count..][..count];
                best.iter_mut().zip(by_one).for_each(|(best, &score)| *best = better(*best, score));
            }
        };
        for (query, top) in scan.queries.iter().zip(tops) {
            self.common.clear();
            self.common.resize(count, worst);
            best_of(&self.scores, &query.common, &mut self.common);
            self.sums.clear();
            self.sums.resize(count, 0.0);
            for part in &query.parts {
                self.best.clear();
                self.best.extend_from_slice(&self.common);
                best_of(&self.scores, part, &mut self.best);
                self.sums.iter_mut().zip(&self.best).for_each(|(sum, best)| *sum += best);
            }
            for (row, &sum) in rows.clone().zip(&self.sums) {
                top.offer(if scan.higher_is_better { -sum } else { sum }, row);
            }
        }
    }

    /// Compares the rows with every vector, once.
    fn compare(&mut self, segment: &Segment, scan: &Scan, rows: Range<u32>) {
        self.norms.clear();
        self.scores.clear();
        match (&scan.vectors, &segment.body) {
            (Prepared::Dense(queries), Body::Dense { rows: vectors, .. }) => {
                if let Form::Cosine(_) = scan.form {
                    self.norms.extend(rows.clone().map(|row| norm(vectors.row(row))));
                }
                queries.iter().for_each(|query| self.dense(vectors, scan.form, query, rows.clone()));
            }
            (Prepared::Sparse(queries), Body::Sparse { rows: vectors, lengths, .. }) => {
                for query in queries {
                    self.scores.extend(rows.clone().map(|row| {
                        let row = row as usize;
                        scan.form.score(vectors.distance(scan.metric, query, row, lengths[row]), 1.0)
                    }));
                }
            }
            // `Scan::check` has compared the metrics.
            _ => {}
        }
    }

    /// Adds the scores by one vector.
    fn dense(&mut self, vectors: &DenseRows, form: Form, query: &[f32], rows: Range<u32>) {
        let count = rows.len();
        self.compared.resize(count, 0.0);
        let at = rows.start as usize * vectors.stride;
        let length = count.checked_sub(1).map_or(0, |before| before * vectors.stride + vectors.dimension);
        let coordinates = &vectors.values[at..at + length];
        match form {
            Form::SquaredL2 | Form::L2 => kernels::l2_rows(query, coordinates, vectors.stride, &mut self.compared),
            Form::L1 => kernels::l1_rows(query, coordinates, vectors.stride, &mut self.compared),
            Form::Dot | Form::Cosine(_) | Form::Sparse(_) => {
                kernels::dot_rows(query, coordinates, vectors.stride, &mut self.compared);
            }
        }
        // Only cosines have norms; nothing else looks at them.
        let norms = self.norms.iter().copied().chain(std::iter::repeat(1.0));
        self.scores.extend(self.compared.iter().zip(norms).map(|(&x, norm)| form.score(f64::from(x), norm)));
    }
}

/// The Euclidean norm of a row.
fn norm(row: &[f32]) -> f64 {
    let mut square = [0.0f32];
    kernels::dot_rows(row, row, row.len(), &mut square);
    let square = f64::from(square[0]);
    if square > TINY_SQUARE {
        return square.sqrt();
    }
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}
