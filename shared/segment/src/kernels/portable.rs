//! The variant without intrinsics: whatever the compiler makes of it.

/// Fused where that is one instruction; on plain x86-64 it would be a library call.
#[inline(always)]
fn multiply_add(a: f32, b: f32, sum: f32) -> f32 {
    if cfg!(target_arch = "aarch64") { a.mul_add(b, sum) } else { a * b + sum }
}

#[inline(always)]
fn fold(query: &[f32], row: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 64];
    for (a, b) in query.chunks(64).zip(row.chunks(64)) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = term(a, b, *lane);
        }
    }
    let mut sixteen = [0.0f32; 16];
    for (i, sum) in sixteen.iter_mut().enumerate() {
        *sum = (lanes[i] + lanes[16 + i]) + (lanes[32 + i] + lanes[48 + i]);
    }
    let mut eight = [0.0f32; 8];
    for (i, sum) in eight.iter_mut().enumerate() {
        *sum = sixteen[i] + sixteen[8 + i];
    }
    let four = [eight[0] + eight[4], eight[1] + eight[5], eight[2] + eight[6], eight[3] + eight[7]];
    (four[0] + four[2]) + (four[1] + four[3])
}

pub(super) fn dot_rows(query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    for (row, out) in rows.chunks(stride).zip(out) {
        *out = fold(query, &row[..query.len()], multiply_add);
    }
}

pub(super) fn l2_rows(query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    for (row, out) in rows.chunks(stride).zip(out) {
        *out = fold(query, &row[..query.len()], |a, b, sum| multiply_add(a - b, a - b, sum));
    }
}

pub(super) fn l1_rows(query: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    for (row, out) in rows.chunks(stride).zip(out) {
        *out = fold(query, &row[..query.len()], |a, b, sum| sum + (a - b).abs());
    }
}
