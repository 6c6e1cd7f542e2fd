//! One list of several. Owns `lists-fuse-exactly`: the first n of the whole are the first n of what the first n of each make.

use std::collections::HashMap;
use std::sync::Arc;

use crate::leaf::LeafHit;
use crate::ranking::Order;

/// Added to a place before its reciprocal is taken: the value of the paper, which damps the first places.
const RECIPROCAL_BASE: f64 = 60.0;

/// A point in a list. One point may be in many lists.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hit {
    /// In this list. The point's own distance is that of the search that found it.
    pub(crate) score: f64,
    pub(crate) point: Arc<LeafHit>,
}

/// Some points in order, each once; what is missing comes after them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct List {
    /// The best first.
    pub(crate) hits: Vec<Hit>,
    /// Whether nothing is missing.
    pub(crate) is_all: bool,
}

/// Each point by the best of its scores; the first `depth` of them, which is no more than each list was asked for. A point in several
/// lists is the one in the first of these.
pub(crate) fn best(lists: &[&List], order: Order, depth: usize) -> List {
    if let [only] = lists {
        return (*only).clone();
    }
    let better = |score: &mut f64, other: f64| {
        if order.scores(other, *score).is_lt() {
            *score = other;
        }
    };
    let mut hits = fused(lists, |_, hit| hit.score, better);
    sort(&mut hits, order);
    let is_all = lists.iter().all(|list| list.is_all) && hits.len() <= depth;
    hits.truncate(depth);
    List { hits, is_all }
}

/// Each point by its places in the lists: the sum of 1 / (60 + place), the first place being 1; more is better.
pub(crate) fn reciprocal(lists: &[&List]) -> List {
    let of_place = |place: u32, _: &Hit| 1.0 / (RECIPROCAL_BASE + f64::from(place));
    let mut hits = fused(lists, of_place, |sum, score| *sum += score);
    sort(&mut hits, Order { higher: true });
    List { hits, is_all: lists.iter().all(|list| list.is_all) }
}

/// Each point once, in no order. `score`: from place and hit; `add`: puts a point's next score to those it has.
fn fused(lists: &[&List], score: impl Fn(u32, &Hit) -> f64, add: impl Fn(&mut f64, f64)) -> Vec<Hit> {
    let mut points: HashMap<&[u8], Hit> = HashMap::new();
    for list in lists {
        for (place, hit) in (1u32..).zip(&list.hits) {
            let score = score(place, hit);
            match points.get_mut(hit.point.key.as_slice()) {
                Some(known) => add(&mut known.score, score),
                None => drop(points.insert(&hit.point.key, Hit { score, point: Arc::clone(&hit.point) })),
            }
        }
    }
    points.into_values().collect()
}

pub(super) fn sort(hits: &mut [Hit], order: Order) {
    hits.sort_unstable_by(|a, b| order.compare((a.score, &a.point.key), (b.score, &b.point.key)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Found;

    const ASCENDING: Order = Order { higher: false };

    fn list(hits: &[(u8, f64)], is_all: bool) -> List {
        let hit = |&(key, score): &(u8, f64)| {
            let found = Found { attributes: Vec::new(), vector: None, distance: score };
            Hit { score, point: Arc::new(LeafHit { key: vec![key], found }) }
        };
        List { hits: hits.iter().map(hit).collect(), is_all }
    }

    fn seen(list: &List) -> Vec<(u8, f64)> {
        list.hits.iter().map(|hit| (hit.point.key[0], hit.score)).collect()
    }

    #[test]
    fn a_point_in_several_lists_is_there_once_with_its_best_score() {
        let lists = [list(&[(1, 0.5), (2, 1.0)], false), list(&[(3, 0.5), (1, 0.7), (4, 3.0)], true)];
        let fused = best(&[&lists[0], &lists[1]], ASCENDING, 3);
        assert_eq!(seen(&fused), [(1, 0.5), (3, 0.5), (2, 1.0)], "equal scores by key");
        assert!(!fused.is_all);
        let descending =
            best(&[&list(&[(2, 9.0), (1, 0.5)], true), &list(&[(1, 10.0)], true)], Order { higher: true }, 9);
        assert_eq!((seen(&descending), descending.is_all), (vec![(1, 10.0), (2, 9.0)], true));
    }

    #[test]
    fn lists_fuse_exactly() {
        // Of every point, the scores by two vectors; from the first n of each list come the first n of the whole.
        let scores: Vec<(u8, f64, f64)> =
            (0u8..60).map(|i| (i, f64::from(i.wrapping_mul(37) % 16), f64::from(i.wrapping_mul(91) % 16))).collect();
        let sorted = |score: &dyn Fn(&(u8, f64, f64)) -> f64, n: usize| {
            let all: Vec<(u8, f64)> = scores.iter().map(|point| (point.0, score(point))).collect();
            let mut all = list(&all, n >= scores.len());
            sort(&mut all.hits, ASCENDING);
            all.hits.truncate(n);
            all
        };
        for n in 1..=70 {
            let fused = best(&[&sorted(&|p| p.1, n), &sorted(&|p| p.2, n)], ASCENDING, n);
            let whole = sorted(&|p| p.1.min(p.2), n);
            assert_eq!((seen(&fused), fused.is_all), (seen(&whole), whole.is_all), "{n}");
        }
    }

    #[test]
    fn a_point_of_two_indices_is_the_firsts_whichever_scores_better() {
        let named = |name: &str, distance| {
            let attributes = vec![(name.to_owned(), tarn_model::AttributeValue::Bool(true))];
            let found = Found { attributes, vector: None, distance };
            let hits = vec![Hit { score: distance, point: Arc::new(LeafHit { key: vec![1], found }) }];
            List { hits, is_all: true }
        };
        let (ours, theirs) = (named("ours", 2.0), named("theirs", 1.0));
        for fused in [best(&[&ours, &theirs], ASCENDING, 5), reciprocal(&[&ours, &theirs])] {
            assert_eq!(fused.hits[0].point, ours.hits[0].point);
        }
        assert_eq!(seen(&best(&[&ours, &theirs], ASCENDING, 5)), [(1, 1.0)]);
    }

    #[test]
    fn places_count_whatever_the_scores() {
        let fused = reciprocal(&[&list(&[(1, 0.1), (2, 0.2)], true), &list(&[(2, 700.0), (3, 600.0)], true)]);
        let places = [(2, 1.0 / 62.0 + 1.0 / 61.0), (1, 1.0 / 61.0), (3, 1.0 / 62.0)];
        assert_eq!(seen(&fused), places);
    }
}
