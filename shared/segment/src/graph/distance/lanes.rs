//! The loop of the distances with intrinsics, written once for every register width.

/// Makes a distance: the sum of `$term` over all coordinates, and of that `$finish`.
///
/// The module that uses it says what a register is: `WIDTH`, the bf16 in one; `zero()`; `load(from)`; `even(register)` and
/// `odd(register)`, every second of its coordinates as f32; and `total(sums)`.
macro_rules! distance {
    ($features:literal, $name:ident, |$a:ident, $b:ident, $sum:ident| $term:expr, |$total:ident| $finish:expr) => {
        /// Of two vectors of one dimension. The processor has the instructions.
        #[target_feature(enable = $features)]
        pub(super) fn $name(one: &[super::Bf16], other: &[super::Bf16]) -> f32 {
            let mut sums = [zero(); 2];
            let (ones, rest_of_one) = one.as_chunks::<WIDTH>();
            let (others, rest_of_other) = other.as_chunks::<WIDTH>();
            let mut add = |one: &[super::Bf16; WIDTH], other: &[super::Bf16; WIDTH]| {
                let (one, other) = (load(one), load(other));
                let ($a, $b, $sum) = (even(one), even(other), sums[0]);
                sums[0] = $term;
                let ($a, $b, $sum) = (odd(one), odd(other), sums[1]);
                sums[1] = $term;
            };
            for (one, other) in ones.iter().zip(others) {
                add(one, other);
            }
            if !rest_of_one.is_empty() {
                // Zeros add nothing.
                let mut last = [[[0u8; 2]; WIDTH]; 2];
                last[0][..rest_of_one.len()].copy_from_slice(rest_of_one);
                last[1][..rest_of_other.len()].copy_from_slice(rest_of_other);
                add(&last[0], &last[1]);
            }
            let $total = total(sums);
            $finish
        }
    };
}

pub(super) use distance;
