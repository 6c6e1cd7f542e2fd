//! One list of several. Owns `lists-fuse-exactly`: the first n of the whole are the first n of what the first n of each make.

use std::collections::HashMap;

use crate::leaf::LeafHit;
use crate::ranking::Order;

/// Added to a place before its reciprocal is taken: the value of the paper, which damps the first places.
const RECIPROCAL_BASE: f64 = 60.0;

/// Some points in order, each once; what is missing comes after them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct List {
    /// The best first.
    pub(crate) hits: Vec<LeafHit>,
    /// Whether nothing is missing.
    pub(crate) is_all: bool,
}

/// Each point by the best of its scores; the first `depth` of them, which is no more than each list was asked for.
pub(crate) fn best(lists: Vec<List>, order: Order, depth: usize) -> List {
    let is_all = lists.iter().all(|list| list.is_all);
    let mut lists = lists;
    if lists.len() == 1 {
        return lists.pop().unwrap_or_default();
    }
    let mut points: HashMap<Vec<u8>, LeafHit> = HashMap::new();
    for hit in lists.into_iter().flat_map(|list| list.hits) {
        match points.get_mut(&hit.key) {
            Some(known) if order.scores(hit.found.distance, known.found.distance).is_lt() => *known = hit,
            Some(_) => {}
            None => drop(points.insert(hit.key.clone(), hit)),
        }
    }
    let mut hits: Vec<LeafHit> = points.into_values().collect();
    sort(&mut hits, order);
    let is_all = is_all && hits.len() <= depth;
    hits.truncate(depth);
    List { hits, is_all }
}

/// Each point by its places in the lists: the sum of 1 / (60 + place), the first place being 1; more is better.
pub(crate) fn reciprocal(lists: Vec<List>) -> List {
    let is_all = lists.iter().all(|list| list.is_all);
    let mut points: HashMap<Vec<u8>, LeafHit> = HashMap::new();
    for list in lists {
        for (place, mut hit) in (1u32..).zip(list.hits) {
            let score = 1.0 / (RECIPROCAL_BASE + f64::from(place));
            match points.get_mut(&hit.key) {
                Some(known) => known.found.distance += score,
                None => {
                    hit.found.distance = score;
                    points.insert(hit.key.clone(), hit);
                }
            }
        }
    }
    let mut hits: Vec<LeafHit> = points.into_values().collect();
    sort(&mut hits, Order { higher: true });
    List { hits, is_all }
}

pub(super) fn sort(hits: &mut [LeafHit], order: Order) {
    hits.sort_unstable_by(|a, b| order.compare((a.found.distance, &a.key), (b.found.distance, &b.key)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Found;

    const ASCENDING: Order = Order { higher: false };

    fn list(hits: &[(u8, f64)], is_all: bool) -> List {
        let hit = |&(key, distance): &(u8, f64)| LeafHit {
            key: vec![key],
            found: Found { attributes: Vec::new(), vector: None, distance },
        };
        List { hits: hits.iter().map(hit).collect(), is_all }
    }

    fn seen(list: &List) -> Vec<(u8, f64)> {
        list.hits.iter().map(|hit| (hit.key[0], hit.found.distance)).collect()
    }

    #[test]
    fn a_point_in_several_lists_is_there_once_with_its_best_score() {
        let lists = vec![list(&[(1, 0.5), (2, 1.0)], false), list(&[(3, 0.5), (1, 0.7), (4, 3.0)], true)];
        let fused = best(lists.clone(), ASCENDING, 3);
        assert_eq!(seen(&fused), [(1, 0.5), (3, 0.5), (2, 1.0)], "equal scores by key");
        assert!(!fused.is_all);
        let descending =
            best(vec![list(&[(2, 9.0), (1, 0.5)], true), list(&[(1, 10.0)], true)], Order { higher: true }, 9);
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
            let fused = best(vec![sorted(&|p| p.1, n), sorted(&|p| p.2, n)], ASCENDING, n);
            assert_eq!(fused, sorted(&|p| p.1.min(p.2), n), "{n}");
        }
    }

    #[test]
    fn places_count_whatever_the_scores() {
        let fused = reciprocal(vec![list(&[(1, 0.1), (2, 0.2)], true), list(&[(2, 700.0), (3, 600.0)], true)]);
        let places = [(2, 1.0 / 62.0 + 1.0 / 61.0), (1, 1.0 / 61.0), (3, 1.0 / 62.0)];
        assert_eq!(seen(&fused), places);
    }
}
