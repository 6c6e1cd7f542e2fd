//! Vectors as codes: what is left of a row after its centroid in 4 bits a coordinate, centroids in 7.
//!
//! A row's code is a point of the lattice `c − 7.5`, times a factor. The step is the one of eight whose code points most
//! nearly the row's way; the factor is then the least-squares one, `⟨r, c⟩ / ⟨c, c⟩`.

#[cfg(target_arch = "x86_64")]
use crate::kernels::{Isa, isa};

/// Steps that are tried: the first reaches the largest coordinate, each next one cuts off 7 % more of it.
const STEPS: u8 = 8;
const STEP_LESS: f32 = 0.07;
/// Coordinates that are summed side by side.
const LANES: usize = 16;

/// Writes a code from 0 to 15 for each coordinate, and returns the factor.
pub(crate) fn encode_row(vector: &[f32], codes: &mut [u8]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if isa() != Isa::Portable {
        // SAFETY: each `isa` but the portable one has AVX2: AVX-512F is an extension of it.
        return unsafe { encode_row_avx2(vector, codes) };
    }
    encode_row_any(vector, codes)
}

/// # Safety
/// The processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn encode_row_avx2(vector: &[f32], codes: &mut [u8]) -> f32 {
    encode_row_any(vector, codes)
}

/// The same bits on every machine: nothing is fused, and sums have one order.
#[inline(always)]
fn encode_row_any(vector: &[f32], codes: &mut [u8]) -> f32 {
    let largest = vector.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let mut best = (0.0, 0.0);
    for step in 0..STEPS {
        let inverse = 8.0 / (largest * (1.0 - STEP_LESS * f32::from(step)));
        let (along, square) = fit(vector, inverse);
        let cosine = along / square.sqrt();
        if inverse.is_finite() && cosine > best.0 {
            best = (cosine, inverse);
        }
    }
    // Nothing is left of the row, or nothing that f32 can divide by: its centroid says it all.
    if best.1 == 0.0 {
        codes.fill(0);
        return 0.0;
    }
    for (code, &x) in codes.iter_mut().zip(vector) {
        *code = code_of(x, best.1) as u8;
    }
    let (along, square) = fit(vector, best.1);
    along / square
}

/// From 0 to 15, as an integer.
#[inline(always)]
fn code_of(x: f32, inverse: f32) -> i32 {
    // What is not negative is rounded down by cutting off; what is no number becomes 0.
    (x * inverse + 8.0).clamp(0.0, 15.0) as i32
}

/// `⟨r, c⟩` and `⟨c, c⟩`.
#[inline(always)]
fn fit(vector: &[f32], inverse: f32) -> (f32, f32) {
    let (mut along, mut square) = ([0.0f32; LANES], [0.0f32; LANES]);
    for chunk in vector.chunks(LANES) {
        for ((along, square), &x) in along.iter_mut().zip(&mut square).zip(chunk) {
            let c = code_of(x, inverse) as f32 - 7.5;
            *along += c * x;
            *square += c * c;
        }
    }
    (along.iter().sum(), square.iter().sum())
}

/// Writes a code from 0 to 127 for each coordinate, and returns what a step stands for: `(c − 63.5) · step`.
pub(crate) fn encode_centroid(vector: &[f32], codes: &mut [u8]) -> f32 {
    let largest = vector.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let step = largest / 63.5;
    for (code, &x) in codes.iter_mut().zip(vector) {
        // A step of zero gives a quotient that is not a number; that becomes 0, and any code serves.
        *code = (x / step + 63.5).round().clamp(0.0, 127.0) as u8;
    }
    step
}

/// A coordinate of a centroid as the router sees it.
pub(crate) fn decode_centroid(code: u8, step: f32) -> f32 {
    (2.0 * f32::from(code) - 127.0) * (0.5 * step)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn relative_error(vector: &[f32], decoded: impl Iterator<Item = f32>) -> f32 {
        let error: f32 = vector.iter().zip(decoded).map(|(x, y)| (x - y) * (x - y)).sum();
        (error / vector.iter().map(|x| x * x).sum::<f32>()).sqrt()
    }

    #[test]
    fn codes_are_near_what_they_stand_for() {
        let mut rng = SmallRng::seed_from_u64(61);
        for dimension in [1, 2, 15, 16, 17, 100, 384] {
            for scale in [1e-12f32, 1.0, 1e12] {
                // A sum of uniforms: many small coordinates, few large ones, as embeddings have.
                let mut coordinate = || (0..4).map(|_| rng.random_range(-1.0f32..1.0)).sum::<f32>() * scale;
                let vector: Vec<f32> = (0..dimension).map(|_| coordinate()).collect();
                let mut codes = vec![0; dimension];
                let factor = encode_row(&vector, &mut codes);
                let decoded = codes.iter().map(|&code| (f32::from(code) - 7.5) * factor);
                let error = relative_error(&vector, decoded);
                assert!(codes.iter().all(|&code| code < 16) && error < 0.16, "{dimension}, {scale}: {error}");
                let step = encode_centroid(&vector, &mut codes);
                let error = relative_error(&vector, codes.iter().map(|&code| decode_centroid(code, step)));
                assert!(codes.iter().all(|&code| code < 128) && error < 0.02, "{dimension}, {scale}: {error}");
            }
        }
    }

    #[test]
    fn vectors_without_direction_have_finite_factors() {
        for vector in [[0.0; 20], [1e-45; 20], [-1e-38; 20]] {
            let mut codes = [9; 20];
            let factor = encode_row(&vector, &mut codes);
            assert!(factor.is_finite() && factor >= 0.0 && codes.iter().all(|&code| code < 16));
            assert!(encode_centroid(&vector, &mut codes).is_finite() && codes.iter().all(|&code| code < 128));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_variant_gives_the_same_code() {
        if !std::arch::is_x86_feature_detected!("avx2") {
            return;
        }
        let mut rng = SmallRng::seed_from_u64(62);
        for dimension in (1..70).chain([100, 1000]) {
            let vector: Vec<f32> = (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect();
            let (mut a, mut b) = (vec![0; dimension], vec![0; dimension]);
            let any = encode_row_any(&vector, &mut a);
            // SAFETY: AVX2 has been detected.
            let avx2 = unsafe { encode_row_avx2(&vector, &mut b) };
            assert_eq!((any.to_bits(), a), (avx2.to_bits(), b));
        }
    }
}
