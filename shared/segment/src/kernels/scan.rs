//! The loop of the kernels with intrinsics, written once for every register width.

/// Makes a kernel: for each row, the sum of `$term` over all coordinates.
///
/// The module that uses it says what a register is: `LANES`, which divides 64; `zero()`; `load(from)`; `first(n)`, a mask of
/// the first `n` lanes; `load_masked(from, mask)`, zeros in the other lanes; and `fold(sums)`, in the common order.
macro_rules! scan {
    ($features:literal, $name:ident, |$a:ident, $b:ident, $sum:ident| $term:expr) => {
        /// # Safety
        /// The processor has the instructions, and `rows` has `query.len()` coordinates for each element of `out`, each row
        /// `stride` after the one before.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
            const SUMS: usize = 64 / LANES;
            let dimension = query.len();
            let (whole, rest) = (dimension / LANES, dimension % LANES);
            let (rounds, ones) = (whole / SUMS, whole % SUMS);
            let mask = first(rest);
            let mut row = rows.as_ptr();
            for out in out {
                let mut sums = [zero(); SUMS];
                let mut at = 0;
                // SAFETY: `at` stays below `dimension`, the length of the query and of the row that `row` points to; the
                // masked load touches `rest` coordinates alone.
                unsafe {
                    for _ in 0..rounds {
                        for (i, $sum) in sums.iter_mut().enumerate() {
                            let $a = load(query.as_ptr().add(at + LANES * i));
                            let $b = load(row.add(at + LANES * i));
                            *$sum = $term;
                        }
                        at += 64;
                    }
                    for $sum in sums.iter_mut().take(ones) {
                        let $a = load(query.as_ptr().add(at));
                        let $b = load(row.add(at));
                        *$sum = $term;
                        at += LANES;
                    }
                    if rest > 0 {
                        let $sum = &mut sums[ones];
                        let $a = load_masked(query.as_ptr().add(at), mask);
                        let $b = load_masked(row.add(at), mask);
                        *$sum = $term;
                    }
                }
                // After the last row this may point beyond the end; nothing is read there.
                row = row.wrapping_add(stride);
                *out = fold(sums);
            }
        }
    };
}

pub(super) use scan;
