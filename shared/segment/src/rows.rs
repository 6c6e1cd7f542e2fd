//! Which rows of a segment a search may return.
//!
//! Masks become *runs*, disjoint ascending row ranges, once per search; scans then walk runs and ask no bitmap per row.

use std::ops::Range;

use roaring::RoaringBitmap;

/// The rows that a search may return: those in a range, in `matches` if given, and in neither `deleted` nor `superseded`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows<'a> {
    /// The splits' row ranges. Ends beyond the segment are cut off; overlaps count once.
    pub ranges: &'a [Range<u32>],
    /// The catalog's deletion bitmap.
    pub deleted: Option<&'a RoaringBitmap>,
    /// Rows that the timeline's tail replaces or removes.
    pub superseded: Option<&'a RoaringBitmap>,
    /// Rows that satisfy the filter; `None` without a filter.
    pub matches: Option<&'a RoaringBitmap>,
}

/// The allowed rows as runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Disjoint, not empty, ascending.
    pub(crate) runs: Vec<Range<u32>>,
    /// Rows in all runs.
    pub(crate) count: u64,
}

impl Allowed {
    /// The rows below `total` that `rows` allows.
    pub(crate) fn resolve(rows: &Rows<'_>, total: u32) -> Self {
        let mut runs = normalise(rows.ranges, total);
        if let Some(matches) = rows.matches {
            runs = intersect(&runs, bitmap_runs(matches, &runs));
        }
        for mask in [rows.deleted, rows.superseded].into_iter().flatten() {
            if !mask.is_empty() {
                runs = subtract(&runs, bitmap_runs(mask, &runs));
            }
        }
        let count = runs.iter().map(|run| u64::from(run.end - run.start)).sum();
        Self { runs, count }
    }

    /// A bit per row below `total`, for predicates that see rows in no order.
    pub(crate) fn bits(&self, total: u32) -> Bits {
        let mut words = vec![0u64; (total as usize).div_ceil(64)];
        for run in &self.runs {
            set_range(&mut words, run.clone());
        }
        Bits { words }
    }

    /// How many allowed rows lie before `row`.
    pub(crate) fn count_before(&self, row: u32) -> u64 {
        self.runs.iter().take_while(|run| run.start < row).map(|run| u64::from(run.end.min(row) - run.start)).sum()
    }
}

/// One bit per row.
#[derive(Debug)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Whether the row's bit is set; false beyond the end.
    pub(crate) fn contains(&self, row: u64) -> bool {
        let word = usize::try_from(row / 64).ok().and_then(|at| self.words.get(at)).copied().unwrap_or(0);
        word >> (row % 64) & 1 == 1
    }

    /// The bits of sixteen rows from `first` on, the first one lowest; zeros beyond the end.
    #[inline]
    pub(crate) fn sixteen(&self, first: u32) -> u16 {
        let (at, shift) = (first as usize / 64, first % 64);
        let word = |at: usize| self.words.get(at).copied().unwrap_or(0);
        let low = word(at) >> shift;
        // Shifting by all 64 bits is not defined: the next word is shifted in two steps.
        (low | word(at + 1) << 1 << (63 - shift)) as u16
    }
}

/// Sets the bits of a run, which is not empty.
pub(crate) fn set_range(words: &mut [u64], run: Range<u32>) {
    let (first, last) = (run.start as usize / 64, (run.end as usize - 1) / 64);
    let head = u64::MAX << (run.start % 64);
    let tail = u64::MAX >> (63 - (run.end - 1) % 64);
    if first == last {
        words[first] |= head & tail;
        return;
    }
    words[first] |= head;
    words[first + 1..last].fill(u64::MAX);
    words[last] |= tail;
}

fn normalise(ranges: &[Range<u32>], total: u32) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> =
        ranges.iter().map(|range| range.start..range.end.min(total)).filter(|range| !range.is_empty()).collect();
    if !runs.is_sorted_by_key(|range| range.start) {
        runs.sort_unstable_by_key(|range| range.start);
    }
    runs.dedup_by(|next, last| {
        let joins = next.start <= last.end;
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
    runs
}

/// The bitmap's rows inside the span of `runs`, as ranges.
fn bitmap_runs<'b>(bitmap: &'b RoaringBitmap, runs: &[Range<u32>]) -> impl Iterator<Item = Range<u64>> + use<'b> {
    let span = match (runs.first(), runs.last()) {
        (Some(first), Some(last)) => first.start..last.end,
        _ => 0..0,
    };
    let mut iter = bitmap.range(span);
    std::iter::from_fn(move || iter.next_range().map(|range| u64::from(*range.start())..u64::from(*range.end()) + 1))
}

/// Both arguments ascend; ends are u64 because an inclusive range of a bitmap may end at `u32::MAX`.
fn intersect(runs: &[Range<u32>], with: impl Iterator<Item = Range<u64>>) -> Vec<Range<u32>> {
    let mut out = Vec::new();
    let mut at = 0;
    for other in with {
        while runs.get(at).is_some_and(|run| u64::from(run.end) <= other.start) {
            at += 1;
        }
        while let Some(run) = runs.get(at) {
            let (start, end) = (u64::from(run.start).max(other.start), u64::from(run.end).min(other.end));
            if start >= end {
                break;
            }
            push(&mut out, start, end);
            if u64::from(run.end) > other.end {
                break;
            }
            at += 1;
        }
    }
    out
}

fn subtract(runs: &[Range<u32>], holes: impl Iterator<Item = Range<u64>>) -> Vec<Range<u32>> {
    let mut out = Vec::with_capacity(runs.len());
    let mut holes = holes.peekable();
    for run in runs {
        let (mut start, end) = (u64::from(run.start), u64::from(run.end));
        while let Some(hole) = holes.peek() {
            if hole.start >= end {
                break;
            }
            push(&mut out, start, hole.start);
            start = start.max(hole.end);
            if hole.end > end {
                break;
            }
            holes.next();
        }
        push(&mut out, start, end);
    }
    out
}

/// Appends `start..end`, which lies inside a run of u32 rows, unless it is empty.
fn push(out: &mut Vec<Range<u32>>, start: u64, end: u64) {
    if let (true, Ok(start), Ok(end)) = (start < end, u32::try_from(start), u32::try_from(end)) {
        out.push(start..end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand(runs: &[Range<u32>]) -> Vec<u32> {
        runs.iter().flat_map(Clone::clone).collect()
    }

    proptest! {
        #[test]
        fn runs_equal_a_row_by_row_reading(
            ranges in prop::collection::vec((0u32..220, 0u32..60), 0..6),
            deleted in prop::option::of(prop::collection::btree_set(0u32..260, 0..80)),
            superseded in prop::option::of(prop::collection::btree_set(0u32..260, 0..80)),
            matches in prop::option::of(prop::collection::btree_set(0u32..260, 0..200)),
        ) {
            let total = 200;
            let ranges: Vec<Range<u32>> = ranges.into_iter().map(|(start, length)| start..start + length).collect();
            let bitmap = |set: &Option<std::collections::BTreeSet<u32>>| set.as_ref().map(|set| set.iter().copied().collect::<RoaringBitmap>());
            let (d, s, m) = (bitmap(&deleted), bitmap(&superseded), bitmap(&matches));
            let rows = Rows { ranges: &ranges, deleted: d.as_ref(), superseded: s.as_ref(), matches: m.as_ref() };
            let want: Vec<u32> = (0..total)
                .filter(|row| ranges.iter().any(|range| range.contains(row)))
                .filter(|row| !d.as_ref().is_some_and(|mask| mask.contains(*row)))
                .filter(|row| !s.as_ref().is_some_and(|mask| mask.contains(*row)))
                .filter(|row| m.as_ref().is_none_or(|mask| mask.contains(*row)))
                .collect();
            let allowed = Allowed::resolve(&rows, total);
            prop_assert_eq!(expand(&allowed.runs), want.clone());
            prop_assert_eq!(allowed.count, want.len() as u64);
            prop_assert!(allowed.runs.iter().all(|run| run.start < run.end));
            let bits = allowed.bits(total);
            for row in 0..300 {
                prop_assert_eq!(bits.contains(row), want.contains(&u32::try_from(row).unwrap()));
                let row = u32::try_from(row).unwrap();
                let sixteen = (0..16).fold(0, |mask, lane| mask | u16::from(want.contains(&(row + lane))) << lane);
                prop_assert_eq!(bits.sixteen(row), sixteen);
                prop_assert_eq!(allowed.count_before(row), want.iter().filter(|&&r| r < row).count() as u64);
            }
        }
    }

    #[test]
    fn masks_at_the_end_of_the_row_space_do_not_overflow() {
        let mask = RoaringBitmap::from_iter([0, u32::MAX - 1, u32::MAX]);
        let all = 0..u32::MAX;
        let rows = Rows { ranges: std::slice::from_ref(&all), deleted: Some(&mask), ..Rows::default() };
        let allowed = Allowed::resolve(&rows, u32::MAX);
        assert_eq!(allowed.runs, std::slice::from_ref(&(1..u32::MAX - 1)));
    }
}
