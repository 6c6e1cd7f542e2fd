//! What some vectors are like together: how many, their centre, and how far they lie from a reference.
//!
//! Of disjoint sets of rows it merges to what counting all of them at once gives, whatever the order: counts, bins and the
//! farthest distance exactly; sums of floating-point numbers but for their last digits. Two things make that so.
//! Distances are measured from a *reference* that is given and does not move when rows come and go: only statistics about one
//! reference merge. And bins have a width that is a power of two, the smallest that the farthest row fits in: bins of one
//! width are pairs of bins of half of it, so the bins of all rows follow from those of the parts. Prometheus' native
//! histograms and HDR histograms merge by the same trick, with widths that grow.
//!
//! Of sparse vectors there is no centre here: it has about as many coordinates as there are words. Their reference is the
//! origin.

use std::sync::Arc;

use arrow::buffer::ScalarBuffer;

use crate::error::SegmentError;
use crate::input::{SegmentInput, Vectors};
use crate::segment::{Body, Segment};

/// Bins of a histogram.
pub const STATISTICS_BINS: usize = 64;

/// The smallest width is 2 to this: below it all distances are in the first bin.
const EXPONENT_MIN: i32 = -300;
/// Farther away, which sparse vectors of f64 can be, counts as this: the squares of so many stay numbers.
const FARTHEST: f64 = 1e120;
/// Sums that are added side by side, so that one addition need not wait for the one before.
const LANES: usize = 8;

/// How far some rows lie from a reference, by Euclidean distance.
#[derive(Clone, Debug, PartialEq)]
pub struct Distances {
    rows: u64,
    max: f64,
    squares: f64,
    exponent: i32,
    bins: [u64; STATISTICS_BINS],
}

impl Default for Distances {
    fn default() -> Self {
        Self { rows: 0, max: 0.0, squares: 0.0, exponent: EXPONENT_MIN, bins: [0; STATISTICS_BINS] }
    }
}

impl Distances {
    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The farthest; 0 of no rows.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The sum of the distances' squares.
    pub fn squares(&self) -> f64 {
        self.squares
    }

    /// What each bin spans: bin i has the distances from i widths up to, and not including, i + 1.
    pub fn width(&self) -> f64 {
        power_of_two(self.exponent)
    }

    /// Rows by distance.
    pub fn bins(&self) -> &[u64; STATISTICS_BINS] {
        &self.bins
    }

    /// Counts one more row. `distance`: not negative, finite.
    pub fn add(&mut self, distance: f64) {
        self.widen(exponent_of(distance));
        // A product with a power of two is exact, or too small for any bin but the first.
        let bin = ((distance * power_of_two(-self.exponent)) as usize).min(STATISTICS_BINS - 1);
        self.bins[bin] += 1;
        self.rows += 1;
        self.max = self.max.max(distance);
        self.squares += distance * distance;
    }

    /// Counts the rows of `other`, about the same reference.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        self.widen(other.exponent);
        other.widen(self.exponent);
        for (mine, theirs) in self.bins.iter_mut().zip(other.bins) {
            *mine += theirs;
        }
        self.rows += other.rows;
        self.max = self.max.max(other.max);
        self.squares += other.squares;
    }

    /// Takes back rows that are counted here, about the same reference. The bins are exactly those of the rows that are left. `None`
    /// when these cannot be told: when the farthest row goes, the next one is not known.
    fn without(&self, gone: &Self) -> Option<Self> {
        if gone.rows == 0 {
            return Some(self.clone());
        }
        if gone.max >= self.max {
            return None;
        }
        let mut gone = gone.clone();
        gone.widen(self.exponent);
        let mut left = self.clone();
        for (mine, theirs) in left.bins.iter_mut().zip(gone.bins) {
            *mine = mine.checked_sub(theirs)?;
        }
        left.rows = left.rows.checked_sub(gone.rows)?;
        // No square is larger than that of the farthest row, which stays: so little is lost to rounding.
        left.squares = (left.squares - gone.squares).max(left.max * left.max);
        Some(left)
    }

    /// The share of rows that would have to change bins to make one of the other: 0 of equals, 1 of histograms that have no
    /// bin in common (total variation). 0 when either has no rows.
    pub fn moved(&self, other: &Self) -> f64 {
        if self.rows == 0 || other.rows == 0 {
            return 0.0;
        }
        let (mut a, mut b) = (self.clone(), other.clone());
        a.widen(b.exponent);
        b.widen(a.exponent);
        let share = |count: u64, rows: u64| count as f64 / rows as f64;
        let difference = |(mine, theirs): (&u64, &u64)| (share(*mine, a.rows) - share(*theirs, b.rows)).abs();
        a.bins.iter().zip(&b.bins).map(difference).sum::<f64>() / 2.0
    }

    fn widen(&mut self, exponent: i32) {
        let Ok(steps @ 1..) = u32::try_from(exponent - self.exponent) else { return };
        let mut bins = [0; STATISTICS_BINS];
        for (bin, count) in self.bins.iter().enumerate() {
            bins[bin.checked_shr(steps).unwrap_or(0)] += count;
        }
        (self.bins, self.exponent) = (bins, exponent);
    }

    /// Whether the numbers can be those of some rows.
    fn is_sound(&self) -> bool {
        let last = self.bins.iter().rposition(|&count| count > 0).unwrap_or(0);
        let farthest = (self.max * power_of_two(-self.exponent)) as usize;
        self.max.is_finite()
            && self.max >= 0.0
            && self.squares.is_finite()
            && self.squares >= 0.0
            && self.exponent == exponent_of(self.max)
            && self.bins.iter().try_fold(0_u64, |sum, &count| sum.checked_add(count)) == Some(self.rows)
            && (self.rows == 0 || last == farthest)
    }
}

/// Of the smallest width that so large a distance fits in.
fn exponent_of(distance: f64) -> i32 {
    // Below 2^-1022 the exponent's bits say -1023, which is small enough.
    let log2 = ((distance.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    (log2 - 5).max(EXPONENT_MIN)
}

/// `exponent` between -1022 and 1023.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + i64::from(exponent)).clamp(1, 2046) as u64) << 52)
}

/// Statistics of some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    reference: Arc<[f32]>,
    sum: Vec<f64>,
    distances: Distances,
}

impl Statistics {
    /// Of no rows, about a reference of the vectors' dimension; an empty one stands for the origin of sparse vectors.
    pub fn new(reference: Arc<[f32]>) -> Self {
        Self { sum: vec![0.0; reference.len()], reference, distances: Distances::default() }
    }

    /// Of all rows of a segment to be.
    pub fn of_input(input: &SegmentInput, reference: Arc<[f32]>) -> Self {
        let mut statistics = Self::new(reference);
        match &input.vectors {
            Vectors::Dense(values) => statistics.add_all(values, input.dimension as usize),
            Vectors::Sparse { offsets, values, .. } => {
                for row in offsets.windows(2) {
                    statistics.add_sparse(&values[row[0] as usize..row[1] as usize]);
                }
            }
        }
        statistics
    }

    /// What distances are measured from.
    pub fn reference(&self) -> &Arc<[f32]> {
        &self.reference
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.distances.rows
    }

    /// How far the rows lie from the reference.
    pub fn distances(&self) -> &Distances {
        &self.distances
    }

    /// The mean vector; `None` of no rows, and of sparse vectors.
    pub fn centre(&self) -> Option<Vec<f64>> {
        let rows = self.rows() as f64;
        (self.rows() > 0 && !self.sum.is_empty()).then(|| self.sum.iter().map(|sum| sum / rows).collect())
    }

    /// Counts the rows of `other`. It must be about the same reference: says whether it is, and counts nothing if not.
    #[must_use]
    pub fn merge(&mut self, other: &Self) -> bool {
        if self.reference != other.reference {
            return false;
        }
        for (mine, theirs) in self.sum.iter_mut().zip(&other.sum) {
            *mine += theirs;
        }
        self.distances.merge(&other.distances);
        true
    }

    /// Takes back rows that are counted here: what is left is what counting the other rows gives, but for the last digits of sums.
    /// `None` when it cannot be told, and has to be counted: of other references, or when the farthest row goes.
    pub fn without(&self, gone: &Self) -> Option<Self> {
        if self.reference != gone.reference {
            return None;
        }
        let distances = self.distances.without(&gone.distances)?;
        let sum = self.sum.iter().zip(&gone.sum).map(|(mine, theirs)| mine - theirs).collect();
        Some(Self { reference: Arc::clone(&self.reference), sum, distances })
    }

    /// Whether both are of the same rows, counted in whatever order: all is equal, but for the last digits of sums.
    pub fn agrees(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.distances, &other.distances);
        let about = |a: f64, b: f64, scale: f64| (a - b).abs() <= 1e-9 * scale;
        // A sum near 0 may be of large numbers: of none larger than the farthest row is from zero.
        let origin: f64 = self.reference.iter().map(|&value| f64::from(value).powi(2)).sum();
        let largest = (origin.sqrt() + mine.max) * mine.rows as f64;
        self.reference == other.reference
            && (mine.rows, mine.max, mine.exponent, mine.bins)
                == (theirs.rows, theirs.max, theirs.exponent, theirs.bins)
            && about(mine.squares, theirs.squares, mine.squares)
            && self.sum.iter().zip(&other.sum).all(|(&a, &b)| about(a, b, largest))
    }

    /// Counts one dense row.
    pub fn add_dense(&mut self, row: &[f32]) {
        for (sum, &value) in self.sum.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
        self.distances.add(distance(row, &self.reference));
    }

    fn add_all(&mut self, values: &ScalarBuffer<f32>, dimension: usize) {
        values.chunks_exact(dimension.max(1)).for_each(|row| self.add_dense(row));
    }

    /// Counts one sparse row, about the origin.
    fn add_sparse(&mut self, values: &[f64]) {
        let squares: f64 = values.iter().map(|value| value * value).sum();
        self.distances.add(squares.sqrt().min(FARTHEST));
    }

    /// As bytes for a catalog, little-endian: rows, farthest, squares, exponent, dimension, bins, sum, reference.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Distances { rows, max, squares, exponent, bins } = &self.distances;
        let mut out = Vec::with_capacity(HEAD + self.sum.len() * 12);
        out.extend(rows.to_le_bytes());
        out.extend(max.to_le_bytes());
        out.extend(squares.to_le_bytes());
        out.extend(exponent.to_le_bytes());
        out.extend((self.sum.len() as u32).to_le_bytes());
        out.extend(bins.iter().flat_map(|count| count.to_le_bytes()));
        out.extend(self.sum.iter().flat_map(|sum| sum.to_le_bytes()));
        out.extend(self.reference.iter().flat_map(|value| value.to_le_bytes()));
        out
    }

    /// The inverse of [`Self::encode`]; what is wrong with other bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let short = || format!("statistics of {} bytes", bytes.len());
        let mut at = Reader(bytes);
        let rows = u64::from_le_bytes(at.take().ok_or_else(short)?);
        let max = f64::from_le_bytes(at.take().ok_or_else(short)?);
        let squares = f64::from_le_bytes(at.take().ok_or_else(short)?);
        let exponent = i32::from_le_bytes(at.take().ok_or_else(short)?);
        let dimension = u32::from_le_bytes(at.take().ok_or_else(short)?) as usize;
        if HEAD as u64 + dimension as u64 * 12 != bytes.len() as u64 {
            return Err(format!("statistics of {} bytes, of dimension {dimension}", bytes.len()));
        }
        let mut bins = [0; STATISTICS_BINS];
        for bin in &mut bins {
            *bin = u64::from_le_bytes(at.take().ok_or_else(short)?);
        }
        let mut sum = Vec::with_capacity(dimension);
        for _ in 0..dimension {
            sum.push(f64::from_le_bytes(at.take().ok_or_else(short)?));
        }
        let mut reference = Vec::with_capacity(dimension);
        for _ in 0..dimension {
            reference.push(f32::from_le_bytes(at.take().ok_or_else(short)?));
        }
        // Anything else would overflow where exponents become powers.
        if !(EXPONENT_MIN..=1023).contains(&exponent) {
            return Err(format!("statistics with bins of width 2^{exponent}"));
        }
        let distances = Distances { rows, max, squares, exponent, bins };
        if !distances.is_sound() || sum.iter().any(|sum| !sum.is_finite()) || reference.iter().any(|r| !r.is_finite()) {
            return Err("statistics that are not those of any rows".to_owned());
        }
        Ok(Self { reference: reference.into(), sum, distances })
    }
}

/// Bytes of statistics of dimension 0.
const HEAD: usize = 8 + 8 + 8 + 4 + 4 + 8 * STATISTICS_BINS;

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

/// Euclidean, in f64: no product of f32 values overflows it. The same for the same two vectors, whoever asks.
fn distance(row: &[f32], reference: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let (rows, references) = (row.chunks_exact(LANES), reference.chunks_exact(LANES));
    let rest: f64 = rows
        .remainder()
        .iter()
        .zip(references.remainder())
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)) * (f64::from(a) - f64::from(b)))
        .sum();
    for (row, reference) in rows.zip(references) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(row).zip(reference) {
            let difference = f64::from(a) - f64::from(b);
            *lane += difference * difference;
        }
    }
    (lanes.iter().sum::<f64>() + rest).sqrt()
}

impl Segment {
    /// Statistics of some of its rows.
    ///
    /// # Errors
    /// [`SegmentError::Input`] when the reference is not of the vectors' dimension, or not empty for sparse ones.
    ///
    /// # Panics
    /// When a row is not below [`Self::rows`].
    pub fn statistics(
        &self,
        rows: impl IntoIterator<Item = u32>,
        reference: &Arc<[f32]>,
    ) -> Result<Statistics, SegmentError> {
        let mut statistics = Statistics::new(Arc::clone(reference));
        let expected = match &self.body {
            Body::Dense { rows, .. } => rows.dimension,
            Body::Sparse { .. } => 0,
        };
        if reference.len() != expected {
            let found = reference.len();
            return Err(SegmentError::Input(format!("a reference of dimension {found}, where {expected} is wanted")));
        }
        match &self.body {
            Body::Dense { rows: vectors, .. } => {
                rows.into_iter().for_each(|row| statistics.add_dense(vectors.row(row)));
            }
            Body::Sparse { rows: vectors, .. } => {
                rows.into_iter().for_each(|row| statistics.add_sparse(vectors.row(row as usize).1));
            }
        }
        Ok(statistics)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(distances: &[f64]) -> Distances {
        let mut all = Distances::default();
        distances.iter().for_each(|&distance| all.add(distance));
        all
    }

    /// Distances of very different sizes, as if by hand.
    fn distances() -> impl Strategy<Value = Vec<f64>> {
        let one = prop_oneof![Just(0.0), 0.0..1.0_f64, 0.0..1e6_f64, (-300.0..300.0_f64).prop_map(f64::exp2)];
        proptest::collection::vec(one, 0..60)
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole_in_any_order(all in distances(), cut in 0usize..60, turned in any::<bool>()) {
            let (a, b) = all.split_at(cut.min(all.len()));
            let (a, b) = if turned { (b, a) } else { (a, b) };
            let (whole, mut merged) = (of(&all), of(a));
            merged.merge(&of(b));
            prop_assert_eq!((whole.rows, whole.max, whole.exponent, whole.bins), (merged.rows, merged.max, merged.exponent, merged.bins));
            prop_assert!((whole.squares - merged.squares).abs() <= 1e-9 * whole.squares);
            prop_assert!(whole.is_sound());
        }

        #[test]
        fn what_is_taken_back_was_never_there(
            rows in proptest::collection::vec(proptest::collection::vec(-1e3f32..1e3, 2), 1..40),
            marks in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let of = |rows: &[&Vec<f32>]| {
                let mut statistics = Statistics::new([0.5, -1.0].into());
                rows.iter().for_each(|row| statistics.add_dense(row));
                statistics
            };
            let (gone, left): (Vec<_>, Vec<_>) = rows.iter().zip(&marks).partition(|(_, gone)| **gone);
            let [gone, left] = [gone, left].map(|rows| rows.into_iter().map(|(row, _)| row).collect::<Vec<_>>());
            let (whole, gone, left) = (of(&rows.iter().collect::<Vec<_>>()), of(&gone), of(&left));
            match whole.without(&gone) {
                Some(found) => {
                    prop_assert!(found.agrees(&left), "{:?} {:?}", found, left);
                    let (found, left) = (found.distances(), left.distances());
                    prop_assert_eq!((found.rows, found.max, found.exponent, found.bins), (left.rows, left.max, left.exponent, left.bins));
                }
                None => prop_assert_eq!(gone.distances().max(), whole.distances().max()),
            }
        }

        #[test]
        fn each_distance_is_in_the_bin_that_spans_it(all in distances()) {
            let whole = of(&all);
            for (bin, count) in whole.bins().iter().enumerate() {
                let (low, high) = (bin as f64 * whole.width(), (bin + 1) as f64 * whole.width());
                let spanned = all.iter().filter(|&&distance| low <= distance && distance < high).count() as u64;
                prop_assert_eq!(*count, spanned, "bin {} of width {}", bin, whole.width());
            }
        }

        #[test]
        fn bytes_go_round(rows in proptest::collection::vec(proptest::collection::vec(-1e3f32..1e3, 3), 0..9)) {
            let mut statistics = Statistics::new([0.5, 0.0, -1.0].into());
            rows.iter().for_each(|row| statistics.add_dense(row));
            let bytes = statistics.encode();
            prop_assert_eq!(Statistics::decode(&bytes), Ok(statistics));
            prop_assert!(Statistics::decode(&bytes[1..]).is_err());
        }
    }

    #[test]
    fn the_farthest_row_is_in_the_upper_half_of_the_bins() {
        for max in [1e-40, 0.7, 1.0, 63.999, 64.0, 1e30] {
            let bins = *of(&[0.0, max]).bins();
            assert_eq!(bins.iter().sum::<u64>(), 2, "{max}");
            assert_eq!(bins[STATISTICS_BINS / 2..].iter().sum::<u64>(), 1, "{max}");
        }
    }

    #[test]
    fn statistics_of_other_rows_do_not_decode() {
        let mut statistics = Statistics::new([0.0, 0.0].into());
        statistics.add_dense(&[3.0, 4.0]);
        let good = statistics.encode();
        assert_eq!(statistics.centre(), Some(vec![3.0, 4.0]));
        assert_eq!((statistics.rows(), statistics.distances().max()), (1, 5.0));
        // One row more than the bins have; a farthest row that no bin has; a sum that is no number.
        for (at, bytes) in [(0, 2_u64.to_le_bytes()), (8, 500.0_f64.to_le_bytes()), (HEAD, f64::NAN.to_le_bytes())] {
            let mut bad = good.clone();
            bad[at..at + 8].copy_from_slice(&bytes);
            assert!(Statistics::decode(&bad).is_err(), "at {at}");
        }
    }

    #[test]
    fn counts_of_the_same_rows_agree_and_others_do_not() {
        let rows = [[1.0, 2.0], [-3.0, 0.5], [1e-3, 7.0]];
        let of = |rows: &[[f32; 2]]| {
            let mut statistics = Statistics::new([0.5, 0.0].into());
            rows.iter().for_each(|row| statistics.add_dense(row));
            statistics
        };
        let turned: Vec<[f32; 2]> = rows.iter().rev().copied().collect();
        assert!(of(&rows).agrees(&of(&turned)));
        assert!(!of(&rows).agrees(&of(&rows[1..])));
        // As far away, on another side.
        assert!(!of(&rows).agrees(&of(&[[0.0, 2.0], [-3.0, 0.5], [1e-3, 7.0]])));
    }

    #[test]
    fn only_statistics_about_one_reference_merge() {
        let mut a = Statistics::new([0.0].into());
        let mut b = Statistics::new([1.0].into());
        b.add_dense(&[5.0]);
        assert!(!a.merge(&b));
        assert_eq!(a.rows(), 0);
    }

    #[test]
    fn rows_that_were_not_counted_are_not_taken_back() {
        let of = |rows: &[[f32; 1]]| {
            let mut statistics = Statistics::new([0.0].into());
            rows.iter().for_each(|row| statistics.add_dense(row));
            statistics
        };
        let whole = of(&[[1.0], [5.0], [9.0]]);
        assert_eq!(whole.without(&of(&[[9.0]])), None, "the next farthest is not known");
        assert_eq!(whole.without(&of(&[[3.0]])), None, "nothing is so far away");
        assert_eq!(whole.without(&Statistics::new([1.0].into())), None, "another reference");
        assert_eq!(whole.without(&of(&[])), Some(whole.clone()));
        // A distant row that stays hides no digit of those that go.
        let far = of(&[[1e15], [3.0], [4.0]]).without(&of(&[[3.0]])).expect("the farthest stays");
        assert!(far.agrees(&of(&[[1e15], [4.0]])));
    }

    #[test]
    fn what_moved_is_a_share_of_the_rows() {
        let (near, far) = (of(&[0.1; 10]), of(&[100.0; 30]));
        assert_eq!(near.moved(&near), 0.0);
        assert_eq!(near.moved(&far), 1.0);
        let half = of(&[0.1, 0.1, 100.0, 100.0]);
        assert_eq!(half.moved(&near), 0.5);
        assert_eq!(near.moved(&Distances::default()), 0.0);
    }
}
