//! Points that lie together, as embeddings do. Shared by the tests inside and outside of the crate.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Points around 60 centres: neighbours mean something, as they do in embeddings.
pub(crate) fn clustered(rows: usize, dimension: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let centres: Vec<Vec<f32>> =
        (0..60).map(|_| (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
    (0..rows)
        .map(|_| {
            let centre = &centres[rng.random_range(0..centres.len())];
            centre.iter().map(|x| x + rng.random_range(-0.4..0.4)).collect()
        })
        .collect()
}
