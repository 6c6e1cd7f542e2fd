//! Whether an answer by a score, in groups, or of several lists is right, given the reference's list of all points.

use std::collections::BTreeMap;

use tarn_model::{AttributeValue, DataSource, PointKey};

use super::Answer;
use crate::reference::Neighbour;
use crate::shaped::{Groups, RankBy, grouped};

/// How much of an answer follows from the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Judged {
    /// All of it, to the last bit.
    Bits,
    /// All but who of those with about the same score comes first; scores may be off by so much.
    About(f64),
    /// Only that what is there is true and in order: an approximate search, or one that was cut short.
    Sound {
        /// How far scores may be off; infinitely where they do not follow from the points: places in approximate lists.
        tolerance: f64,
        /// Points that there are at least.
        least: usize,
    },
}

/// What an answer should be.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The data source.
    pub source: &'a DataSource,
    /// Every point in question, the best first.
    pub ranked: &'a [Neighbour],
    /// In which order.
    pub order: RankBy,
    /// How many points at most, unless there are groups.
    pub limit: usize,
    /// Only these attributes; the permanent ones are among them.
    pub attributes: Option<&'a [String]>,
    /// With vectors.
    pub vectors: bool,
    /// How strictly it is judged.
    pub judged: Judged,
}

/// Checks one list.
///
/// # Errors
/// What is wrong.
pub fn check_line(wanted: &Wanted<'_>, found: &[Answer]) -> Result<(), String> {
    let points = points(wanted, found)?;
    in_order(wanted, &points)?;
    let expected = wanted.limit.min(wanted.ranked.len());
    let least = if let Judged::Sound { least, .. } = wanted.judged { least.min(wanted.limit) } else { expected };
    if points.len() > wanted.limit || points.len() < least {
        return Err(format!("{} points, expected {least} to {}", points.len(), wanted.limit));
    }
    if let Judged::Sound { .. } = wanted.judged {
        return Ok(());
    }
    for (at, (point, own)) in points.iter().zip(wanted.ranked).enumerate() {
        same(wanted, point, own).map_err(|error| format!("result {at}: {error}"))?;
    }
    Ok(())
}

/// Checks one list in groups: of each, its value, its score and how many of the points are its own.
///
/// # Errors
/// What is wrong.
pub fn check_groups(
    wanted: &Wanted<'_>,
    groups: &Groups<'_>,
    answered: &[(AttributeValue, f64, usize)],
    found: &[Answer],
) -> Result<(), String> {
    let points = points(wanted, found)?;
    let mut rest = points.as_slice();
    let mut last: Option<f64> = None;
    let mut values: Vec<&AttributeValue> = Vec::new();
    for (value, score, count) in answered {
        let Some((own, others)) = rest.split_at_checked(*count) else {
            return Err(format!("group {value} has {count} points, of which {} are there", rest.len()));
        };
        rest = others;
        if values.contains(&value) || own.is_empty() || own.len() > groups.limit {
            return Err(format!("group {value} has {count} points, or is there twice"));
        }
        values.push(value);
        in_order(wanted, own).map_err(|error| format!("group {value}: {error}"))?;
        if own.iter().any(|point| point.own.point.attributes.get(groups.by) != Some(value)) {
            return Err(format!("group {value} has a point of another one"));
        }
        let scores: Vec<f64> = own.iter().map(|point| point.distance).collect();
        let made = (groups.score)(&scores);
        if !about(made, *score, 1e-9) {
            return Err(format!("group {value} has the score {score}, its points make {made}"));
        }
        if last.is_some_and(|last| if wanted.order.higher_is_better { last < *score } else { last > *score }) {
            return Err(format!("group {value} is out of order"));
        }
        last = Some(*score);
        if !matches!(wanted.judged, Judged::Sound { .. }) {
            whole(wanted, groups, value, own).map_err(|error| format!("group {value}: {error}"))?;
        }
    }
    if !rest.is_empty() || answered.len() > groups.wanted {
        return Err(format!("{} points of no group, {} groups", rest.len(), answered.len()));
    }
    let expected = grouped(wanted.ranked, wanted.order, groups);
    let keys = |(value, score, count): &(AttributeValue, f64, usize), from: usize| {
        let keys: Vec<PointKey> = points[from..from + count].iter().map(|point| point.own.key.clone()).collect();
        (value.clone(), *score, keys)
    };
    match wanted.judged {
        Judged::Sound { .. } => Ok(()),
        Judged::Bits => {
            let mut from = 0;
            let mut seen = Vec::with_capacity(answered.len());
            for group in answered {
                seen.push(keys(group, from));
                from += group.2;
            }
            if seen == expected { Ok(()) } else { Err(format!("groups {seen:?} should be {expected:?}")) }
        }
        Judged::About(_) if expected.len() != answered.len() => {
            Err(format!("{} groups should be {}", answered.len(), expected.len()))
        }
        Judged::About(_) => Ok(()),
    }
}

/// A group has its nearest points, as many as there are.
fn whole(wanted: &Wanted<'_>, groups: &Groups<'_>, value: &AttributeValue, own: &[Point<'_>]) -> Result<(), String> {
    let members = wanted.ranked.iter().filter(|other| other.point.attributes.get(groups.by) == Some(value));
    let members: Vec<&Neighbour> = members.take(groups.limit).collect();
    if members.len() != own.len() {
        return Err(format!("{} points should be {}", own.len(), members.len()));
    }
    own.iter().zip(members).try_for_each(|(point, member)| same(wanted, point, member))
}

struct Point<'a> {
    own: &'a Neighbour,
    distance: f64,
}

/// The points of an answer, each there once and truly described.
fn points<'a>(wanted: &Wanted<'a>, found: &[Answer]) -> Result<Vec<Point<'a>>, String> {
    let known: BTreeMap<&PointKey, &Neighbour> = wanted.ranked.iter().map(|own| (&own.key, own)).collect();
    let mut seen = std::collections::BTreeSet::new();
    let mut points = Vec::with_capacity(found.len());
    for (at, answer) in found.iter().enumerate() {
        let attributes = answer.attributes.iter().cloned().collect();
        let key = PointKey::encode(wanted.source, &attributes).map_err(|error| format!("result {at}: {error}"))?;
        let Some(own) = known.get(&key) else {
            return Err(format!("result {at} is not among the {} candidates: {answer:?}", known.len()));
        };
        if !seen.insert(key) {
            return Err(format!("result {at} is found twice: {answer:?}"));
        }
        let is_wanted = |name: &String| wanted.attributes.is_none_or(|wanted| wanted.contains(name));
        let mut expected = own.point.attributes.clone();
        expected.retain(|name, _| is_wanted(name));
        if attributes != expected {
            return Err(format!("result {at}: attributes {attributes:?} should be {expected:?}"));
        }
        let vector = wanted.vectors.then_some(&own.point.vector);
        if answer.vector.as_ref() != vector {
            return Err(format!("result {at}: vector {:?} should be {vector:?}", answer.vector));
        }
        let tolerance = match wanted.judged {
            Judged::Bits => 0.0,
            Judged::About(tolerance) | Judged::Sound { tolerance, .. } => tolerance,
        };
        if !about(answer.distance, own.distance, tolerance) {
            return Err(format!("result {at}: score {} should be {}", answer.distance, own.distance));
        }
        points.push(Point { own, distance: answer.distance });
    }
    Ok(points)
}

fn in_order(wanted: &Wanted<'_>, points: &[Point<'_>]) -> Result<(), String> {
    for pair in points.windows(2) {
        let answered = |point: &Point<'_>| Neighbour { distance: point.distance, ..point.own.clone() };
        if wanted.order.compare(&answered(&pair[0]), &answered(&pair[1])).is_gt() {
            return Err(format!("out of order: {} before {}", pair[0].distance, pair[1].distance));
        }
    }
    Ok(())
}

/// Whether a point is the one that should be in its place.
fn same(wanted: &Wanted<'_>, point: &Point<'_>, own: &Neighbour) -> Result<(), String> {
    let right = match wanted.judged {
        Judged::Bits => point.own.key == own.key,
        Judged::About(tolerance) => about(point.distance, own.distance, tolerance),
        Judged::Sound { .. } => true,
    };
    match right {
        true => Ok(()),
        false => {
            Err(format!("{:?} with {} should be {:?} with {}", point.own.key, point.distance, own.key, own.distance))
        }
    }
}

fn about(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0)
}
