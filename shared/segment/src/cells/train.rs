//! Clusters rows into cells.
//!
//! Two levels of k-means: 64 groups from a sample, then cells inside each group from all of its rows, in proportion to
//! their number. That costs a tenth of one flat k-means and divides more evenly than one over a sample. For cosine, means
//! become unit vectors.
//!
//! Owns `a-seed-makes-the-cells`: random choices come from seeds, and sums are taken in the order of rows, whatever the
//! number of threads.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rayon::prelude::*;

use super::nearest::nearest;
use super::points::Points;

/// Groups of the first level.
const GROUPS: usize = 64;
/// Rows of the sample per group.
const SAMPLE_PER_GROUP: usize = 256;
/// Rounds of each k-means.
const ROUNDS: usize = 8;
/// Groups that order the cells, and rounds for these.
const ORDER_GROUPS: usize = 256;
const ORDER_ROUNDS: usize = 12;
/// Cells per such group, at least.
const ORDER_CELLS: usize = 4;

/// About `count` centroids for `rows`, one after the other; at least one if there is a row.
pub(crate) fn train(points: &Points, rows: &[u32], count: usize, seed: u64) -> Vec<f32> {
    if count <= GROUPS {
        return kmeans(points, rows, count, ROUNDS, seed);
    }
    let mut rng = SmallRng::seed_from_u64(seed);
    let sampled = (GROUPS * SAMPLE_PER_GROUP).min(rows.len());
    let mut sample: Vec<u32> =
        rand::seq::index::sample(&mut rng, rows.len(), sampled).into_iter().map(|at| rows[at]).collect();
    // In the order of memory.
    sample.sort_unstable();
    let groups = kmeans(points, &sample, GROUPS, ROUNDS, seed ^ 1);
    let members = members(&nearest(points, rows, &groups), groups.len() / points.dimension(), rows);
    let inside: Vec<Vec<f32>> = members
        .par_iter()
        .enumerate()
        .map(|(number, members)| {
            let cells = (members.len() * count + rows.len() / 2) / rows.len();
            kmeans(points, members, cells.max(1), ROUNDS, seed ^ (number as u64 + 2))
        })
        .collect();
    inside.concat()
}

/// Which of `rows` belong to each of `count` cells, in the order of `rows`.
pub(crate) fn members(cells: &[u32], count: usize, rows: &[u32]) -> Vec<Vec<u32>> {
    let mut sizes = vec![0; count];
    for &cell in cells {
        sizes[cell as usize] += 1;
    }
    let mut members: Vec<Vec<u32>> = sizes.into_iter().map(Vec::with_capacity).collect();
    for (&cell, &row) in cells.iter().zip(rows) {
        members[cell as usize].push(row);
    }
    members
}

/// The mean of rows, a unit vector where rows are; `None` without rows, or where they cancel out.
pub(crate) fn mean(points: &Points, rows: &[u32]) -> Option<Vec<f32>> {
    let mut loaded = vec![0.0; points.dimension()];
    let mut sums = vec![0.0f32; points.dimension()];
    for &row in rows {
        points.load(row, &mut loaded);
        for (sum, x) in sums.iter_mut().zip(&loaded) {
            *sum += x;
        }
    }
    let divisor = if points.unit {
        sums.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    } else {
        rows.len() as f64
    };
    // So short a sum is rounding, not a direction.
    if divisor < 1e-6 {
        return None;
    }
    Some(sums.into_iter().map(|x| (f64::from(x) / divisor) as f32).collect())
}

/// Lloyd's algorithm. At most `count` centroids; fewer when there are fewer rows, or rounds end with empty ones.
fn kmeans(points: &Points, rows: &[u32], count: usize, rounds: usize, seed: u64) -> Vec<f32> {
    let dimension = points.dimension();
    let count = count.min(rows.len());
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut centroids = vec![0.0; count * dimension];
    let chosen = rand::seq::index::sample(&mut rng, rows.len(), count);
    for (centroid, at) in centroids.chunks_exact_mut(dimension).zip(chosen) {
        points.load(rows[at], centroid);
    }
    if count < 2 {
        return mean(points, rows).unwrap_or(centroids);
    }
    for round in 1..=rounds {
        let members = members(&nearest(points, rows, &centroids), count, rows);
        let means: Vec<Option<Vec<f32>>> = members.par_iter().map(|rows| mean(points, rows)).collect();
        for (centroid, mean) in centroids.chunks_exact_mut(dimension).zip(means) {
            if let Some(mean) = mean {
                centroid.copy_from_slice(&mean);
            }
        }
        if round == rounds {
            let kept = centroids.chunks_exact(dimension).zip(&members).filter(|(_, rows)| !rows.is_empty());
            return kept.flat_map(|(centroid, _)| centroid).copied().collect();
        }
        split_largest(&mut centroids, dimension, members.iter().map(Vec::len).collect());
    }
    centroids
}

/// Moves each empty centroid beside the one with the most rows, and that one a little the other way.
fn split_largest(centroids: &mut [f32], dimension: usize, mut sizes: Vec<usize>) {
    const SHIFT: f32 = 1.0 / 256.0;
    for empty in 0..sizes.len() {
        if sizes[empty] > 0 {
            continue;
        }
        let Some(largest) = (0..sizes.len()).max_by_key(|&at| sizes[at]) else { return };
        sizes[empty] = sizes[largest] / 2;
        sizes[largest] -= sizes[empty];
        for i in 0..dimension {
            let x = centroids[largest * dimension + i];
            // Alternating signs move the two apart whatever the direction of the vector.
            let shift = if i % 2 == 0 { SHIFT } else { -SHIFT };
            centroids[empty * dimension + i] = x * (1.0 + shift);
            centroids[largest * dimension + i] = x * (1.0 - shift);
        }
    }
}

/// An order of cells in which neighbours are near one another, so that few ranges of a file hold what a query probes: a
/// chain from group to nearest group, and inside each from cell to nearest cell.
pub(crate) fn order(centroids: &[f32], dimension: usize) -> Vec<u32> {
    let count = centroids.len() / dimension;
    if count == 0 {
        return Vec::new();
    }
    let points = Points::plain(dimension, centroids.to_vec());
    let all: Vec<u32> = (0..count as u32).collect();
    let groups = kmeans(&points, &all, (count / ORDER_CELLS).clamp(1, ORDER_GROUPS), ORDER_ROUNDS, 0);
    let group_count = groups.len() / dimension;
    let members = members(&nearest(&points, &all, &groups), group_count, &all);
    let numbers: Vec<u32> = (0..group_count as u32).collect();
    let mut out = Vec::with_capacity(count);
    let mut from = &groups[..dimension];
    for group in chain(&groups, dimension, numbers, from) {
        let cells = chain(centroids, dimension, members[group as usize].clone(), from);
        if let Some(&last) = cells.last() {
            from = &centroids[last as usize * dimension..][..dimension];
        }
        out.extend(cells);
    }
    out
}

/// `left`, each one the nearest to the one before, the first the nearest to `from`.
fn chain(vectors: &[f32], dimension: usize, mut left: Vec<u32>, from: &[f32]) -> Vec<u32> {
    let vector = |number: u32| &vectors[number as usize * dimension..][..dimension];
    let mut at = from;
    let mut out = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let (mut next, mut least) = (0, f32::INFINITY);
        for (i, &number) in left.iter().enumerate() {
            let square = vector(number).iter().zip(at).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
            if square < least {
                (next, least) = (i, square);
            }
        }
        let number = left.swap_remove(next);
        at = vector(number);
        out.push(number);
    }
    out
}

#[cfg(test)]
mod tests {
    use rand::Rng;
    use tarn_model::Metric;

    use super::*;
    use crate::dense::DenseRows;

    /// Rows around `clusters` distant points, in no order.
    fn clustered(rows: usize, clusters: usize, dimension: usize) -> DenseRows {
        let mut rng = SmallRng::seed_from_u64(51);
        let centres: Vec<f32> = (0..clusters * dimension).map(|_| rng.random_range(-10.0..10.0)).collect();
        let values: Vec<f32> = (0..rows)
            .flat_map(|_| {
                let centre = rng.random_range(0..clusters) * dimension;
                (0..dimension).map(|i| centres[centre + i] + rng.random_range(-0.1..0.1)).collect::<Vec<f32>>()
            })
            .collect();
        DenseRows::new(Metric::L2, dimension, values.into())
    }

    fn all(points: &Points) -> Vec<u32> {
        (0..points.len() as u32).collect()
    }

    #[test]
    fn clusters_are_found() {
        let points = Points::new(&clustered(6000, 100, 8), Metric::L2);
        let centroids = train(&points, &all(&points), 400, 1);
        let cells = nearest(&points, &all(&points), &centroids);
        let mut row = vec![0.0; 8];
        let spread: f32 = (0..6000)
            .map(|i| {
                points.load(i, &mut row);
                let centroid = &centroids[cells[i as usize] as usize * 8..][..8];
                row.iter().zip(centroid).map(|(a, b)| (a - b) * (a - b)).sum::<f32>()
            })
            .sum();
        // Between clusters squares are in the hundreds; inside one they are 8 · 0.01 / 3.
        assert!(spread / 6000.0 < 0.1, "{}", spread / 6000.0);
    }

    #[test]
    fn a_seed_makes_the_cells() {
        let points = Points::new(&clustered(3000, 40, 6), Metric::L2);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train(&points, &all(&points), 100, 7))
        };
        let one = with(1);
        assert!(one == with(3) && one != train(&points, &all(&points), 100, 8));
    }

    #[test]
    fn few_and_equal_rows_have_cells_too() {
        for rows in [vec![], vec![1.0, 2.0], vec![3.0; 400], vec![0.0; 400]] {
            for metric in [Metric::L2, Metric::Cosine] {
                let dense = DenseRows::new(metric, 2, rows.clone().into());
                let points = Points::new(&dense, metric);
                for count in [1, 3, 100] {
                    let centroids = train(&points, &all(&points), count, 3);
                    assert!(centroids.iter().all(|x| x.is_finite()));
                    assert!(rows.is_empty() == centroids.is_empty() && centroids.len() <= 2 * rows.len().max(count));
                    assert_eq!(order(&centroids, 2).len(), centroids.len() / 2);
                }
            }
        }
    }

    #[test]
    fn neighbours_in_order_are_near_one_another() {
        let mut rng = SmallRng::seed_from_u64(52);
        let mut line: Vec<f32> = (0..500).map(|i| i as f32).collect();
        for i in (1..line.len()).rev() {
            line.swap(i, rng.random_range(0..=i));
        }
        let mut order: Vec<u32> = order(&line, 1);
        let jumps: f32 = order.windows(2).map(|w| (line[w[0] as usize] - line[w[1] as usize]).abs()).sum();
        assert!(jumps < 3000.0, "{jumps}: a random order has about 83,000");
        order.sort_unstable();
        assert!(order.into_iter().eq(0..500));
    }
}
