//! AVX-512F: four accumulators of sixteen lanes.

use std::arch::x86_64::{
    __m512, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps, _mm256_castpd_ps,
    _mm256_castps256_ps128, _mm256_extractf128_ps, _mm512_add_ps, _mm512_castps_pd, _mm512_castps512_ps256,
    _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_loadu_ps, _mm512_setzero_ps, _mm512_sub_ps,
};

#[inline]
#[target_feature(enable = "avx512f")]
fn fold(sums: [__m512; 4]) -> f32 {
    let sixteen = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
    let low = _mm512_castps512_ps256(sixteen);
    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sixteen)));
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

macro_rules! scan {
    ($name:ident, |$a:ident, $b:ident, $sum:ident| $term:expr) => {
        /// # Safety
        /// The processor has AVX-512F, and `rows.len() == query.len() * out.len()`.
        #[target_feature(enable = "avx512f")]
        pub(super) unsafe fn $name(query: &[f32], rows: &[f32], out: &mut [f32]) {
            let dimension = query.len();
            let (whole, rest) = (dimension / 16, dimension % 16);
            let mask: u16 = (1u16 << rest) - 1;
            let (fours, ones) = (whole / 4, whole % 4);
            let mut row = rows.as_ptr();
            for out in out {
                let mut sums = [_mm512_setzero_ps(); 4];
                let mut at = 0;
                // SAFETY: `at` stays below `dimension`, the length of the query and of the row that `row` points to; the
                // masked load touches `rest` coordinates alone. After the last row `row` is one past the end.
                unsafe {
                    for _ in 0..fours {
                        for (lane, $sum) in sums.iter_mut().enumerate() {
                            let $a = _mm512_loadu_ps(query.as_ptr().add(at + 16 * lane));
                            let $b = _mm512_loadu_ps(row.add(at + 16 * lane));
                            *$sum = $term;
                        }
                        at += 64;
                    }
                    for $sum in sums.iter_mut().take(ones) {
                        let $a = _mm512_loadu_ps(query.as_ptr().add(at));
                        let $b = _mm512_loadu_ps(row.add(at));
                        *$sum = $term;
                        at += 16;
                    }
                    if rest > 0 {
                        let $sum = &mut sums[ones];
                        let $a = _mm512_maskz_loadu_ps(mask, query.as_ptr().add(at));
                        let $b = _mm512_maskz_loadu_ps(mask, row.add(at));
                        *$sum = $term;
                    }
                    row = row.add(dimension);
                }
                *out = fold(sums);
            }
        }
    };
}

scan!(dot_rows, |a, b, sum| _mm512_fmadd_ps(a, b, *sum));
scan!(l2_rows, |a, b, sum| {
    let difference = _mm512_sub_ps(a, b);
    _mm512_fmadd_ps(difference, difference, *sum)
});
