//! Groups from lists of points. Owns `groups-are-of-the-nearest`.
//!
//! The groups that are considered are those of the k nearest points and, when these are fewer than wanted, those of the next
//! nearest until there are enough. Of each, the nearest points up to the limit count; they are what the group's score is of.

use std::collections::{HashMap, HashSet};

use tarn_model::{AttributeValue, Filter, encode_value};

use super::{FoundGroup, GroupScore, Grouping, Hit, List};
use crate::ranking::Order;

/// The filter that groups of none but these values satisfy.
pub(crate) fn among(by: &str, values: Vec<AttributeValue>) -> Filter {
    Filter::In { attribute: by.to_owned(), values }
}

/// The filter that groups of all but these values satisfy.
pub(crate) fn not_among(by: &str, values: Vec<AttributeValue>) -> Filter {
    Filter::Not(Box::new(among(by, values)))
}

/// Of how many groups these points are.
pub(crate) fn groups_among(hits: &[Hit], by: &str) -> usize {
    let values = hits.iter().filter_map(|hit| value_of(hit, by));
    values.map(key).collect::<HashSet<_>>().len()
}

/// What a point is grouped by.
fn value_of<'a>(hit: &'a Hit, by: &str) -> Option<&'a AttributeValue> {
    hit.point.found.attributes.iter().find(|(name, _)| name == by).map(|(_, value)| value)
}

/// Groups as far as they are known, in the order of their nearest points.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    groups: Vec<Group>,
    /// By the canonical bytes of the value.
    places: HashMap<Vec<u8>, usize>,
}

#[derive(Debug)]
struct Group {
    value: AttributeValue,
    /// Its nearest points, in order.
    hits: Vec<Hit>,
    /// Whether all that are wanted of it, or all that there are, are here.
    is_whole: bool,
}

impl Gathered {
    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Their values.
    pub(crate) fn values(&self) -> Vec<AttributeValue> {
        self.groups.iter().map(|group| group.value.clone()).collect()
    }

    /// Adds points that are farther than all before and of no group that is known.
    pub(crate) fn append(&mut self, list: List, grouping: &Grouping) {
        let first = self.groups.len();
        self.add(list.hits, grouping);
        for group in &mut self.groups[first..] {
            group.is_whole = list.is_all || group.hits.len() >= grouping.limit as usize;
        }
    }

    /// Drops the groups after the first so many.
    pub(crate) fn keep(&mut self, most: usize) {
        for group in self.groups.drain(most.min(self.groups.len())..) {
            self.places.remove(&key(&group.value));
        }
    }

    /// Up to so many groups of which there may be more points, by value.
    pub(crate) fn partial(&self, most: usize) -> Vec<AttributeValue> {
        self.groups.iter().filter(|group| !group.is_whole).map(|group| group.value.clone()).take(most).collect()
    }

    /// Replaces what is known of some groups by their nearest points. Returns whether any of them is whole now.
    pub(crate) fn replace(&mut self, of: &[AttributeValue], list: List, grouping: &Grouping) -> bool {
        let places: Vec<usize> = of.iter().filter_map(|value| self.places.get(&key(value)).copied()).collect();
        for &place in &places {
            self.groups[place].hits.clear();
        }
        self.add(list.hits, grouping);
        let mut any = false;
        for place in places {
            let group = &mut self.groups[place];
            group.is_whole = list.is_all || group.hits.len() >= grouping.limit as usize;
            any |= group.is_whole;
        }
        any
    }

    fn add(&mut self, hits: Vec<Hit>, grouping: &Grouping) {
        for hit in hits {
            let Some(value) = value_of(&hit, &grouping.by) else { continue };
            let place = *self.places.entry(key(value)).or_insert_with(|| {
                self.groups.push(Group { value: value.clone(), hits: Vec::new(), is_whole: false });
                self.groups.len() - 1
            });
            let group = &mut self.groups[place].hits;
            if group.len() < grouping.limit as usize {
                group.push(hit);
            }
        }
    }

    /// The best groups, and their points one group after the other.
    pub(crate) fn ranked(self, score: GroupScore, order: Order, most: usize) -> (Vec<Hit>, Vec<FoundGroup>) {
        let mut scored: Vec<(f64, Group)> =
            self.groups.into_iter().filter_map(|group| Some((score.of(&group.hits)?, group))).collect();
        // Groups of the same score stay in the order of their nearest points.
        scored.sort_by(|a, b| order.scores(a.0, b.0));
        scored.truncate(most);
        let (mut hits, mut groups) = (Vec::new(), Vec::with_capacity(scored.len()));
        for (score, group) in scored {
            groups.push(FoundGroup { value: group.value, score, points: group.hits.len() });
            hits.extend(group.hits);
        }
        (hits, groups)
    }
}

impl GroupScore {
    /// Of points in order; `None` without any.
    fn of(self, hits: &[Hit]) -> Option<f64> {
        let best = hits.first()?.score;
        let sum: f64 = hits.iter().map(|hit| hit.score).sum();
        let count = hits.len() as f64;
        Some(match self {
            Self::Best => best,
            Self::Sum => sum,
            Self::SumOverSquare => sum / (count * count),
        })
    }
}

fn key(value: &AttributeValue) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_value(value, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::leaf::LeafHit;
    use crate::request::Found;

    const ASCENDING: Order = Order { higher: false };

    fn grouping(limit: u32, score: GroupScore) -> Grouping {
        Grouping { by: "g".to_owned(), limit, score, filter: None }
    }

    fn list(hits: &[(i64, f64)], is_all: bool) -> List {
        let hit = |(place, &(group, distance)): (usize, &(i64, f64))| {
            let attributes = vec![("g".to_owned(), AttributeValue::Int64(group))];
            let point = LeafHit { key: vec![place as u8], found: Found { attributes, vector: None, distance } };
            Hit { score: distance, point: Arc::new(point) }
        };
        List { hits: hits.iter().enumerate().map(hit).collect(), is_all }
    }

    fn values(groups: &[i64]) -> Vec<AttributeValue> {
        groups.iter().map(|&value| AttributeValue::Int64(value)).collect()
    }

    #[test]
    fn groups_are_ranked_by_their_score() {
        let points = [(1, 1.0), (2, 2.0), (2, 3.0), (1, 9.0), (3, 9.5), (2, 10.0)];
        for (score, order) in [
            (GroupScore::Best, [(1, 1.0, 2), (2, 2.0, 2), (3, 9.5, 1)]),
            (GroupScore::Sum, [(2, 5.0, 2), (3, 9.5, 1), (1, 10.0, 2)]),
            (GroupScore::SumOverSquare, [(2, 1.25, 2), (1, 2.5, 2), (3, 9.5, 1)]),
        ] {
            let grouping = grouping(2, score);
            let mut gathered = Gathered::default();
            gathered.append(list(&points, true), &grouping);
            assert!(gathered.partial(9).is_empty(), "all that there is");
            let (hits, groups) = gathered.ranked(score, ASCENDING, 9);
            let found: Vec<_> = groups.iter().map(|group| (&group.value, group.score, group.points)).collect();
            let order = order.map(|(value, score, points)| (AttributeValue::Int64(value), score, points));
            assert_eq!(found, order.iter().map(|(v, s, p)| (v, *s, *p)).collect::<Vec<_>>(), "{score:?}");
            assert_eq!(hits.len(), 5, "group 2 has a third");
        }
    }

    #[test]
    fn a_group_that_may_have_more_is_asked_for_again() {
        let grouping = grouping(2, GroupScore::Best);
        let mut gathered = Gathered::default();
        gathered.append(list(&[(1, 1.0), (2, 2.0), (2, 3.0)], false), &grouping);
        assert_eq!(gathered.partial(9), values(&[1]));
        gathered.append(list(&[(7, 4.0), (8, 5.0)], true), &grouping);
        assert_eq!((gathered.values(), gathered.partial(9)), (values(&[1, 2, 7, 8]), values(&[1])));
        gathered.keep(3);
        assert!(gathered.replace(&values(&[1]), list(&[(1, 1.0), (1, 6.0)], false), &grouping));
        assert!(gathered.partial(9).is_empty());
        let (hits, groups) = gathered.ranked(GroupScore::Best, ASCENDING, 2);
        assert_eq!((hits.len(), groups.len()), (4, 2));
    }
}
