//! Distances between a graph's own vectors: bf16, each the upper half of an f32.
//!
//! usearch asks for them through a pointer. Its own for this type are made for the oldest processor of a kind, or come with a
//! library of distances for every type and processor, which is a tenth of a package; a graph needs these two. They choose the rows
//! that a search proposes and no distance that it answers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod portable;

use tarn_model::Metric;
use usearch::{Index, f16};

use crate::kernels::{Isa, isa};

/// A coordinate, as it lies in a file: of any alignment.
type Bf16 = [u8; 2];

/// Of two vectors of one dimension.
type Kernel = unsafe fn(&[Bf16], &[Bf16]) -> f32;

/// Has the index compare its vectors by these distances: the squared Euclidean one, or 1 − the inner product. An index that was
/// viewed or loaded has to be told again.
pub(super) fn set(index: &mut Index, dimension: usize, metric: Metric) {
    let distance = distance(isa(), metric);
    // `f16` stands for any two bytes here: the crate has no name for bf16.
    index.change_metric::<f16>(Box::new(move |one, other| {
        // SAFETY: usearch gives two vectors of the index's kind and dimension; bytes have no alignment. `isa` says what the processor
        // has.
        unsafe {
            let one = std::slice::from_raw_parts(one.cast::<Bf16>(), dimension);
            distance(one, std::slice::from_raw_parts(other.cast::<Bf16>(), dimension))
        }
    }));
}

fn distance(isa: Isa, metric: Metric) -> Kernel {
    match (isa, metric) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, Metric::L2) => avx512::l2,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, _) => avx512::inner_product,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Metric::L2) => avx2::l2,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _) => avx2::inner_product,
        (Isa::Portable, Metric::L2) => portable::l2,
        (Isa::Portable, _) => portable::inner_product,
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// Coordinates that bf16 has exactly.
    fn vector(rng: &mut SmallRng, dimension: usize) -> (Vec<f64>, Vec<Bf16>) {
        let exact = |rng: &mut SmallRng| f32::from_bits(rng.random_range(-2.0f32..2.0).to_bits() & 0xffff_0000);
        let coordinates: Vec<f32> = (0..dimension).map(|_| exact(rng)).collect();
        let upper = |x: &f32| [x.to_le_bytes()[2], x.to_le_bytes()[3]];
        (coordinates.iter().map(|&x| f64::from(x)).collect(), coordinates.iter().map(upper).collect())
    }

    fn variants() -> Vec<Isa> {
        let mut variants = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            variants.extend(std::arch::is_x86_feature_detected!("avx512f").then_some(Isa::Avx512));
            let avx2 = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
            variants.extend(avx2.then_some(Isa::Avx2));
        }
        variants
    }

    #[test]
    fn every_variant_has_the_distances_of_the_naive_sum() {
        let mut rng = SmallRng::seed_from_u64(71);
        for dimension in (1..70).chain([96, 100, 384, 1536]) {
            let (one, other) = (vector(&mut rng, dimension), vector(&mut rng, dimension));
            let pairs = || one.0.iter().zip(&other.0);
            let squares: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
            let dot: f64 = pairs().map(|(a, b)| a * b).sum();
            for isa in variants() {
                for (metric, expected) in
                    [(Metric::L2, squares), (Metric::InnerProduct, 1.0 - dot), (Metric::Cosine, 1.0 - dot)]
                {
                    // SAFETY: only variants that the processor has.
                    let found = f64::from(unsafe { distance(isa, metric)(&one.1, &other.1) });
                    let close = 1e-5 * (1.0 + dimension as f64);
                    assert!(
                        (found - expected).abs() < close,
                        "{isa:?}, {metric:?}, {dimension}: {found}, not {expected}"
                    );
                }
            }
        }
    }
}
