//! Cells as a whole: what is built, read and searched.

use arrow::array::BinaryArray;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

use super::build::Built;
use super::*;
use crate::dense::DenseRows;
use crate::keys::Keys;
use crate::kind::SegmentSettings;
use crate::rows::{Allowed, Rows};
use crate::topk::TopK;
use clustered::clustered;

#[path = "../../tests/segment/clustered.rs"]
mod clustered;

const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

struct World {
    metric: Metric,
    dense: DenseRows,
    keys: Keys,
    built: Built,
    cells: Cells,
}

impl World {
    fn new(metric: Metric, rows: &[Vec<f32>]) -> Self {
        Self::with(metric, rows, &SegmentSettings { rows_per_cell: 20, ..SegmentSettings::default() })
    }

    fn surface<'a>(&'a self, nprobes: &'a [u32], rescored: [(usize, &'a [u32]); 2]) -> super::calibrate::Surface<'a> {
        super::calibrate::Surface {
            cells: &self.cells,
            rows: &self.dense,
            metric: self.metric,
            keys: &self.keys,
            order: &self.built.order,
            nprobes,
            rescored,
        }
    }

    fn with(metric: Metric, rows: &[Vec<f32>], settings: &SegmentSettings) -> Self {
        let dimension = rows.first().map_or(3, Vec::len);
        let dense = DenseRows::new(metric, dimension, rows.concat().into());
        let keys = Keys::computed(BinaryArray::from_iter_values((0..rows.len() as u32).map(u32::to_be_bytes)));
        let built = build(&dense, metric, &keys, settings, &|_, _| {}).unwrap();
        let cells = read(&built, metric, dimension, rows.len()).unwrap();
        Self { metric, dense, keys, built, cells }
    }

    /// The rows that are proposed, as numbered in the input.
    fn proposed(&self, query: &[f32], probe: Probe, allowed: Option<&Bits>) -> Vec<u32> {
        let query = DenseQuery::new(self.metric, query);
        let proposed = self.cells.candidates(&query, probe, self.cells.among(allowed), &|| false);
        assert!(proposed.stopped_after.is_none() && proposed.rows.len() <= probe.rescored as usize);
        assert!(proposed.rows.is_sorted_by(|a, b| a.0 >= b.0));
        proposed.rows.iter().map(|&(_, at)| self.built.order[at as usize]).collect()
    }

    /// The share of the ten nearest that is among the proposed rows.
    fn recall(&self, queries: &[Vec<f32>], probe: Probe) -> f64 {
        let all: Vec<u32> = (0..self.keys.len() as u32).collect();
        let mut found = 0;
        for values in queries {
            let query = DenseQuery::new(self.metric, values);
            let nearest = |rows: &[u32]| -> Vec<u32> {
                let mut top = TopK::new(10, &self.keys);
                self.dense.offer_each(self.metric, &query, rows, &mut top);
                top.into_hits(false).iter().map(|hit| hit.row).collect()
            };
            let truth = nearest(&all);
            found += nearest(&self.proposed(values, probe, None)).iter().filter(|row| truth.contains(row)).count();
        }
        found as f64 / (10 * queries.len()) as f64
    }
}

fn read(built: &Built, metric: Metric, dimension: usize, rows: usize) -> Result<Cells, Fault> {
    let (centroids, codes) = (built.centroids.clone(), built.codes.clone());
    Cells::read(&built.directory, centroids, codes, metric, dimension as u32, rows as u32)
}

const ALL: Probe = Probe { nprobe: u32::MAX, rescored: u32::MAX };

#[test]
fn cells_hold_every_row() {
    for metric in METRICS {
        for (count, dimension) in [(0, 3), (1, 3), (2, 1), (15, 5), (16, 8), (17, 9), (333, 20), (2000, 33)] {
            let rows = clustered(count, dimension, 71);
            let world = World::new(metric, &rows);
            let mut order = world.built.order.clone();
            order.sort_unstable();
            assert!(order.into_iter().eq(0..count as u32), "{metric:?}, {count} rows");
            if let Some(query) = rows.first() {
                let mut proposed = world.proposed(query, ALL, None);
                proposed.sort_unstable();
                assert!(proposed.into_iter().eq(0..count as u32), "{metric:?}, {count} rows");
            }
        }
    }
}

#[test]
fn rows_that_are_not_allowed_are_not_proposed() {
    let rows = clustered(2000, 12, 72);
    let world = World::new(Metric::L2, &rows);
    let mut rng = SmallRng::seed_from_u64(73);
    let all = 0..2000;
    for share in [0.0, 0.01, 0.5, 1.0] {
        let matches: RoaringBitmap = (0..2000).filter(|_| rng.random_bool(share)).collect();
        let mask = Rows { ranges: std::slice::from_ref(&all), matches: Some(&matches), ..Rows::default() };
        let bits = Allowed::resolve(&mask, 2000).bits(2000);
        let query = DenseQuery::new(Metric::L2, &rows[7]);
        let proposed = world.cells.candidates(&query, ALL, world.cells.among(Some(&bits)), &|| false).rows;
        let proposed: RoaringBitmap = proposed.into_iter().map(|(_, at)| at).collect();
        assert_eq!(proposed, matches);
        let probe = Probe { nprobe: 10, rescored: 24 };
        let some = world.cells.candidates(&query, probe, world.cells.among(Some(&bits)), &|| false).rows;
        assert!(some.len() <= 24 && some.iter().all(|&(_, at)| matches.contains(at)));
    }
}

#[test]
fn few_cells_and_few_rows_find_the_nearest() {
    let mut rows = clustered(8100, 24, 74);
    let queries = rows.split_off(8000);
    for metric in METRICS {
        let world = World::new(metric, &rows);
        let cells = world.cells.count() as u32;
        assert!((300..=500).contains(&cells), "{cells}");
        let recall = world.recall(&queries, Probe { nprobe: cells / 4, rescored: 32 });
        assert!(recall > 0.95, "{metric:?}: {recall}");
        // The codes alone: all cells, few rows.
        let recall = world.recall(&queries, Probe { nprobe: cells, rescored: 24 });
        assert!(recall > 0.98, "{metric:?}: {recall}");
    }
}

/// Scores that are no numbers, or leave f32, would lose rows.
#[test]
fn rows_at_the_edges_of_numbers_are_found() {
    let mut rng = SmallRng::seed_from_u64(84);
    let mut some = |rows: usize, dimension: usize, scale: f32| -> Vec<Vec<f32>> {
        (0..rows).map(|_| (0..dimension).map(|_| rng.random_range(-1.0f32..=1.0) * scale).collect()).collect()
    };
    let most = tarn_model::limits::DENSE_COORDINATE;
    for (rows, dimension) in [(1, 1), (15, 1), (17, 2), (40, 9), (300, 1), (33, 1000)] {
        let alternating = |row: usize| if row.is_multiple_of(2) { most } else { -most };
        let kinds: [(&str, Vec<Vec<f32>>); 9] = [
            ("zeros", vec![vec![0.0; dimension]; rows]),
            ("alike", vec![vec![0.7; dimension]; rows]),
            ("the smallest", some(rows, dimension, f32::from_bits(1))),
            ("tiny", some(rows, dimension, 1e-30)),
            ("small", some(rows, dimension, 1e-15)),
            ("large", some(rows, dimension, 1e10)),
            ("the largest", some(rows, dimension, most)),
            ("at both ends", (0..rows).map(|row| vec![alternating(row); dimension]).collect()),
            (
                "far from zero",
                some(rows, dimension, 1.0).into_iter().map(|row| row.iter().map(|x| x + most).collect()).collect(),
            ),
        ];
        for (kind, mut vectors) in kinds {
            for x in vectors.iter_mut().flatten() {
                *x = x.clamp(-most, most);
            }
            for metric in METRICS {
                let world = World::new(metric, &vectors);
                for query in [vectors[0].clone(), vec![0.0; dimension], vec![most; dimension], vec![1e-40; dimension]] {
                    let mut proposed = world.proposed(&query, ALL, None);
                    proposed.sort_unstable();
                    assert!(proposed.into_iter().eq(0..rows as u32), "{kind}: {metric:?}, {rows} rows of {dimension}");
                }
            }
        }
    }
}

#[test]
fn rows_of_the_largest_dimension_have_cells() {
    let dimension = tarn_model::limits::DENSE_DIMENSION as usize;
    let mut rng = SmallRng::seed_from_u64(85);
    let most = tarn_model::limits::DENSE_COORDINATE;
    let rows: Vec<Vec<f32>> = (0..18)
        .map(|row| (0..dimension).map(|_| if row < 2 { most } else { rng.random_range(-most..most) }).collect())
        .collect();
    for metric in METRICS {
        let world = World::new(metric, &rows);
        for query in [&rows[0], &rows[9]] {
            let mut proposed = world.proposed(query, ALL, None);
            proposed.sort_unstable();
            assert!(proposed.into_iter().eq(0..18), "{metric:?}");
        }
    }
}

#[test]
fn what_all_rows_share_costs_no_precision() {
    let far = |x: &f32| 3000.0 + x;
    let mut rows: Vec<Vec<f32>> = clustered(4050, 16, 75).iter().map(|row| row.iter().map(far).collect()).collect();
    let queries = rows.split_off(4000);
    let world = World::new(Metric::L2, &rows);
    let recall = world.recall(&queries, Probe { nprobe: 50, rescored: 32 });
    assert!(recall > 0.9, "{recall}");
}

#[test]
fn an_inner_product_finds_long_rows_in_cells_whose_centroid_is_not_the_best() {
    let mut rng = SmallRng::seed_from_u64(76);
    let mut rows = clustered(4050, 16, 77);
    for row in &mut rows {
        let length = 4f32.powf(rng.random_range(-1.0..1.0));
        row.iter_mut().for_each(|x| *x *= length);
    }
    let queries = rows.split_off(4000);
    let world = World::new(Metric::InnerProduct, &rows);
    let recall = world.recall(&queries, Probe { nprobe: 60, rescored: 32 });
    assert!(recall > 0.95, "{recall}");
    // A query of another length asks the same.
    let scaled: Vec<Vec<f32>> = queries.iter().map(|query| query.iter().map(|x| x * 1e4).collect()).collect();
    let other = world.recall(&scaled, Probe { nprobe: 60, rescored: 32 });
    assert!((recall - other).abs() < 0.02, "{recall} and {other}");
}

#[test]
fn vectors_of_any_length_have_codes() {
    let mut rng = SmallRng::seed_from_u64(78);
    for scale in [0.0f32, 1e-45, 1e-38, 1e-25, 1e-7, 1e8, 9.9e15] {
        let mut row = || -> Vec<f32> { (0..10).map(|_| rng.random_range(-1.0f32..1.0) * scale).collect() };
        let rows: Vec<Vec<f32>> = (0..300).map(|_| row()).collect();
        for metric in METRICS {
            let world = World::new(metric, &rows);
            assert_eq!(world.proposed(&rows[3], ALL, None).len(), 300, "{metric:?}, {scale}");
            assert_eq!(world.proposed(&[0.0; 10], ALL, None).len(), 300, "{metric:?}, {scale}");
            // Squares of numbers so small leave f32, in exact scans, too.
            if scale > 1e-18 || (metric == Metric::Cosine && scale > 1e-30) {
                let recall = world.recall(&rows[..50], Probe { nprobe: u32::MAX, rescored: 32 });
                assert!(recall > 0.97, "{metric:?}, {scale}: {recall}");
            }
        }
    }
    // One long row among short ones, and one short among long.
    for (most, one) in [(1e-3f32, 1e12f32), (1e12, 1e-3)] {
        let mut rows = vec![vec![most, -most]; 100];
        rows[50] = vec![one, one];
        for metric in METRICS {
            assert_eq!(World::new(metric, &rows).proposed(&[1.0, 0.5], ALL, None).len(), 100);
        }
    }
}

#[test]
fn the_same_input_and_seed_give_the_same_bytes() {
    let rows = clustered(3000, 10, 79);
    let settings = |seed| SegmentSettings { rows_per_cell: 20, seed, ..SegmentSettings::default() };
    let [a, b, c] = [1, 1, 2].map(|seed| World::with(Metric::Cosine, &rows, &settings(seed)).built);
    assert!(a.order == b.order && a.directory == b.directory && a.codes == b.codes && a.centroids == b.centroids);
    assert_eq!(a.calibration, b.calibration);
    assert!(a.order != c.order);
}

#[test]
fn a_promised_recall_holds_for_queries_that_no_build_has_seen() {
    let mut rows = clustered(12_300, 24, 80);
    let queries = rows.split_off(12_000);
    for metric in METRICS {
        let world = World::new(metric, &rows);
        let calibration = &world.built.calibration;
        assert_eq!(calibration.queries, 12_000 / 32);
        for ladder in [&calibration.at_10, &calibration.at_100] {
            assert!(ladder.is_sorted_by(|a, b| a.recall.floor < b.recall.floor));
        }
        for promised in [0.8, 0.95] {
            let (nprobe, rescored) = calibration.effort(promised, 10).unwrap();
            let recall = world.recall(&queries, Probe { nprobe, rescored });
            assert!(recall > f64::from(promised) - 0.01, "{metric:?}: {recall} for {promised}");
        }
    }
}

/// What calibration computes is what searches do.
#[test]
fn each_step_finds_what_was_measured_for_it() {
    let mut rows = clustered(6000, 24, 90);
    // Some alike: any row as near as the last neighbour counts.
    (100..160).for_each(|row: usize| rows[row] = rows[row % 5].clone());
    for metric in METRICS {
        let world = World::new(metric, &rows);
        let held_out = super::build::sample(rows.len(), &SegmentSettings::default());
        let allowed = |row: u32| !held_out.contains(&row) && !row.is_multiple_of(3);
        let everything = 0..6000;
        let places: RoaringBitmap = (0..6000).filter(|&at| allowed(world.built.order[at as usize])).collect();
        let mask = Rows { ranges: std::slice::from_ref(&everything), matches: Some(&places), ..Rows::default() };
        let allowing = world.cells.allowing(Allowed::resolve(&mask, 6000).bits(6000));
        let queries: Vec<DenseQuery> =
            held_out.iter().take(40).map(|&row| DenseQuery::new(metric, &rows[row as usize])).collect();
        let nearest = |query: &DenseQuery, rows: &[u32], k: usize| -> Vec<f64> {
            let mut top = TopK::new(k, &world.keys);
            world.dense.offer_each(metric, query, rows, &mut top);
            top.into_hits(false).iter().map(|hit| hit.distance).collect()
        };
        let rescored = [(10, &[16, 40][..]), (100, &[120, 400][..])];
        let surface = world.surface(&[4, 30, 200], rescored);
        let all: Vec<u32> = (0..6000).filter(|&row| allowed(row)).collect();
        for (query, measured) in queries.iter().zip(surface.measure(&queries, &allowing)) {
            for (nprobe, recalls) in [4, 30, 200].into_iter().zip(measured.recalls) {
                let columns = [(10, 16), (10, 40), (100, 120), (100, 400)];
                for ((k, rescored), measured) in columns.into_iter().zip(recalls) {
                    let probe = Probe { nprobe, rescored };
                    let proposed = world.cells.candidates(query, probe, allowing.among(), &|| false).rows;
                    let proposed: Vec<u32> =
                        proposed.into_iter().map(|(_, at)| world.built.order[at as usize]).collect();
                    let found = crate::calibration::recall(&nearest(query, &proposed, k), &nearest(query, &all, k), k);
                    assert_eq!(measured, found, "{metric:?}, {probe:?}");
                }
            }
        }
    }
}

/// Recall is measured against the best of what codes leave: it would be too high where they leave neighbours out.
#[test]
fn what_recall_is_measured_against_is_what_a_scan_finds() {
    let mut rng = SmallRng::seed_from_u64(97);
    // Few large coordinates, at other places in each row: the codes of a row have few digits for all others.
    for power in [3, 15] {
        let coordinate =
            |rng: &mut SmallRng| rng.random_range(-1.0f32..1.0).powi(power) + rng.random_range(-5e-3..5e-3);
        let mut rows: Vec<Vec<f32>> = (0..5040).map(|_| (0..48).map(|_| coordinate(&mut rng)).collect()).collect();
        let queries = rows.split_off(5000);
        for metric in METRICS {
            let world = World::new(metric, &rows);
            let everything = std::iter::once(0..5000).collect();
            let allowed = Allowed::from_runs(everything);
            let surface = world.surface(&[], [(10, &[16]), (100, &[400])]);
            let queries: Vec<DenseQuery> = queries.iter().map(|query| DenseQuery::new(metric, query)).collect();
            let borrowed: Vec<&DenseQuery> = queries.iter().collect();
            let (tops, _) = crate::flat::scan(&world.dense, metric, &borrowed, &allowed, 100, &world.keys, &|| false);
            let measured = surface.measure(&queries, &world.cells.allowing(allowed.bits(5000)));
            let mut missed = 0;
            for (measured, top) in measured.iter().zip(tops) {
                let farthest = top.into_hits(false)[99].distance;
                missed += measured.nearest.iter().filter(|hit| hit.distance > farthest).count();
            }
            assert!(missed <= 4, "{metric:?}: {missed} of 4000 neighbours");
        }
    }
}

#[test]
fn a_search_stops_between_cells() {
    let rows = clustered(4000, 8, 81);
    let world = World::new(Metric::L2, &rows);
    let query = DenseQuery::new(Metric::L2, &rows[0]);
    let asked = std::cell::Cell::new(0);
    let stop = || asked.replace(asked.get() + 1) >= 1;
    let proposed = world.cells.candidates(&query, ALL, world.cells.among(None), &stop);
    let scanned = proposed.stopped_after.unwrap();
    assert!(scanned > 0 && scanned < 4000 && !proposed.rows.is_empty());
}

#[test]
fn together_queries_are_proposed_what_each_is_alone() {
    let mut rng = SmallRng::seed_from_u64(86);
    let mut rows = clustered(4150, 20, 87);
    let queries = rows.split_off(4000);
    // Many alike, so that scores are equal: in one cell and, of a lattice so coarse, in several.
    (1000..1400).for_each(|row: usize| rows[row] = rows[row % 7].clone());
    for row in &mut rows[2000..3000] {
        row.iter_mut().for_each(|x| *x = x.round());
    }
    for metric in METRICS {
        let world = World::new(metric, &rows);
        let prepared: Vec<DenseQuery> =
            queries.iter().chain(&rows[1000..1003]).map(|query| DenseQuery::new(metric, query)).collect();
        let prepared: Vec<&DenseQuery> = prepared.iter().collect();
        let bits = |share: f64| {
            let matches: RoaringBitmap = (0..4000).filter(|_| rng.random_bool(share)).collect();
            let all = 0..4000;
            let ranges = std::slice::from_ref(&all);
            Allowed::resolve(&Rows { ranges, matches: Some(&matches), ..Rows::default() }, 4000).bits(4000)
        };
        let [half, few] = [0.5, 0.002].map(bits);
        let few = world.cells.allowing(few);
        for among in [world.cells.among(None), world.cells.among(Some(&half)), few.among()] {
            for (nprobe, rescored) in [(1, 1), (3, 16), (6, 5), (7, 24), (60, 40), (u32::MAX, 300)] {
                let probe = Probe { nprobe, rescored };
                for count in [1, 2, 7, 8, 9, prepared.len()] {
                    world.cells.propose_many(&prepared[..count], probe, among, &|| false, |together| {
                        for (at, query) in prepared[..count].iter().enumerate() {
                            let alone = world.cells.candidates(query, probe, among, &|| false).rows;
                            assert!(alone.iter().map(|(_, row)| row).eq(together.rows(at)), "{metric:?}, {probe:?}");
                            assert_eq!(together.stopped_after(at), None);
                        }
                    });
                }
            }
        }
    }
}

#[test]
fn together_queries_stop_together() {
    let rows = clustered(4000, 8, 88);
    let world = World::new(Metric::L2, &rows);
    let queries: Vec<DenseQuery> = rows[..9].iter().map(|row| DenseQuery::new(Metric::L2, row)).collect();
    let queries: Vec<&DenseQuery> = queries.iter().collect();
    let after = |times: u32| {
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= times;
        world.cells.propose_many(&queries, ALL, world.cells.among(None), &stop, |together| {
            (0..queries.len()).map(|query| (together.stopped_after(query), together.rows(query).len())).collect()
        })
    };
    let at_once: Vec<(Option<u64>, usize)> = after(0);
    assert_eq!(at_once, [(Some(0), 0); 9]);
    // Cells are chosen for a few of the queries at a time.
    assert_eq!(after(1), [(Some(0), 0); 9]);
    let later = after(4);
    assert!(later.iter().all(|(scanned, rows)| scanned.is_some_and(|n| n > 0 && n < 4000) && *rows > 0), "{later:?}");
    assert!(after(u32::MAX).iter().all(|found| *found == (None, 4000)));
}

#[test]
fn a_search_that_is_stopped_has_considered_allowed_rows_only() {
    let rows = clustered(4000, 8, 88);
    let world = World::new(Metric::L2, &rows);
    let mut rng = SmallRng::seed_from_u64(91);
    let tenth: RoaringBitmap = (0..4000).filter(|_| rng.random_bool(0.1)).collect();
    let all = 0..4000;
    let mask = Rows { ranges: std::slice::from_ref(&all), matches: Some(&tenth), ..Rows::default() };
    let bits = Allowed::resolve(&mask, 4000).bits(4000);
    let among = world.cells.among(Some(&bits));
    let queries: Vec<DenseQuery> = rows[..9].iter().map(|row| DenseQuery::new(Metric::L2, row)).collect();
    let queries: Vec<&DenseQuery> = queries.iter().collect();
    // With room for all of them, a search proposes each allowed row that it has looked at.
    let (mut alone, mut together) = (0, 0);
    for times in 0..60 {
        let stop = || {
            let asked = std::cell::Cell::new(0);
            move || asked.replace(asked.get() + 1) >= times
        };
        let found = world.cells.candidates(queries[0], ALL, among, &stop());
        assert_eq!(found.stopped_after.unwrap_or(tenth.len()), found.rows.len() as u64);
        alone += usize::from(found.stopped_after.is_some_and(|rows| rows > 0));
        world.cells.propose_many(&queries, ALL, among, &stop(), |found| {
            for query in 0..queries.len() {
                let considered = found.stopped_after(query);
                assert_eq!(considered.unwrap_or(tenth.len()), found.rows(query).len() as u64, "{times}");
                together += usize::from(considered.is_some_and(|rows| rows > 0));
            }
        });
    }
    assert!(alone > 1 && together > 100, "{alone}, {together}");
}

#[test]
fn memory_that_is_used_again_means_nothing() {
    // Other dimensions, other numbers of cells, more and fewer queries, in turn.
    let worlds: Vec<(Vec<Vec<f32>>, World)> = [(900, 30), (40, 3), (2000, 9), (0, 3), (1, 2)]
        .map(|(count, dimension)| {
            let rows = clustered(count.max(1), dimension, 89);
            let world = World::new(Metric::InnerProduct, &rows[..count]);
            (rows, world)
        })
        .into();
    let ask = |(rows, world): &(Vec<Vec<f32>>, World), count: usize| -> Vec<Vec<u32>> {
        let queries: Vec<DenseQuery> =
            (0..count).map(|at| DenseQuery::new(Metric::InnerProduct, &rows[at % rows.len()])).collect();
        let queries: Vec<&DenseQuery> = queries.iter().collect();
        let probe = Probe { nprobe: 9, rescored: 30 };
        world.cells.propose_many(&queries, probe, world.cells.among(None), &|| false, |together| {
            (0..count).map(|query| together.rows(query).to_vec()).collect()
        })
    };
    let fresh: Vec<_> =
        worlds.iter().map(|world| std::thread::scope(|s| s.spawn(|| ask(world, 5)).join().unwrap())).collect();
    for count in [20, 5] {
        for (world, fresh) in worlds.iter().zip(&fresh) {
            assert_eq!(ask(world, count)[..5], fresh[..]);
        }
    }
}

/// Whatever the bytes, opening them ends in a fault or in cells that can be searched.
#[test]
fn hostile_bytes_neither_panic_nor_lead_outside() {
    let rows = clustered(300, 9, 82);
    let mut rng = SmallRng::seed_from_u64(83);
    let mut refused = 0;
    const TRIALS: usize = 3000;
    for metric in METRICS {
        let world = World::new(metric, &rows);
        for _ in 0..TRIALS {
            let mut directory = world.built.directory.clone();
            let mut centroids = world.built.centroids.to_vec();
            let mut codes = world.built.codes.to_vec();
            for _ in 0..rng.random_range(1..4) {
                let block = match rng.random_range(0..6) {
                    0 => &mut centroids,
                    1 | 2 => &mut codes,
                    _ => &mut directory,
                };
                let at = rng.random_range(0..block.len());
                match rng.random_range(0..6) {
                    0 => block.truncate(at),
                    1 => block.extend_from_within(at..),
                    2 => block[at] = 0xff,
                    3 => block[at] = 0,
                    4 => block[at..].fill(0xff),
                    _ => block[at] ^= 1 << rng.random_range(0..8u8),
                }
                if block.is_empty() {
                    break;
                }
            }
            // As a liar would, who knows how to make checksums true.
            if rng.random_bool(0.7) {
                seal(&mut directory, &codes, metric, 9);
            }
            match Cells::read(&directory, centroids.into(), codes.into(), metric, 9, 300) {
                Ok(cells) => {
                    let query = DenseQuery::new(metric, &rows[0]);
                    let proposed = cells.candidates(&query, ALL, cells.among(None), &|| false).rows;
                    assert!(proposed.len() <= 300 && proposed.iter().all(|&(_, row)| row < 300));
                    cells.propose_many(&[&query; 3], ALL, cells.among(None), &|| false, |together| {
                        assert!(together.rows(2).iter().eq(proposed.iter().map(|(_, row)| row)));
                    });
                    let exact = Exact { cells: &cells, rows: &world.dense, keys: &world.keys, bits: None, k: 10 };
                    assert!(exact.search(&query, &|| false).top.len() <= 10);
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > TRIALS && refused < 3 * TRIALS, "{refused} of {}", 3 * TRIALS);
}

/// Writes the checksum of each cell that lies within the codes.
fn seal(directory: &mut [u8], codes: &[u8], metric: Metric, dimension: usize) {
    let mut at = 0usize;
    let Some(entries) = directory.get_mut(8 + 4 * dimension..) else { return };
    for entry in entries.chunks_exact_mut(32) {
        let rows = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let end = at.saturating_add(layout::parts(rows, dimension, metric).size as usize);
        let Some(cell) = codes.get(at..end) else { return };
        entry[20..24].copy_from_slice(&crc32c::crc32c(cell).to_le_bytes());
        at = end;
    }
}
