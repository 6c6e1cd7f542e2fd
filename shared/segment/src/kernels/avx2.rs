//! AVX2 with FMA: eight accumulators of eight lanes, which stand for the sixty-four lanes of the common order.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_setzero_ps, _mm256_sub_ps,
};

/// `MASKS[8 - n..][..8]` selects the first `n` lanes.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline]
#[target_feature(enable = "avx2,fma")]
fn fold(sums: [__m256; 8]) -> f32 {
    let low = _mm256_add_ps(_mm256_add_ps(sums[0], sums[2]), _mm256_add_ps(sums[4], sums[6]));
    let high = _mm256_add_ps(_mm256_add_ps(sums[1], sums[3]), _mm256_add_ps(sums[5], sums[7]));
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

macro_rules! scan {
    ($name:ident, |$a:ident, $b:ident, $sum:ident| $term:expr) => {
        /// # Safety
        /// The processor has AVX2 and FMA, and `rows.len() == query.len() * out.len()`.
        #[target_feature(enable = "avx2,fma")]
        pub(super) unsafe fn $name(query: &[f32], rows: &[f32], out: &mut [f32]) {
            let dimension = query.len();
            let (whole, rest) = (dimension / 8, dimension % 8);
            // SAFETY: 8 - rest is in 1..=8, and MASKS has 16 elements.
            let mask: __m256i = unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - rest).cast()) };
            let (eights, ones) = (whole / 8, whole % 8);
            let mut row = rows.as_ptr();
            for out in out {
                let mut sums = [_mm256_setzero_ps(); 8];
                let mut at = 0;
                // SAFETY: `at` stays below `dimension`, the length of the query and of the row that `row` points to; the
                // masked load touches `rest` coordinates alone. After the last row `row` is one past the end.
                unsafe {
                    for _ in 0..eights {
                        for (lane, $sum) in sums.iter_mut().enumerate() {
                            let $a = _mm256_loadu_ps(query.as_ptr().add(at + 8 * lane));
                            let $b = _mm256_loadu_ps(row.add(at + 8 * lane));
                            *$sum = $term;
                        }
                        at += 64;
                    }
                    for $sum in sums.iter_mut().take(ones) {
                        let $a = _mm256_loadu_ps(query.as_ptr().add(at));
                        let $b = _mm256_loadu_ps(row.add(at));
                        *$sum = $term;
                        at += 8;
                    }
                    if rest > 0 {
                        let $sum = &mut sums[ones];
                        let $a = _mm256_maskload_ps(query.as_ptr().add(at), mask);
                        let $b = _mm256_maskload_ps(row.add(at), mask);
                        *$sum = $term;
                    }
                    row = row.add(dimension);
                }
                *out = fold(sums);
            }
        }
    };
}

scan!(dot_rows, |a, b, sum| _mm256_fmadd_ps(a, b, *sum));
scan!(l2_rows, |a, b, sum| {
    let difference = _mm256_sub_ps(a, b);
    _mm256_fmadd_ps(difference, difference, *sum)
});
