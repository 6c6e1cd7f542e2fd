//! Which rows of a segment a search may return.
//!
//! Masks become *runs*, disjoint ascending row ranges, or a bit for each row, once per search: whatever is cheaper to make
//! of them. The other follows when it is asked for. Scans walk runs and ask no bitmap per row; cells take bits.

use std::ops::{Deref, Range};
use std::sync::{Arc, OnceLock};

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

/// The allowed rows.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    /// Disjoint, not empty, ascending.
    pub(crate) runs: Runs,
    /// Rows in all runs.
    pub(crate) count: u64,
}

/// Runs that are made from bits when they are first looked at, if bits are there.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    known: OnceLock<Vec<Range<u32>>>,
    bits: Option<Bits>,
}

impl Deref for Runs {
    type Target = [Range<u32>];

    fn deref(&self) -> &Self::Target {
        self.known.get_or_init(|| self.bits.as_ref().map(Bits::runs).unwrap_or_default())
    }
}

/// A mask of more than one row in so many is cheaper to read as words than as runs.
const DENSE_MASK: u64 = 64;

impl Allowed {
    /// The rows below `total` that `rows` allows.
    pub(crate) fn resolve(rows: &Rows<'_>, total: u32) -> Self {
        let mut runs = normalise(rows.ranges, total);
        let dead = [rows.deleted, rows.superseded].into_iter().flatten().filter(|mask| !mask.is_empty());
        if rows.matches.into_iter().chain(dead.clone()).any(|mask| mask.len() > u64::from(total) / DENSE_MASK) {
            let mut words = vec![0u64; (total as usize).div_ceil(64)];
            match rows.matches {
                Some(matches) => {
                    add(matches, &mut words);
                    keep_only(&runs, &mut words, total);
                }
                None => runs.iter().for_each(|run| set_range(&mut words, run.clone())),
            }
            for mask in dead {
                let mut holes = vec![0u64; words.len()];
                add(mask, &mut holes);
                words.iter_mut().zip(holes).for_each(|(word, holes)| *word &= !holes);
            }
            return Self::from_words(words);
        }
        if let Some(matches) = rows.matches {
            runs = intersect(&runs, bitmap_runs(matches, &runs));
        }
        for mask in dead {
            runs = subtract(&runs, bitmap_runs(mask, &runs));
        }
        Self::from_runs(runs)
    }

    /// Of disjoint ascending runs, none of them empty.
    pub(crate) fn from_runs(runs: Vec<Range<u32>>) -> Self {
        let count = runs.iter().map(|run| u64::from(run.end - run.start)).sum();
        Self { runs: Runs { known: OnceLock::from(runs), bits: None }, count }
    }

    fn from_words(words: Vec<u64>) -> Self {
        let count = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { runs: Runs { known: OnceLock::new(), bits: Some(Bits { words: Arc::new(words) }) }, count }
    }

    /// A bit per row below `total`, for predicates that see rows in no order.
    pub(crate) fn bits(&self, total: u32) -> Bits {
        if let Some(bits) = &self.runs.bits {
            return bits.clone();
        }
        let mut words = vec![0u64; (total as usize).div_ceil(64)];
        for run in self.runs.iter() {
            set_range(&mut words, run.clone());
        }
        Bits { words: Arc::new(words) }
    }

    /// As [`Self::bits`]; `None` when all rows are allowed.
    pub(crate) fn bits_unless_all(&self, total: u32) -> Option<Bits> {
        (self.count < u64::from(total)).then(|| self.bits(total))
    }

    /// Whether the allowed rows lie apart: on average fewer than so many follow one another.
    pub(crate) fn is_scattered(&self, run: u64) -> bool {
        match (self.runs.known.get(), &self.runs.bits) {
            (None, Some(bits)) => self.count < run * bits.run_count(),
            _ => self.count < run * self.runs.len() as u64,
        }
    }

    /// How many allowed rows lie before `row`.
    pub(crate) fn count_before(&self, row: u32) -> u64 {
        self.runs.iter().take_while(|run| run.start < row).map(|run| u64::from(run.end.min(row) - run.start)).sum()
    }
}

/// One bit per row.
#[derive(Clone, Debug)]
pub(crate) struct Bits {
    words: Arc<Vec<u64>>,
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

    /// How many bits are set in each of the ranges from one of `bounds` to the next; bounds ascend.
    pub(crate) fn counts(&self, bounds: &[u32]) -> Vec<u32> {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has the instruction.
            return unsafe { counts_popcnt(&self.words, bounds) };
        }
        counts(&self.words, bounds)
    }

    /// How many runs of set bits there are.
    fn run_count(&self) -> u64 {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has the instruction.
            return unsafe { run_count_popcnt(&self.words) };
        }
        run_count(&self.words)
    }

    fn runs(&self) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for (at, &word) in (0u32..).zip(self.words.iter()) {
            let mut left = word;
            while left != 0 {
                let start = left.trailing_zeros();
                let length = (!(left >> start)).trailing_zeros().min(64 - start);
                let (start, end) = (at * 64 + start, at * 64 + start + length);
                match runs.last_mut() {
                    Some(run) if run.end == start => run.end = end,
                    _ => runs.push(start..end),
                }
                left = if end % 64 == 0 { 0 } else { left & u64::MAX << (end % 64) };
            }
        }
        runs
    }
}

/// # Safety
/// The processor has POPCNT. Without it, which is not in every x86-64, counting a word's bits takes a dozen instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
unsafe fn counts_popcnt(words: &[u64], bounds: &[u32]) -> Vec<u32> {
    counts(words, bounds)
}

/// # Safety
/// As above.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
unsafe fn run_count_popcnt(words: &[u64]) -> u64 {
    run_count(words)
}

#[inline(always)]
fn counts(words: &[u64], bounds: &[u32]) -> Vec<u32> {
    let mut counts = Vec::with_capacity(bounds.len());
    // Set bits of whole words before `at`.
    let (mut at, mut whole) = (0, 0u32);
    let mut before = None;
    for &bound in bounds {
        let word = (bound as usize / 64).min(words.len());
        for word in &words[at..word] {
            whole += word.count_ones();
        }
        at = word;
        let part = words.get(word).map_or(0, |word| (word & !(u64::MAX << (bound % 64))).count_ones());
        let here = whole + part;
        counts.extend(before.map(|before| here - before));
        before = Some(here);
    }
    counts
}

#[inline(always)]
fn run_count(words: &[u64]) -> u64 {
    let mut last = 0;
    let mut count = 0;
    for &word in words {
        count += u64::from((word & !(word << 1 | last)).count_ones());
        last = word >> 63;
    }
    count
}

/// Clears the bits outside of `runs`, and beyond `total`.
fn keep_only(runs: &[Range<u32>], words: &mut [u64], total: u32) {
    if runs.len() == 1 && runs[0] == (0..total) {
        if let Some(last) = words.last_mut() {
            *last &= u64::MAX >> ((64 - total % 64) % 64);
        }
        return;
    }
    let mut inside = vec![0u64; words.len()];
    runs.iter().for_each(|run| set_range(&mut inside, run.clone()));
    words.iter_mut().zip(inside).for_each(|(word, inside)| *word &= inside);
}

/// Sets the bits of a bitmap's rows, of those that there are words for.
///
/// Bitmaps give rows one by one, or run by run: a microsecond for a few hundred. Their serialised form, which is specified
/// and the same for all implementations, has the words of dense parts as they are.
fn add(bitmap: &RoaringBitmap, words: &mut [u64]) {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    let written = bitmap.serialize_into(&mut bytes).is_ok();
    if !written || add_serialised(&bytes, words).is_none() {
        let room = words.len() * 64;
        let rows = bitmap.iter().take_while(|row| (*row as usize) < room);
        rows.for_each(|row| words[row as usize / 64] |= 1 << (row % 64));
    }
}

/// `None` when the bytes are not what the specification says.
fn add_serialised(bytes: &[u8], words: &mut [u64]) -> Option<()> {
    const ARRAY_MAX: usize = 4096;
    const WORDS: usize = 1024;
    let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let cookie = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let (count, mut at, runs) = match cookie & 0xffff {
        12_346 => (u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize, 8, None),
        12_347 => {
            let count = (cookie >> 16) as usize + 1;
            (count, 4 + count.div_ceil(8), Some(4))
        }
        _ => return None,
    };
    let heads = at;
    at += 4 * count;
    // Offsets, which follow from the lengths.
    if runs.is_none() || count >= 4 {
        at += 4 * count;
    }
    for container in 0..count {
        let base = usize::from(u16_at(heads + 4 * container)?) * WORDS;
        let length = usize::from(u16_at(heads + 4 * container + 2)?) + 1;
        let end = (base + WORDS).min(words.len());
        let part = words.get_mut(base..end).unwrap_or_default();
        if runs.is_some_and(|from| bytes.get(from + container / 8).is_some_and(|byte| byte >> (container % 8) & 1 == 1))
        {
            let count = usize::from(u16_at(at)?);
            for run in 0..count {
                let start = u32::from(u16_at(at + 2 + 4 * run)?);
                let last = start + u32::from(u16_at(at + 4 + 4 * run)?);
                let last = last.min((part.len() as u32 * 64).saturating_sub(1));
                if start <= last && !part.is_empty() {
                    set_range(part, start..last + 1);
                }
            }
            at += 2 + 4 * count;
        } else if length > ARRAY_MAX {
            for (word, raw) in part.iter_mut().zip(bytes.get(at..at + 8 * WORDS)?.chunks_exact(8)) {
                *word |= u64::from_le_bytes(raw.try_into().ok()?);
            }
            at += 8 * WORDS;
        } else {
            for raw in bytes.get(at..at + 2 * length)?.chunks_exact(2) {
                let row = usize::from(u16::from_le_bytes(raw.try_into().ok()?));
                if let Some(word) = part.get_mut(row / 64) {
                    *word |= 1 << (row % 64);
                }
            }
            at += 2 * length;
        }
    }
    Some(())
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

/// The bitmap's rows inside the span of `runs`, as ranges. For bitmaps of few rows: many at a time are cheaper than run by
/// run, which searches for the end of each.
fn bitmap_runs<'b>(bitmap: &'b RoaringBitmap, runs: &[Range<u32>]) -> impl Iterator<Item = Range<u64>> + use<'b> {
    let span = match (runs.first(), runs.last()) {
        (Some(first), Some(last)) => first.start..last.end,
        _ => 0..0,
    };
    let mut iter = bitmap.range(span);
    let mut buffer = [0u32; 256];
    let (mut at, mut length) = (0, 0);
    std::iter::from_fn(move || {
        let mut run: Option<Range<u64>> = None;
        loop {
            if at == length {
                (at, length) = (0, iter.next_many(&mut buffer).len());
            }
            let next = (at < length).then(|| u64::from(buffer[at]));
            match (&mut run, next) {
                (None, Some(row)) => run = Some(row..row + 1),
                (Some(run), Some(row)) if run.end == row => run.end += 1,
                _ => return run,
            }
            at += 1;
        }
    })
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
            prop_assert_eq!(expand(&allowed.runs), want.clone(), "of {}", allowed.count);
            prop_assert_eq!(allowed.count, want.len() as u64);
            prop_assert!(allowed.runs.iter().all(|run| run.start < run.end));
            prop_assert!(allowed.runs.windows(2).all(|runs| runs[0].end < runs[1].start));
            let bits = allowed.bits(total);
            prop_assert_eq!(bits.run_count(), allowed.runs.len() as u64);
            prop_assert_eq!(bits.counts(&[0, 7, 7, 64, 130, 200]), [0..7, 7..7, 7..64, 64..130, 130..200].map(|range: Range<u32>| want.iter().filter(|row| range.contains(row)).count() as u32));
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
        assert_eq!(&*allowed.runs, std::slice::from_ref(&(1..u32::MAX - 1)));
    }

    #[test]
    fn rows_beyond_the_segment_are_never_allowed() {
        for total in [1, 63, 64, 65, 200] {
            let (all, matches) = (0..total, (0..total + 300).collect::<RoaringBitmap>());
            let rows = Rows { ranges: std::slice::from_ref(&all), matches: Some(&matches), ..Rows::default() };
            let allowed = Allowed::resolve(&rows, total);
            assert_eq!((allowed.count, &*allowed.runs), (u64::from(total), std::slice::from_ref(&all)));
        }
    }

    #[test]
    fn every_kind_of_container_becomes_words() {
        let mut mixed = RoaringBitmap::new();
        mixed.insert_range(10..50_000);
        mixed.extend((65_536..131_072).filter(|row| row % 3 == 0));
        mixed.extend((131_072..196_608).filter(|row| row % 1000 == 7));
        mixed.insert_range(260_000..270_000);
        mixed.extend((300_000..327_680).filter(|row| row % 2 == 1));
        let mut runs = mixed.clone();
        runs.optimize();
        let few: RoaringBitmap = [3, 70_000, 400_000].into_iter().collect();
        for bitmap in [&mixed, &runs, &few, &RoaringBitmap::new(), &RoaringBitmap::from_iter([u32::MAX])] {
            for total in [0u32, 1, 64, 70_001, 265_000, 327_680, 500_000] {
                let mut words = vec![0u64; (total as usize).div_ceil(64)];
                let (mut bytes, mut same) = (Vec::new(), words.clone());
                bitmap.serialize_into(&mut bytes).unwrap();
                assert_eq!(add_serialised(&bytes, &mut words), Some(()));
                let room = same.len() * 64;
                for row in bitmap.iter().filter(|row| (*row as usize) < room) {
                    same[row as usize / 64] |= 1 << (row % 64);
                }
                assert!(words == same, "{} rows below {total}", bitmap.len());
            }
        }
        assert_eq!(add_serialised(&[1, 2, 3], &mut []), None);
    }
}
