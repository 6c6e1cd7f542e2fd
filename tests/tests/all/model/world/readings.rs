//! What is read of an index rather than searched: counts, pages, statistics, samples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tarn_model::{Attributes, DataPoint, Index, PointKey, ReadToken, Vector};
use tarn_search::{
    Consistency, IndexStatistics, MeasuredFrom, Point, PointsRequest, Sample, SampleRequest, SampledPoints,
    SearchError, StatisticsRequest,
};
use tarn_testkit::{Sampling, Scope, Statistic};

use super::World;
use super::searches::State;

/// The points that a reading is about.
type Points = BTreeMap<PointKey, Arc<DataPoint>>;

impl World {
    /// The points of a scope that are alive, at a sequence.
    fn points_of(&self, index: &Index, sequence: u64, scope: &Scope, now: i64) -> Points {
        let scope = self.alive(scope.clone(), now);
        let points = self.reference.indexed_at(index, sequence, &scope);
        points.map(|(key, point)| (key.clone(), Arc::clone(point))).collect()
    }

    /// Tries the moment when the question was asked, and the one when it had been answered.
    fn at_either(&self, (began, ended): (i64, i64), check: impl Fn(i64) -> Result<(), String>) -> Result<(), String> {
        match check(began) {
            Err(_) if self.expires_between(began, ended) => check(ended),
            checked => checked,
        }
    }

    pub(super) async fn count(&mut self, index: usize) -> Result<(), String> {
        let index = Arc::clone(&self.scenario.indices[index]);
        let began = self.now();
        let counted = async {
            let engine = &self.processes.engine;
            let count = engine.count(&index.id, Consistency::Strong).await?;
            let described = engine.describe(&index.id, 1_000).await?;
            let request = PointsRequest { limit: 10_000, ..PointsRequest::default() };
            Ok((count, described, engine.points(&index.id, request).await?))
        };
        let counted: Result<_, SearchError> = counted.await;
        let (count, described, page) = match counted {
            Ok(counted) => counted,
            Err(error) => return self.forgive(matches!(error, SearchError::Store(_)), error),
        };
        self.at_either((began, self.now()), |now| {
            let points = self.points_of(&index, self.reference.head(), &Scope::default(), now);
            let live = points.len() as u64;
            let of_splits: u64 = described.splits.iter().map(|split| split.points).sum();
            if (count, described.points, of_splits) != (live, live, live) {
                let of_index = described.points;
                return Err(format!(
                    "{count} points counted, {of_index} described, {of_splits} in splits; {live} live"
                ));
            }
            same_points(&points.iter().collect::<Vec<_>>(), &page.points, false)
        })
    }

    pub(super) async fn statistics(&mut self, statistic: &Statistic) -> Result<(), String> {
        let index = Arc::clone(&self.scenario.indices[statistic.index]);
        let state = self.state(&index, statistic.as_of).await?;
        let request = StatisticsRequest {
            split_filter: statistic.scope.split_filter.clone(),
            filter: statistic.scope.filter.clone(),
            shard: None,
            tail: statistic.tail,
            exact: statistic.exact,
            as_of: state.generation(),
            since: None,
            consistency: Consistency::Strong,
        };
        let began = self.now();
        let outcome = self.processes.engine.statistics(&index.id, request).await;
        let newest = self.newest_watermark(&index).await?;
        let Some(found) = self.expected(&state, outcome)? else { return Ok(()) };
        let version = match state {
            State::Newest if statistic.tail => self.reference.head(),
            State::Newest => newest,
            State::There { watermark, .. } => watermark,
            State::Gone { .. } => return Err("answered as of a generation that is gone".to_owned()),
        };
        if found.version != ReadToken::single(version) {
            return Err(format!("statistics of version {}, not {version}: {statistic:?}", found.version));
        }
        self.tally.asked.statistics += 1;
        self.at_either((began, self.now()), |now| {
            let points = self.points_of(&index, version, &statistic.scope, now);
            let whole = statistic.scope.split_filter.is_empty() && statistic.scope.filter.is_none();
            check_statistics(&found, &points, statistic.exact || !whole)
                .map_err(|error| format!("{error}\n  at version {version}, of {statistic:?}"))
        })
    }

    pub(super) async fn sample(&mut self, sampling: &Sampling) -> Result<(), String> {
        let index = Arc::clone(&self.scenario.indices[sampling.index]);
        let state = self.state(&index, sampling.as_of).await?;
        let request = |n| SampleRequest {
            sample: Sample { n, seed: sampling.seed },
            split_filter: sampling.scope.split_filter.clone(),
            filter: sampling.scope.filter.clone(),
            retrieve_vectors: true,
            consistency: Consistency::Strong,
            as_of: state.generation(),
        };
        let began = self.now();
        let some = self.processes.engine.sample(&index.id, request(sampling.n)).await;
        let Some(some) = self.expected(&state, some)? else { return Ok(()) };
        let all = self.processes.engine.sample(&index.id, request(10_000)).await;
        let Some(all) = self.expected(&state, all)? else { return Ok(()) };
        let ended = self.now();
        let version = match state {
            State::Newest => self.reference.head(),
            State::There { watermark, .. } => watermark,
            State::Gone { .. } => return Err("answered as of a generation that is gone".to_owned()),
        };
        self.at_either((began, ended), |now| {
            let points = self.points_of(&index, version, &sampling.scope, now);
            check_sample(&some, &all, &points, sampling.n)
        })
        .map_err(|error| format!("{error}\n  at version {version}, of {sampling:?}"))?;
        let order: Vec<PointKey> = all.points.into_iter().map(|point| point.key).collect();
        let before = self.drawn.insert(sampling.seed, order.clone()).unwrap_or_default();
        let both = |keys: &[PointKey], others: &[PointKey]| -> Vec<PointKey> {
            let others: BTreeSet<&PointKey> = others.iter().collect();
            keys.iter().filter(|key| others.contains(key)).cloned().collect()
        };
        if both(&before, &order) != both(&order, &before) {
            return Err(format!("points are drawn in another order than before: {sampling:?}"));
        }
        self.tally.asked.samples += 1;
        Ok(())
    }
}

/// The sample is the beginning of that of all, and that has every point once.
fn check_sample(some: &SampledPoints, all: &SampledPoints, points: &Points, n: u64) -> Result<(), String> {
    let live = points.len() as u64;
    if (some.population, all.population) != (live, live) {
        return Err(format!("drawn from {} and {} points; there are {live}", some.population, all.population));
    }
    let drawn = some.points.len() as u64;
    if drawn != n.min(live) || some.points[..] != all.points[..some.points.len().min(all.points.len())] {
        return Err(format!(
            "{drawn} points drawn, {n} of {live} wanted; or not those that a larger sample begins with"
        ));
    }
    let mut sorted = all.points.clone();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    same_points(&points.iter().collect::<Vec<_>>(), &sorted, true)
}

/// Points by key, each there once and as it is.
fn same_points(expected: &[(&PointKey, &Arc<DataPoint>)], found: &[Point], vectors: bool) -> Result<(), String> {
    if expected.len() != found.len() {
        return Err(format!("{} points, expected {}", found.len(), expected.len()));
    }
    for ((key, point), found) in expected.iter().zip(found) {
        let attributes: Attributes = found.attributes.iter().cloned().collect();
        let vector = vectors.then_some(&point.vector);
        if **key != found.key || attributes != point.attributes || found.vector.as_ref() != vector {
            return Err(format!("{found:?} should be {point:?}"));
        }
    }
    Ok(())
}

/// By definition, in f64.
fn check_statistics(found: &IndexStatistics, points: &Points, from_centre: bool) -> Result<(), String> {
    let wrong = |what: &str, found: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
        Err(format!("{what} is {found:?}, should be {expected:?}"))
    };
    let rows = points.len();
    if found.statistics.rows() != rows as u64 {
        return wrong("the number of points", &found.statistics.rows(), &rows);
    }
    let centre = centre(points);
    match (found.statistics.centre(), &centre) {
        (None, None) => {}
        (Some(found), Some(centre)) if found.iter().zip(centre).all(|(a, b)| (a - b).abs() < 1e-9) => {}
        (found, centre) => return wrong("the centre", &found, centre),
    }
    let is_sparse = points.values().any(|point| matches!(point.vector, Vector::Sparse(_)));
    let from: Vec<f64> = found.statistics.reference().iter().map(|&value| f64::from(value)).collect();
    if rows == 0 {
        return Ok(());
    }
    let expected = match (is_sparse, from_centre) {
        (true, _) => MeasuredFrom::Origin,
        (false, true) => MeasuredFrom::Centre,
        // Without anything counted ahead, the centre is what there is.
        (false, false) if found.from == MeasuredFrom::Centre => MeasuredFrom::Centre,
        (false, false) => MeasuredFrom::Reference,
    };
    if found.from != expected {
        return wrong("what distances are measured from", &found.from, &expected);
    }
    if let (MeasuredFrom::Centre, Some(centre)) = (found.from, &centre)
        && from.iter().zip(centre).any(|(a, b)| (a - b).abs() > 1e-5)
    {
        return wrong("the point that distances are measured from", &from, centre);
    }
    let distances: Vec<f64> = points.values().map(|point| norm(&point.vector, &from)).collect();
    let histogram = found.statistics.distances();
    let max = distances.iter().copied().fold(0.0, f64::max);
    if (histogram.max() - max).abs() > 1e-9 * max.max(1.0) {
        return wrong("the farthest distance", &histogram.max(), &max);
    }
    if max >= 64.0 * histogram.width() || (max > 0.0 && max * 2.0 < 64.0 * histogram.width()) {
        return wrong("the width of a bin", &histogram.width(), &(max / 64.0));
    }
    // A sum of squares may round otherwise here, so that a distance at a bin's edge is in its neighbour.
    let mut below = 0;
    for (bin, count) in histogram.bins().iter().enumerate() {
        below += count;
        let edge = (bin + 1) as f64 * histogram.width();
        let least = distances.iter().filter(|&&distance| distance < edge * (1.0 - 1e-9)).count() as u64;
        let most = distances.iter().filter(|&&distance| distance < edge * (1.0 + 1e-9)).count() as u64;
        if !(least..=most).contains(&below) {
            return wrong(&format!("the number of points below bin {}", bin + 1), &below, &(least, most));
        }
    }
    let origin = vec![0.0; from.len()];
    let about = centre.unwrap_or(origin);
    let squares: f64 = points.values().map(|point| norm(&point.vector, &about).powi(2)).sum();
    let spread = (squares / rows as f64).sqrt();
    match found.spread() {
        Some(found) if (found - spread).abs() <= 1e-6 * spread.max(1.0) => Ok(()),
        found => wrong("the spread", &found, &spread),
    }
}

/// The mean; `None` of no points, and of sparse ones.
fn centre(points: &Points) -> Option<Vec<f64>> {
    let mut sum: Vec<f64> = Vec::new();
    for point in points.values() {
        let Vector::Dense(values) = &point.vector else { return None };
        sum.resize(values.len(), 0.0);
        sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sum.iter_mut().for_each(|sum| *sum /= points.len() as f64);
    (!points.is_empty()).then_some(sum)
}

/// How far a vector is from a point; a sparse one, from the origin.
fn norm(vector: &Vector, from: &[f64]) -> f64 {
    let squares: f64 = match vector {
        Vector::Dense(values) => values.iter().zip(from).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum(),
        Vector::Sparse(sparse) => sparse.values.iter().map(|value| value * value).sum(),
    };
    squares.sqrt()
}
