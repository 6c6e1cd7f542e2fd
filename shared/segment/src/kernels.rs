//! Distance kernels: one query against adjacent rows of f32, chosen for the processor at run time.
//!
//! Owns `same-pair-same-bits`: on one machine a query and a row give the same bits whether they meet in a scan, in a batch
//! or when a graph's candidates are rescored. All variants sum in one order: coordinate `i` goes to lane `i mod 64`, and
//! the lanes are folded 64 → 16 → 8 → 4 → 2 → 1. The AVX-512, AVX2 and aarch64 variants use fused multiply-add and agree
//! to the bit; the plain x86-64 one does not fuse.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(target_arch = "x86_64")]
mod scan;

use std::sync::OnceLock;

/// Instruction sets with a variant of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// The best instruction set of this machine.
pub(crate) fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Isa::Avx512;
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                return Isa::Avx2;
            }
        }
        Isa::Portable
    })
}

/// Inner products of `query` with each of the `out.len()` adjacent `rows`, which begin `stride` coordinates apart.
pub(crate) fn dot_rows(query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    dot_rows_with(isa(), query, rows, stride, out);
}

/// Squared Euclidean distances of `query` to each of the `out.len()` adjacent `rows`, which begin `stride` coordinates
/// apart.
pub(crate) fn l2_rows(query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    l2_rows_with(isa(), query, rows, stride, out);
}

/// Sums of the absolute differences of `query` to each of the `out.len()` adjacent `rows`, which begin `stride` coordinates
/// apart.
pub(crate) fn l1_rows(query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    l1_rows_with(isa(), query, rows, stride, out);
}

fn dot_rows_with(isa: Isa, query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    check(query, rows, stride, out);
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has AVX-512F; `check` has compared the lengths.
        Isa::Avx512 => unsafe { avx512::dot_rows(query, rows, stride, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has AVX2 and FMA; `check` has compared the lengths.
        Isa::Avx2 => unsafe { avx2::dot_rows(query, rows, stride, out) },
        Isa::Portable => portable::dot_rows(query, rows, stride, out),
    }
}

fn l2_rows_with(isa: Isa, query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    check(query, rows, stride, out);
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has AVX-512F; `check` has compared the lengths.
        Isa::Avx512 => unsafe { avx512::l2_rows(query, rows, stride, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has AVX2 and FMA; `check` has compared the lengths.
        Isa::Avx2 => unsafe { avx2::l2_rows(query, rows, stride, out) },
        Isa::Portable => portable::l2_rows(query, rows, stride, out),
    }
}

fn l1_rows_with(isa: Isa, query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    check(query, rows, stride, out);
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has AVX-512F; `check` has compared the lengths.
        Isa::Avx512 => unsafe { avx512::l1_rows(query, rows, stride, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `isa` says that the processor has AVX2 and FMA; `check` has compared the lengths.
        Isa::Avx2 => unsafe { avx2::l1_rows(query, rows, stride, out) },
        Isa::Portable => portable::l1_rows(query, rows, stride, out),
    }
}

/// The kernels read `query.len()` coordinates for each element of `out`, `stride` apart, without further checks. What lies
/// between the last row and the next one need not be there.
fn check(query: &[f32], rows: &[f32], stride: usize, out: &[f32]) {
    let read = match out.len().checked_sub(1) {
        Some(before) => before.checked_mul(stride).and_then(|before| before.checked_add(query.len())),
        None => Some(0),
    };
    let fits = !query.is_empty() && stride >= query.len() && Some(rows.len()) == read;
    assert!(fits, "rows do not fit the query");
}

/// Asks the processor to bring the beginning of a row closer. A hint: reads nothing, fails never.
#[inline]
pub(crate) fn prefetch(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(16).take(8) {
        // SAFETY: prefetching has no effect on memory, whatever the address; this one is inside a slice.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn available() -> Vec<Isa> {
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                all.push(Isa::Avx2);
            }
            if std::arch::is_x86_feature_detected!("avx512f") {
                all.push(Isa::Avx512);
            }
        }
        all
    }

    #[test]
    fn every_variant_agrees_with_f64_sums_at_every_dimension() {
        let mut rng = SmallRng::seed_from_u64(7);
        for dimension in (1..=200).chain([255, 256, 384, 1000]) {
            let query: Vec<f32> = (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
            let rows: Vec<f32> = (0..dimension * 3).map(|_| rng.random_range(-1.0..1.0)).collect();
            for isa in available() {
                let (mut dot, mut l2, mut l1) = ([0.0f32; 3], [0.0f32; 3], [0.0f32; 3]);
                dot_rows_with(isa, &query, &rows, dimension, &mut dot);
                l2_rows_with(isa, &query, &rows, dimension, &mut l2);
                l1_rows_with(isa, &query, &rows, dimension, &mut l1);
                for (row, ((dot, l2), l1)) in rows.chunks(dimension).zip(dot.iter().zip(&l2).zip(&l1)) {
                    let want: f64 = query.iter().zip(row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                    assert!((f64::from(*dot) - want).abs() < 1e-4, "{isa:?} dot at {dimension}: {dot} for {want}");
                    let want: f64 = query.iter().zip(row).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
                    assert!((f64::from(*l2) - want).abs() < 1e-3, "{isa:?} l2 at {dimension}: {l2} for {want}");
                    let want: f64 = query.iter().zip(row).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).sum();
                    assert!((f64::from(*l1) - want).abs() < 1e-3, "{isa:?} l1 at {dimension}: {l1} for {want}");
                }
            }
        }
    }

    #[test]
    fn same_pair_same_bits() {
        let mut rng = SmallRng::seed_from_u64(8);
        for dimension in [1, 3, 16, 63, 64, 65, 100, 384] {
            let query: Vec<f32> = (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
            let rows: Vec<f32> = (0..dimension * 9).map(|_| rng.random_range(-1.0..1.0)).collect();
            let mut together = [0.0f32; 9];
            dot_rows(&query, &rows, dimension, &mut together);
            for (row, together) in rows.chunks(dimension).zip(together) {
                let mut alone = [0.0f32];
                dot_rows(&query, row, dimension, &mut alone);
                assert_eq!(alone[0].to_bits(), together.to_bits());
            }
            let fused: Vec<Isa> = available().into_iter().filter(|isa| *isa != Isa::Portable).collect();
            for isa in &fused {
                let (mut dot, mut l2, mut first) = ([0.0f32; 9], [0.0f32; 9], [0.0f32; 9]);
                dot_rows_with(*isa, &query, &rows, dimension, &mut dot);
                assert_eq!(dot.map(f32::to_bits), together.map(f32::to_bits), "{isa:?} at {dimension}");
                l2_rows_with(*isa, &query, &rows, dimension, &mut l2);
                l2_rows_with(fused[0], &query, &rows, dimension, &mut first);
                assert_eq!(l2.map(f32::to_bits), first.map(f32::to_bits), "{isa:?} at {dimension}");
                l1_rows_with(*isa, &query, &rows, dimension, &mut l2);
                l1_rows_with(fused[0], &query, &rows, dimension, &mut first);
                assert_eq!(l2.map(f32::to_bits), first.map(f32::to_bits), "{isa:?} l1 at {dimension}");
            }
        }
    }

    #[test]
    fn same_pair_same_bits_whatever_lies_between_rows() {
        let mut rng = SmallRng::seed_from_u64(9);
        for (dimension, stride) in [(1, 1), (1, 7), (16, 17), (63, 80), (65, 70), (100, 113)] {
            let query: Vec<f32> = (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
            let rows: Vec<f32> = (0..dimension * 5).map(|_| rng.random_range(-1.0..1.0)).collect();
            let mut apart = vec![f32::NAN; 4 * stride + dimension];
            for (i, row) in rows.chunks(dimension).enumerate() {
                apart[i * stride..][..dimension].copy_from_slice(row);
            }
            for isa in available() {
                let (mut together, mut out) = ([0.0f32; 5], [0.0f32; 5]);
                dot_rows_with(isa, &query, &rows, dimension, &mut together);
                dot_rows_with(isa, &query, &apart, stride, &mut out);
                assert_eq!(out.map(f32::to_bits), together.map(f32::to_bits), "{isa:?} at {dimension}, {stride}");
                l2_rows_with(isa, &query, &rows, dimension, &mut together);
                l2_rows_with(isa, &query, &apart, stride, &mut out);
                assert_eq!(out.map(f32::to_bits), together.map(f32::to_bits), "{isa:?} at {dimension}, {stride}");
                dot_rows_with(isa, &query, &[], stride, &mut []);
            }
        }
    }

    #[test]
    #[should_panic(expected = "rows do not fit the query")]
    fn lengths_that_disagree_are_refused() {
        dot_rows(&[1.0, 2.0], &[1.0, 2.0, 3.0], 2, &mut [0.0, 0.0]);
    }
}
