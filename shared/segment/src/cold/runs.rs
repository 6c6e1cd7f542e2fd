//! At most so many runs of adjacent items, worth the most together: what to read when the number of reads is bounded.
//!
//! An item is worth what is hoped for in it less what its bytes cost; that may be negative, and reading it pays only to join
//! what lies on both sides. Neighbours of one sign stay together in a best choice, so items become a sequence of gains and
//! losses in turn. From all gains, the runs are made fewer one by one: the smallest of what is left, a gain given up or a loss
//! accepted, costs least, and what lies beside it becomes one. That is exact (Csűrös, *Maximum-scoring segment sets*, 2004),
//! in O(n log n).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// No neighbour.
const NONE: usize = usize::MAX;

/// A stretch of items of one sign, or several that have become one.
struct Node {
    items: Range<usize>,
    sum: f64,
    before: usize,
    after: usize,
    alive: bool,
}

/// The runs of items, ascending, that are worth most, at most `most` of them. Runs worth nothing are left out.
pub(crate) fn best_runs(worth: &[f64], most: usize) -> Vec<Range<usize>> {
    let mut nodes = stretches(worth);
    let mut gains = nodes.iter().filter(|node| node.sum > 0.0).count();
    let mut heap: BinaryHeap<Reverse<(Magnitude, usize)>> =
        nodes.iter().enumerate().map(|(at, node)| Reverse((Magnitude(node.sum.abs()), at))).collect();
    while gains > most {
        let Some(Reverse((Magnitude(size), at))) = heap.pop() else { break };
        // What has changed since stands elsewhere in the heap.
        if !nodes[at].alive || nodes[at].sum.abs() != size {
            continue;
        }
        let (before, after) = (nodes[at].before, nodes[at].after);
        if nodes[at].sum <= 0.0 && (before == NONE || after == NONE) {
            // A loss at an end joins nothing.
            continue;
        }
        for other in [before, after] {
            if other != NONE {
                nodes[at].sum += nodes[other].sum;
                nodes[other].alive = false;
            }
        }
        if before != NONE {
            nodes[at].items.start = nodes[before].items.start;
            let farther = nodes[before].before;
            nodes[at].before = farther;
            if farther != NONE {
                nodes[farther].after = at;
            }
        }
        if after != NONE {
            nodes[at].items.end = nodes[after].items.end;
            let farther = nodes[after].after;
            nodes[at].after = farther;
            if farther != NONE {
                nodes[farther].before = at;
            }
        }
        // Either way there is one gain less: this one, or one of two that are now joined.
        gains -= 1;
        heap.push(Reverse((Magnitude(nodes[at].sum.abs()), at)));
    }
    let mut runs: Vec<Range<usize>> =
        nodes.into_iter().filter(|node| node.alive && node.sum > 0.0).map(|node| node.items).collect();
    runs.sort_unstable_by_key(|run| run.start);
    runs.truncate(most);
    runs
}

/// Neighbours of one sign together, gains and losses in turn; no losses at the ends.
fn stretches(worth: &[f64]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for (at, &x) in worth.iter().enumerate() {
        match nodes.last_mut() {
            Some(last) if (last.sum > 0.0) == (x > 0.0) => {
                last.items.end = at + 1;
                last.sum += x;
            }
            None if x <= 0.0 => {}
            _ => nodes.push(Node { items: at..at + 1, sum: x, before: NONE, after: NONE, alive: true }),
        }
    }
    if nodes.last().is_some_and(|last| last.sum <= 0.0) {
        nodes.pop();
    }
    let count = nodes.len();
    for (at, node) in nodes.iter_mut().enumerate() {
        node.before = at.checked_sub(1).unwrap_or(NONE);
        node.after = if at + 1 < count { at + 1 } else { NONE };
    }
    nodes
}

/// At most `most` runs that hold all these items, which ascend, and as little else as possible; what lies between two items
/// costs as many bytes as `gap` says.
pub(crate) fn covering_runs<T: Copy>(items: &[T], most: usize, gap: impl Fn(T, T) -> u64) -> Vec<Range<usize>> {
    let mut gaps: Vec<(u64, usize)> =
        items.windows(2).map(|pair| gap(pair[0], pair[1])).zip(1..).filter(|(bytes, _)| *bytes > 0).collect();
    // The largest stay open.
    gaps.sort_unstable_by_key(|&(bytes, at)| (Reverse(bytes), at));
    gaps.truncate(most.saturating_sub(1));
    let mut cuts: Vec<usize> = gaps.into_iter().map(|(_, at)| at).collect();
    cuts.sort_unstable();
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain(std::iter::once(items.len()));
    starts.zip(ends).map(|(start, end)| start..end).filter(|run| !run.is_empty()).collect()
}

/// The same in at most `most` runs, with as little as possible of what lies between them; `gap` says how much that is.
pub(crate) fn joined<T: Copy>(runs: &[Range<T>], most: usize, gap: impl Fn(T, T) -> u64) -> Vec<Range<T>> {
    let numbers: Vec<usize> = (0..runs.len()).collect();
    let joined = covering_runs(&numbers, most, |a, b| gap(runs[a].end, runs[b].start));
    joined.into_iter().map(|run| runs[run.start].start..runs[run.end - 1].end).collect()
}

/// A number that is not negative, with the order of its bits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Magnitude(f64);

impl Eq for Magnitude {}

impl PartialOrd for Magnitude {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Magnitude {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The worth of the best choice, by trying everything: inside or outside of a run, item by item.
    fn best_worth(worth: &[f64], most: usize) -> f64 {
        let mut outside = vec![f64::NEG_INFINITY; most + 1];
        let mut inside = vec![f64::NEG_INFINITY; most + 1];
        outside[0] = 0.0;
        for x in worth {
            for runs in (0..=most).rev() {
                let open = if runs == 0 { f64::NEG_INFINITY } else { outside[runs - 1].max(inside[runs - 1]) };
                let ends = inside[runs];
                inside[runs] = inside[runs].max(open) + x;
                outside[runs] = outside[runs].max(ends);
            }
        }
        outside.into_iter().chain(inside).fold(0.0, f64::max)
    }

    #[test]
    fn the_smallest_gaps_are_closed_to_have_fewer_runs() {
        let runs = [2..4, 5..6, 16..17, 20..30u32];
        let few = |most| joined(&runs, most, |a, b| u64::from(b - a));
        assert_eq!(few(9), runs);
        assert_eq!(few(3), [2..6, 16..17, 20..30]);
        assert_eq!(few(2), [2..6, 16..30]);
        assert_eq!(few(1), std::iter::once(2..30).collect::<Vec<_>>());
        assert_eq!(joined(&[], 3, |_: u32, _| 0), []);
    }

    proptest! {
        #[test]
        fn no_other_choice_is_worth_more(worth in prop::collection::vec(-20i32..20, 0..60), most in 0usize..6) {
            let worth: Vec<f64> = worth.into_iter().map(f64::from).collect();
            let runs = best_runs(&worth, most);
            prop_assert!(runs.len() <= most);
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
            let sum: f64 = runs.iter().flat_map(|run| &worth[run.clone()]).sum();
            prop_assert_eq!(sum, best_worth(&worth, most));
        }

        #[test]
        fn runs_that_must_hold_everything_leave_the_largest_gaps_out(
            items in prop::collection::btree_set(0u64..200, 0..20), most in 1usize..6,
        ) {
            let items: Vec<u64> = items.into_iter().collect();
            let runs = covering_runs(&items, most, |a, b| b - a - 1);
            prop_assert!(runs.len() <= most);
            prop_assert!(runs.iter().cloned().flatten().eq(0..items.len()));
            let read: u64 = runs.iter().map(|run| items[run.end - 1] - items[run.start] + 1).sum();
            let mut gaps: Vec<u64> = items.windows(2).map(|pair| pair[1] - pair[0] - 1).collect();
            gaps.sort_unstable();
            let closed: u64 = gaps[..gaps.len().saturating_sub(most - 1)].iter().sum();
            prop_assert_eq!(read, items.len() as u64 + closed);
        }
    }
}
