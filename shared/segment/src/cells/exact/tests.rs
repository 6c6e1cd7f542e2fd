//! Against the scan of all rows, to the bit.

use arrow::array::BinaryArray;
use arrow::buffer::Buffer;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use tarn_model::Metric;

use super::*;
use crate::cells::build;
use crate::cells::layout::{Entry, write_directory};
use crate::flat;
use crate::kind::SegmentSettings;
use crate::rows::{Allowed, Rows};

const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

/// Rows in the order of their cells. Keys descend with the numbers that rows were given in.
struct World {
    metric: Metric,
    rows: DenseRows,
    keys: Keys,
    cells: Cells,
    centroids: Buffer,
    codes: Buffer,
}

impl World {
    fn new(metric: Metric, rows: &[Vec<f32>], rows_per_cell: usize) -> Self {
        let dimension = rows[0].len();
        let given = DenseRows::new(metric, dimension, rows.concat().into());
        let key = |row: u32| (u32::MAX - row).to_be_bytes();
        let keys = Keys::computed(BinaryArray::from_iter_values((0..rows.len() as u32).map(key)));
        let settings = SegmentSettings { rows_per_cell, calibration_queries: 0, ..SegmentSettings::default() };
        let built = build(&given, metric, &keys, &settings, &|_, _| {}).unwrap();
        let (directory, total) = (&built.directory, rows.len() as u32);
        let (centroids, codes) = (built.centroids.clone(), built.codes.clone());
        let cells = Cells::read(directory, centroids.clone(), codes.clone(), metric, dimension as u32, total).unwrap();
        let ordered: Vec<f32> = built.order.iter().flat_map(|&row| &rows[row as usize]).copied().collect();
        let keys = Keys::computed(BinaryArray::from_iter_values(built.order.iter().map(|&row| key(row))));
        Self { metric, rows: DenseRows::new(metric, dimension, ordered.into()), keys, cells, centroids, codes }
    }

    fn entries(&self) -> Vec<Entry> {
        self.cells.map.directory.entries.clone()
    }

    /// The same cells under another directory.
    fn with_entries(&self, entries: &[Entry]) -> Cells {
        let directory = write_directory(&self.cells.map.directory.centre, entries);
        let (centroids, codes) = (self.centroids.clone(), self.codes.clone());
        Cells::read(&directory, centroids, codes, self.metric, self.rows.dimension as u32, self.total()).unwrap()
    }

    fn total(&self) -> u32 {
        self.keys.len() as u32
    }

    /// How many rows were scored. `allowed`: places in the order of cells; `None` for all rows.
    fn check(&self, query: &[f32], k: usize, allowed: Option<&RoaringBitmap>) -> u64 {
        let query = DenseQuery::new(self.metric, query);
        let all = 0..self.total();
        let ranges = std::slice::from_ref(&all);
        let resolved = Allowed::resolve(&Rows { ranges, matches: allowed, ..Rows::default() }, self.total());
        let (tops, considered) = flat::scan(&self.rows, self.metric, &[&query], &resolved, k, &self.keys, &|| false);
        let want: Vec<_> = tops.into_iter().flat_map(|top| top.into_hits(self.metric.higher_is_nearer())).collect();
        let bits = allowed.is_some().then(|| resolved.bits(self.total()));
        let exact = Exact { cells: &self.cells, rows: &self.rows, keys: &self.keys, bits: bits.as_ref(), k };
        let found = exact.search(&query, &|| false);
        let scored = found.scored;
        assert_eq!((found.considered, scored <= considered), (considered, true));
        let found = found.top.into_hits(self.metric.higher_is_nearer());
        let raw =
            |hits: &[crate::hit::Hit]| -> Vec<_> { hits.iter().map(|hit| (hit.row, hit.distance.to_bits())).collect() };
        let (metric, dimension) = (self.metric, self.rows.dimension);
        assert_eq!(raw(&found), raw(&want), "{metric:?}, k = {k}, {} rows of {dimension}", self.total());
        scored
    }

    /// Each row reaches the limit that its own distance sets.
    fn check_bounds(&self, query: &[f32]) {
        let query = DenseQuery::new(self.metric, query);
        let prepared = self.cells.map.query(&query);
        let mut dots = self.cells.map.dots();
        self.cells.map.route(&prepared, 0, &mut dots);
        let bound = Bound::new(&self.cells.map, &prepared, &dots);
        let mut code = prepared.code.clone();
        let mut all = Candidates::reaching(f32::NEG_INFINITY);
        for cell in 0..self.cells.count() {
            let rows = bound.cell(cell, self.cells.bytes_of(cell), &mut code);
            kernels::scan(&code, &rows, None, &mut all);
        }
        assert_eq!(all.len(), self.keys.len());
        let mut distance = [0.0];
        for (most, row) in all.drain() {
            self.rows.score_rows(self.metric, &query, row, &mut distance);
            let least = bound.least_score(f64::from(distance[0]));
            let metric = self.metric;
            assert!(most >= least, "{metric:?}, row {row} at {}: a bound of {most}, not {least}", distance[0]);
        }
    }
}

fn random(rng: &mut SmallRng, rows: usize, dimension: usize, scale: f32) -> Vec<Vec<f32>> {
    (0..rows).map(|_| (0..dimension).map(|_| rng.random_range(-1.0f32..1.0) * scale).collect()).collect()
}

/// Points around 60 centres, `far` from zero.
fn clustered(rng: &mut SmallRng, rows: usize, dimension: usize, far: f32) -> Vec<Vec<f32>> {
    let centres = random(rng, 60, dimension, 1.0);
    (0..rows)
        .map(|_| {
            let centre = &centres[rng.random_range(0..centres.len())];
            centre.iter().map(|x| far + x + rng.random_range(-0.2..0.2)).collect()
        })
        .collect()
}

#[test]
fn bounds_hide_no_row() {
    let mut rng = SmallRng::seed_from_u64(101);
    let most = tarn_model::limits::DENSE_COORDINATE;
    // Of usual rows, rows that share nearly all, identical rows, nothing, one row, a line, many dimensions; rows that are
    // equally far from zero, and from many others.
    let mut worlds: Vec<Vec<Vec<f32>>> = vec![
        clustered(&mut rng, 1500, 24, 0.0),
        clustered(&mut rng, 700, 20, 3000.0),
        vec![vec![0.3, -0.7, 0.2]; 700],
        vec![vec![0.0; 5]; 300],
        vec![vec![1.0, 2.0]],
        random(&mut rng, 800, 1, 1.0),
        random(&mut rng, 200, 700, 1.0),
        (0..640).map(|row| (0..64).map(|i| f32::from(u8::from(i == row % 64))).collect()).collect(),
        (0..900).map(|_| (0..9).map(|_| [-1.0, 1.0][rng.random_range(0..2)]).collect()).collect(),
    ];
    for scale in [1e-45, 1e-38, 1e-25, 1e-19, 1e-17, 1e-10, 1e8, most] {
        worlds.push(random(&mut rng, 400, 13, scale));
    }
    let mut mixed = random(&mut rng, 900, 11, 1.0);
    for (row, values) in mixed.iter_mut().enumerate() {
        let scale = [0.0, 1e-40, 1e-20, 1e-18, 1e-6, 1.0, 1e5, 1e12, most][row % 9];
        values.iter_mut().for_each(|x| *x *= scale);
    }
    worlds.push(mixed);
    for rows in worlds {
        let dimension = rows[0].len();
        let mut queries = vec![rows[0].clone(), rows[rows.len() / 2].clone(), vec![0.0; dimension]];
        queries.extend(random(&mut rng, 1, dimension, 1.0));
        queries.extend([1e-40, 1e-17, 1e9, most].map(|scale| random(&mut rng, 1, dimension, scale).remove(0)));
        let masks = [0.9, 0.3, 0.01]
            .map(|share| -> RoaringBitmap { (0..rows.len() as u32).filter(|_| rng.random_bool(share)).collect() });
        for metric in METRICS {
            let world = World::new(metric, &rows, 12);
            for query in &queries {
                world.check_bounds(query);
                for k in [1, 10, 100, rows.len() - 1, rows.len(), rows.len() + 5] {
                    world.check(query, k, None);
                }
                for mask in &masks {
                    world.check(query, 10, Some(mask));
                }
            }
        }
    }
}

/// Rows and queries for which what one part of the bound says is true with nothing to spare.
#[test]
fn bounds_hide_no_row_that_needs_one_part_of_them() {
    let mut rng = SmallRng::seed_from_u64(108);
    // Codes have the long rows exactly, and the short ones, whose factors are next to nothing, hardly.
    let long = (0..60).map(|row| vec![if row % 2 == 0 { 1.0 } else { -1.0 }; 2]);
    let short = random(&mut rng, 60, 2, 1e-3).into_iter().flat_map(|row| [row.iter().map(|x| -x).collect(), row]);
    let rows: Vec<Vec<f32>> = long.chain(short).collect();
    for metric in METRICS {
        let world = World::new(metric, &rows, 1000);
        random(&mut rng, 50, 2, 1.0).iter().for_each(|query| world.check_bounds(query));
    }
    // Queries in the middle of all rows: bytes of nothing cannot lift.
    let half = random(&mut rng, 500, 2, 1.0);
    let rows: Vec<Vec<f32>> = half.into_iter().flat_map(|row| [row.iter().map(|x| -x).collect(), row]).collect();
    let world = World::new(Metric::L2, &rows, 20);
    for query in [[0.0, 0.0], [1e-30, -1e-30], [1e-12, 1e-13]] {
        world.check_bounds(&query);
    }
    // A centroid along what two queries in bytes lose.
    for dimension in [64, 100, 128] {
        for query in random(&mut rng, 10, dimension, 1.0) {
            let query = DenseQuery::new(Metric::Cosine, &query).values;
            let once: Vec<f32> = CodeQuery::new(&query).lost(&query).iter().map(|&x| x as f32).collect();
            let twice = CodeQuery::new(&once).lost(&once);
            let row: Vec<f32> = twice.iter().map(|&x| if x < 0.0 { -1.0 } else { 1.0 }).collect();
            World::new(Metric::Cosine, &vec![row; 30], 1000).check_bounds(&query);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Few different coordinates: many rows are equally far.
    #[test]
    fn any_rows_and_masks_give_what_the_scan_gives(
        dimension in 1usize..9,
        values in prop::collection::vec(0u8..4, 8..1500),
        rows_per_cell in 1usize..40,
        k in 1usize..40,
        scale in prop::sample::select(vec![1e-20f32, 1e-3, 1.0, 1e15]),
        off in prop::sample::select(vec![0.0f32, -1.5, 100.0]),
        share in prop::sample::select(vec![1.0f64, 0.6, 0.05]),
        seed in any::<u64>(),
    ) {
        let rows: Vec<Vec<f32>> = values
            .chunks_exact(dimension)
            .map(|row| row.iter().map(|&x| ((f32::from(x) + off) * scale).clamp(-1e16, 1e16)).collect())
            .collect();
        let mut rng = SmallRng::seed_from_u64(seed);
        let mask: RoaringBitmap = (0..rows.len() as u32).filter(|_| rng.random_bool(share)).collect();
        let query = random(&mut rng, 1, dimension, scale).remove(0);
        for metric in METRICS {
            let world = World::new(metric, &rows, rows_per_cell);
            for query in [&query, &rows[rng.random_range(0..rows.len())]] {
                world.check_bounds(query);
                world.check(query, k, None);
                world.check(query, k, Some(&mask));
            }
        }
    }
}

#[test]
fn most_rows_are_not_read() {
    let mut rng = SmallRng::seed_from_u64(102);
    let mut rows = clustered(&mut rng, 12_040, 48, 0.0);
    let queries = rows.split_off(12_000);
    let half: RoaringBitmap = (0..12_000).filter(|_| rng.random_bool(0.5)).collect();
    for metric in [Metric::L2, Metric::Cosine] {
        let world = World::new(metric, &rows, 20);
        for mask in [None, Some(&half)] {
            let scored: u64 = queries.iter().map(|query| world.check(query, 10, mask)).sum();
            let mean = scored / queries.len() as u64;
            assert!(mean < 1200, "{metric:?}: {mean} of 12000 rows were scored");
        }
    }
}

#[test]
fn chunks_are_searched_by_all_threads() {
    let mut rng = SmallRng::seed_from_u64(103);
    let mut rows = clustered(&mut rng, 8010, 12, 0.0);
    let queries = rows.split_off(8000);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    for metric in METRICS {
        let world = World::new(metric, &rows, 4);
        assert!(world.cells.count() > PARALLEL_CHUNKS * CHUNK_CELLS);
        pool.install(|| queries.iter().for_each(|query| _ = world.check(query, 10, None)));
    }
}

#[test]
fn a_search_that_is_stopped_says_what_it_considered() {
    let mut rng = SmallRng::seed_from_u64(104);
    let rows = clustered(&mut rng, 4000, 12, 0.0);
    let world = World::new(Metric::L2, &rows, 10);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let exact = Exact { cells: &world.cells, rows: &world.rows, keys: &world.keys, bits: None, k: 10 };
    let query = DenseQuery::new(Metric::L2, &rows[0]);
    for times in [0, 2, 3, u64::MAX] {
        let stop = after(times);
        let considered = pool.install(|| exact.search(&query, &stop).considered);
        match times {
            0 => assert_eq!(considered, 0),
            u64::MAX => assert_eq!(considered, 4000),
            _ => assert!(considered > 0 && considered < 4000, "{considered}"),
        }
    }
}

/// The limit comes from rows that may lie in chunks which are not reached: without these, rows that are farther would be
/// missing from the answer for no reason.
#[test]
fn a_search_that_is_stopped_has_the_best_of_what_it_considered() {
    let mut rng = SmallRng::seed_from_u64(105);
    let rows = clustered(&mut rng, 6000, 12, 0.0);
    let k = 10;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for metric in METRICS {
        let world = World::new(metric, &rows, 10);
        let exact = Exact { cells: &world.cells, rows: &world.rows, keys: &world.keys, bits: None, k };
        let ends: Vec<u32> = exact.chunks().iter().map(|chunk| chunk.rows.end).collect();
        assert!(ends.len() > 5);
        for at in [0, 1000, 3000, 5999] {
            let query = DenseQuery::new(metric, world.rows.row(at));
            let whole = pool.install(|| exact.search(&query, &|| false)).top.into_hits(false);
            // The first question is that of the nearest cells.
            for (times, &end) in (2u64..).zip(&ends[..ends.len() - 1]) {
                let stop = after(times);
                let found = pool.install(|| exact.search(&query, &stop));
                assert!(found.considered >= u64::from(end) && found.considered <= u64::from(end) + k as u64);
                let hits = found.top.into_hits(false);
                let mut places: Vec<u32> = hits.iter().map(|hit| hit.row).collect();
                places.sort_unstable();
                places.dedup();
                assert_eq!(places.len(), k, "{metric:?}: {hits:?}");
                let reached = Allowed::from_runs(std::iter::once(0..end).collect());
                let (tops, _) = flat::scan(&world.rows, metric, &[&query], &reached, k, &world.keys, &|| false);
                let best = tops.into_iter().flat_map(|top| top.into_hits(false));
                assert!(hits.iter().zip(best).all(|(hit, best)| hit.distance <= best.distance), "{metric:?}: {hits:?}");
                assert!(hits.iter().zip(&whole).all(|(hit, whole)| hit.distance >= whole.distance));
            }
        }
    }
}

/// False so many times, then true.
fn after(times: u64) -> impl Fn() -> bool + Sync {
    let asked = std::sync::atomic::AtomicU64::new(0);
    move || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= times
}

#[test]
fn the_search_for_a_limit_is_stopped_too() {
    let mut rng = SmallRng::seed_from_u64(106);
    let rows = clustered(&mut rng, 6000, 8, 0.0);
    let world = World::new(Metric::Cosine, &rows, 10);
    // So few allowed rows that the limit comes from all cells.
    let some: RoaringBitmap = (0..6000).filter(|_| rng.random_bool(0.02)).collect();
    let all = 0..6000;
    let mask = Rows { ranges: std::slice::from_ref(&all), matches: Some(&some), ..Rows::default() };
    let bits = Allowed::resolve(&mask, 6000).bits(6000);
    let exact = Exact { cells: &world.cells, rows: &world.rows, keys: &world.keys, bits: Some(&bits), k: 3 };
    let query = DenseQuery::new(Metric::Cosine, &rows[0]);
    let nearest = world.cells.map.query(&query);
    let mut dots = world.cells.map.dots();
    let all_cells = world.cells.map.route(&nearest, world.cells.count(), &mut dots);
    let count = std::sync::atomic::AtomicUsize::new(0);
    let stop = || count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2;
    let first = exact.first(&query, &nearest.code, all_cells, &dots, &stop);
    assert_eq!((count.into_inner(), first.len()), (3, 3));
}

/// Bounds that are too low hide rows, and nothing else.
#[test]
fn directories_that_lie_about_bounds_do_no_harm() {
    let mut rng = SmallRng::seed_from_u64(107);
    let rows = clustered(&mut rng, 2000, 10, 0.0);
    let numbers = [0.0, 1e-45, 1e-30, 1.0, 1e30, f32::MAX];
    for metric in METRICS {
        let world = World::new(metric, &rows, 12);
        let queries = [rows[0].clone(), vec![0.0; 10], vec![1e16; 10], vec![1e-40; 10]];
        for trial in 0..300 {
            let mut lying = world.entries();
            for entry in &mut lying {
                let mut any = || numbers[rng.random_range(0..numbers.len())];
                (entry.loss, entry.spread) = (any(), any());
                if trial % 2 == 0 {
                    entry.step = any();
                    entry.share = -any();
                    entry.centroid_step = any();
                    entry.bias = -any();
                }
            }
            let cells = world.with_entries(&lying);
            for query in &queries {
                let query = DenseQuery::new(metric, query);
                let exact = Exact { cells: &cells, rows: &world.rows, keys: &world.keys, bits: None, k: 10 };
                let found = exact.search(&query, &|| false);
                assert_eq!((found.considered, found.scored <= 2000), (2000, true));
                let hits = found.top.into_hits(false);
                let mut distance = [0.0];
                for hit in &hits {
                    world.rows.score_rows(metric, &query, hit.row, &mut distance);
                    assert_eq!(f64::from(distance[0]), hit.distance);
                }
                assert!(hits.len() <= 10 && hits.is_sorted_by(|a, b| a.distance <= b.distance));
            }
        }
    }
}
