//! For any processor, in sums that the compiler can keep in registers of any width.

use super::Bf16;

const LANES: usize = 16;

fn wide(coordinate: Bf16) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(coordinate)) << 16)
}

fn sum(one: &[Bf16], other: &[Bf16], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    for (one, other) in one.chunks(LANES).zip(other.chunks(LANES)) {
        for ((sum, &a), &b) in sums.iter_mut().zip(one).zip(other) {
            *sum += term(wide(a), wide(b));
        }
    }
    sums.iter().sum()
}

pub(super) fn inner_product(one: &[Bf16], other: &[Bf16]) -> f32 {
    1.0 - sum(one, other, |a, b| a * b)
}

pub(super) fn l2(one: &[Bf16], other: &[Bf16]) -> f32 {
    sum(one, other, |a, b| (a - b) * (a - b))
}
