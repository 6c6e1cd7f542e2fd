//! Whether an answer is right, given the reference's ranking.
//!
//! Distances computed in another precision may differ by [`TOLERANCE`]; so points whose distances differ by less may change
//! places, at the cut too. Nothing else is forgiven.

mod shaped;

pub use shaped::{Judged, Wanted, check_groups, check_line};

use tarn_model::{AttributeValue, DataSource, Index, PointKey, Vector};

use crate::reference::{Neighbour, nearness};

/// How far a distance may be off, relative to its magnitude and at least to 1.
pub const TOLERANCE: f64 = 2.0e-5;

/// A found point as the engine gives it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// In wire order.
    pub attributes: Vec<(String, AttributeValue)>,
    /// When it was asked for.
    pub vector: Option<Vector>,
    /// In the metric's own unit.
    pub distance: f64,
}

/// What the answer is to a question about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The index.
    pub index: &'a Index,
    /// Its data source.
    pub source: &'a DataSource,
    /// The number of neighbours asked for.
    pub k: usize,
    /// Which attributes were asked for; `None` is all. The permanent ones must be among them.
    pub attributes: Option<&'a [String]>,
    /// Whether vectors were asked for.
    pub vectors: bool,
}

/// Checks that what was found exists, is described truly, comes in order, and is as many as there are: all that even an
/// approximate answer must satisfy. Gives the found points' places in the ranking.
///
/// # Errors
/// What is wrong.
pub fn check_found(question: &Question<'_>, ranked: &[Neighbour], found: &[Answer]) -> Result<Vec<usize>, String> {
    let metric = question.index.algorithm.metric;
    let expected = question.k.min(ranked.len());
    if found.len() != expected {
        return Err(format!("{} points found, expected {expected} of {} candidates", found.len(), ranked.len()));
    }
    let mut places = Vec::with_capacity(found.len());
    let mut last: Option<(f64, &PointKey)> = None;
    for (at, answer) in found.iter().enumerate() {
        let attributes = answer.attributes.iter().cloned().collect();
        let key = PointKey::encode(question.source, &attributes).map_err(|error| format!("result {at}: {error}"))?;
        let Some(place) = ranked.iter().position(|neighbour| neighbour.key == key) else {
            return Err(format!("result {at} is not among the {} candidates: {answer:?}", ranked.len()));
        };
        if places.contains(&place) {
            return Err(format!("result {at} is found twice: {answer:?}"));
        }
        let neighbour = &ranked[place];
        check_description(question, neighbour, answer).map_err(|error| format!("result {at}: {error}"))?;
        if let Some((before, key_before)) = last {
            let order = nearness(metric, before, answer.distance).then_with(|| key_before.cmp(&neighbour.key));
            if order.is_gt() {
                return Err(format!("result {at} is out of order: {before} before {}", answer.distance));
            }
        }
        last = Some((answer.distance, &neighbour.key));
        places.push(place);
    }
    Ok(places)
}

fn check_description(question: &Question<'_>, neighbour: &Neighbour, answer: &Answer) -> Result<(), String> {
    if !close(answer.distance, neighbour.distance) {
        return Err(format!("distance {} should be {}", answer.distance, neighbour.distance));
    }
    let wanted = |key: &String| question.attributes.is_none_or(|wanted| wanted.contains(key));
    let keys = question.index.attribute_order(question.source).into_iter().filter(wanted);
    let expected: Vec<_> = keys.filter_map(|key| neighbour.point.attributes.get_key_value(&key)).collect();
    if !expected.iter().copied().eq(answer.attributes.iter().map(|(key, value)| (key, value))) {
        return Err(format!("attributes {:?} should be {expected:?}", answer.attributes));
    }
    match (&answer.vector, question.vectors) {
        (None, false) => Ok(()),
        (Some(vector), true) if *vector == neighbour.point.vector => Ok(()),
        (vector, _) => Err(format!("vector {vector:?} should be {:?}", neighbour.point.vector)),
    }
}

/// Checks an exact answer: beyond [`check_found`], nothing nearer is left out.
///
/// # Errors
/// What is wrong.
pub fn check_exact(question: &Question<'_>, ranked: &[Neighbour], found: &[Answer]) -> Result<(), String> {
    let places = check_found(question, ranked, found)?;
    let Some(cut) = found.len().checked_sub(1).and_then(|last| ranked.get(last)) else { return Ok(()) };
    for (place, neighbour) in ranked.iter().enumerate() {
        let within = close(neighbour.distance, cut.distance);
        let is_nearer = !within && nearness(question.index.algorithm.metric, neighbour.distance, cut.distance).is_lt();
        let is_found = places.contains(&place);
        if is_nearer && !is_found {
            return Err(format!(
                "the point at place {place}, distance {}, is left out; the last of {} has {}",
                neighbour.distance,
                found.len(),
                cut.distance
            ));
        }
        if is_found && !is_nearer && !within {
            return Err(format!("the point at place {place}, distance {}, is too far", neighbour.distance));
        }
    }
    Ok(())
}

/// Checks an answer whose distances are exact in any precision: it is the ranking's beginning, ties included.
///
/// # Errors
/// What is wrong.
pub fn check_identical(question: &Question<'_>, ranked: &[Neighbour], found: &[Answer]) -> Result<(), String> {
    let places = check_found(question, ranked, found)?;
    match places.iter().enumerate().find(|(at, place)| at != *place) {
        None => Ok(()),
        Some((at, place)) => Err(format!(
            "result {at} should be at place {place}: distances {} and {}",
            ranked[at].distance, ranked[*place].distance
        )),
    }
}

/// Which fraction of the true neighbours was found; a point that ties with the last of them counts.
pub fn recall(ranked: &[Neighbour], places: &[usize]) -> f64 {
    let Some(cut) = places.len().checked_sub(1).and_then(|last| ranked.get(last)) else { return 1.0 };
    let good = places.iter().filter(|&&place| place < places.len() || close(ranked[place].distance, cut.distance));
    good.count() as f64 / places.len() as f64
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}
