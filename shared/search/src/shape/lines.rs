//! What each result is made of, and how it is put together from the neighbours of vectors.
//!
//! What all results have in common, the neighbours of the context, is put together once. Looks at every hit; whoever calls it
//! sees to it that it does so where computing belongs.

use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use super::{Combine, List, best, reciprocal};
use crate::ranking::Order;

/// What one result is made of.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) parts: Vec<Part>,
    pub(crate) fuse: Combine,
}

impl Line {
    /// Whether it takes more than one score of every point.
    pub(crate) fn is_sum(&self) -> bool {
        self.fuse == Combine::Sum && self.parts.len() > 1
    }

    /// The order of the result; `order`: of the first side.
    pub(crate) fn order(&self, order: Order) -> Order {
        match self.fuse {
            Combine::ReciprocalRank => Order { higher: true },
            Combine::Best | Combine::Sum => order,
        }
    }
}

/// The points near some vectors of one side, by the best of their scores.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Which index.
    pub(crate) side: usize,
    /// The part's own vector, by position among the side's.
    pub(crate) own: Option<usize>,
    /// Whether the context's vectors count too.
    pub(crate) with_context: bool,
}

impl Part {
    /// The positions of its vectors. `context`: those of the context's.
    pub(crate) fn vectors(&self, context: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let context = if self.with_context { context.clone() } else { 0..0 };
        self.own.into_iter().chain(context)
    }
}

/// The neighbours of vectors, and what is to be made of them.
pub(crate) struct Neighbours {
    /// Of each side, by the vector's position.
    pub(crate) lists: Vec<HashMap<usize, List>>,
    /// Of each side.
    pub(crate) orders: Vec<Order>,
    /// The positions of the context's vectors, on the first side.
    pub(crate) context: Range<usize>,
    /// How long a list was asked for.
    pub(crate) depth: usize,
}

impl Neighbours {
    /// How many hits are looked at for these lines.
    pub(crate) fn work(&self, lines: &[Line]) -> usize {
        let lists = self.lists.iter().flat_map(HashMap::values).map(|list| list.hits.len()).sum::<usize>();
        let parts = lines.iter().map(|line| line.parts.len()).sum::<usize>();
        lists.saturating_add(parts.saturating_mul(self.depth))
    }

    /// The `depth` best of each line. `None`: `stop` said so.
    pub(crate) fn fuse(&self, lines: &[Line], stop: &(dyn Fn() -> bool + Sync)) -> Option<Vec<List>> {
        let of = |side: usize, at: usize| self.lists.get(side)?.get(&at);
        let near_context: Vec<&List> = self.context.clone().filter_map(|at| of(0, at)).collect();
        let near_context = (!near_context.is_empty()).then(|| best(&near_context, self.orders[0], self.depth));
        let part = |part: &Part| {
            let own = part.own.and_then(|at| of(part.side, at));
            let context = near_context.as_ref().filter(|_| part.with_context);
            let lists: Vec<&List> = own.into_iter().chain(context).collect();
            best(&lists, self.orders[part.side], self.depth)
        };
        let line = |line: &Line| {
            if stop() {
                return None;
            }
            let parts: Vec<List> = line.parts.iter().map(part).collect();
            let parts: Vec<&List> = parts.iter().collect();
            Some(match line.fuse {
                Combine::ReciprocalRank => reciprocal(&parts),
                Combine::Best | Combine::Sum => best(&parts, self.orders[0], self.depth),
            })
        };
        match lines {
            [only] => line(only).map(|list| vec![list]),
            many => many.par_iter().map(line).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::leaf::LeafHit;
    use crate::request::Found;
    use crate::shape::Hit;

    /// Points 0 to 49 by some score.
    fn list(salt: u8, depth: usize) -> List {
        let hit = |point: u8| {
            let score = f64::from(point.wrapping_add(1).wrapping_mul(salt) % 32);
            let found = Found { attributes: Vec::new(), vector: None, distance: score };
            Hit { score, point: Arc::new(LeafHit { key: vec![point], found }) }
        };
        let mut hits: Vec<Hit> = (0..50).map(hit).collect();
        super::super::fuse::sort(&mut hits, Order { higher: false });
        hits.truncate(depth);
        List { hits, is_all: depth >= 50 }
    }

    fn neighbours(depth: usize) -> Neighbours {
        let lists = [31, 57, 93, 121, 17].map(|salt| list(salt, depth)).into_iter().enumerate().collect();
        Neighbours { lists: vec![lists], orders: vec![Order { higher: false }], context: 2..5, depth }
    }

    fn line(own: Option<usize>) -> Line {
        Line { parts: vec![Part { side: 0, own, with_context: true }], fuse: Combine::Best }
    }

    #[test]
    fn context_that_is_put_together_once_gives_what_all_lists_give_together() {
        for depth in [1, 2, 7, 30, 50, 60] {
            let neighbours = neighbours(depth);
            let fused = neighbours.fuse(&[line(Some(0)), line(Some(1)), line(None)], &|| false).unwrap();
            for (at, own) in [Some(0), Some(1), None].into_iter().enumerate() {
                let lists: Vec<&List> = own.into_iter().chain(2..5).map(|at| &neighbours.lists[0][&at]).collect();
                let whole = best(&lists, Order { higher: false }, depth);
                let seen = |list: &List| -> Vec<(Vec<u8>, f64)> {
                    list.hits.iter().map(|hit| (hit.point.key.clone(), hit.score)).collect()
                };
                assert_eq!((seen(&fused[at]), fused[at].is_all), (seen(&whole), whole.is_all), "{depth} {own:?}");
            }
        }
    }

    #[test]
    fn whoever_goes_away_ends_it_between_two_lines() {
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 3;
        let lines: Vec<Line> = (0..1000).map(|_| line(Some(0))).collect();
        assert!(neighbours(20).fuse(&lines, &stop).is_none());
        assert!(asked.load(Ordering::Relaxed) < 900, "lines after the end are not put together");
    }
}
