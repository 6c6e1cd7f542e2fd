//! Cells files read from afar: what plans read, and what they answer.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;
use tarn_model::{AttributeValue, Corrupt, Metric, ObjectRef, Vector};
use tarn_segment::{
    Build, CellPlan, ColdAnswer, ColdBudget, ColdHits, Effort, FetchedCells, Outline, Plan, Query, Rows, Segment,
    SegmentInput, SegmentSettings, write_segment_to,
};

use crate::clustered::clustered;
use crate::support::{Fixture, Mask};

const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];
const UNBOUNDED: ColdBudget =
    ColdBudget { cell_ranges_max: usize::MAX, row_ranges_max: usize::MAX, bytes_max: u64::MAX };

fn none(_: &[u8]) -> bool {
    false
}

/// A file in a store, and the same segment at hand.
struct Stored {
    bytes: Bytes,
    object: ObjectRef,
    tail: Bytes,
    segment: Segment,
    outline: Arc<Outline>,
}

impl Stored {
    fn new(input: &SegmentInput, settings: &SegmentSettings) -> Self {
        let mut bytes = Vec::new();
        let summary = write_segment_to(input, Build::Cells, settings, &mut bytes, &|_, _| {}).unwrap();
        let bytes = Bytes::from(bytes);
        let object = ObjectRef { id: 1.into(), bytes: summary.bytes, crc32c: summary.crc32c };
        let tail = bytes.slice(bytes.len() - summary.outline as usize..);
        let outline = Arc::new(Outline::read("far.seg", tail.clone(), &object).unwrap());
        let segment = Segment::from_bytes("near.seg", bytes.clone()).unwrap();
        Self { bytes, object, tail, segment, outline }
    }

    fn read(&self, ranges: &[Range<u64>]) -> Vec<Bytes> {
        let disjoint = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
        assert!(disjoint && ranges.iter().all(|range| range.start < range.end), "{ranges:?}");
        ranges.iter().map(|range| self.bytes.slice(range.start as usize..range.end as usize)).collect()
    }

    /// All steps. `None` when the whole file is needed.
    #[expect(clippy::too_many_arguments, reason = "a search is all of these")]
    fn search(
        &self,
        queries: &[Query],
        k: usize,
        effort: Effort,
        rows: &Rows<'_>,
        budget: &ColdBudget,
        fetched: &FetchedCells,
        superseded: &dyn Fn(&[u8]) -> bool,
    ) -> Option<Vec<ColdAnswer>> {
        let cells = self.outline.plan_cells(queries, k, effort, rows, budget, fetched).unwrap()?;
        assert!(cells.ranges().len() <= budget.cell_ranges_max.saturating_mul(queries.len()));
        let bytes = self.read(cells.ranges());
        let plan = cells.scan(&bytes, fetched).unwrap();
        assert!(plan.ranges().len() <= budget.row_ranges_max.saturating_mul(queries.len()));
        let bytes = self.read(plan.ranges());
        Some(match plan.hits(&bytes, superseded).unwrap() {
            ColdHits::Found(answers) => answers,
            ColdHits::More(more) => {
                assert!(more.ranges().len() <= budget.row_ranges_max.saturating_mul(queries.len()));
                let bytes = self.read(more.ranges());
                more.hits(&bytes, superseded).unwrap()
            }
        })
    }

    fn one(&self, query: &[f32], k: usize, effort: Effort, mask: &Mask, budget: &ColdBudget) -> Option<ColdAnswer> {
        let queries = [Query::dense(self.segment.metric(), query).unwrap()];
        self.search(&queries, k, effort, &mask.rows(), budget, &FetchedCells::new(0), &none)?.pop()
    }

    /// A hit has everything that the segment has of the row.
    fn check_hits(&self, answer: &ColdAnswer) {
        for hit in &answer.hits {
            assert_eq!(hit.key, self.segment.key(hit.row));
            assert_eq!(Vector::Dense(hit.vector.clone()), self.segment.vector(hit.row));
            let attributes = self.segment.attributes().slice(hit.row as usize, 1);
            let shown =
                |column: usize| arrow::util::display::array_value_to_string(attributes.column(column), 0).unwrap();
            let values: Vec<String> = hit
                .values
                .iter()
                .map(|value| match value {
                    AttributeValue::Bool(x) => x.to_string(),
                    AttributeValue::Int64(x) => x.to_string(),
                    AttributeValue::String(x) => x.clone(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(values, (0..attributes.num_columns()).map(shown).collect::<Vec<_>>());
        }
    }
}

fn settings() -> SegmentSettings {
    SegmentSettings { rows_per_cell: 40, ..SegmentSettings::default() }
}

struct World {
    stored: Stored,
    unseen: Vec<Vec<f32>>,
}

fn world(metric: Metric, rows: usize, dimension: usize) -> World {
    let mut all = clustered(rows + 100, dimension, 31);
    let unseen = all.split_off(rows);
    World { stored: Stored::new(&Fixture::dense(metric, all).input(), &settings()), unseen }
}

fn cosine() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| world(Metric::Cosine, 24_000, 24))
}

/// A small file some of whose records do not fit their slots.
fn small(metric: Metric) -> Stored {
    let input = Fixture::dense(metric, clustered(600, 5, 32)).input();
    let texts = (0..600).map(|i| if i % 40 == 0 { format!("{i} long ").repeat(20) } else { format!("text {i}") });
    let mut columns: Vec<(String, ArrayRef)> = input
        .attributes
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .zip(input.attributes.columns().iter().cloned())
        .collect();
    columns[2].1 = Arc::new(StringArray::from_iter_values(texts));
    let attributes = RecordBatch::try_from_iter(columns).unwrap();
    let settings = SegmentSettings { rows_per_cell: 20, ..SegmentSettings::default() };
    Stored::new(&SegmentInput { attributes, ..input }, &settings)
}

#[test]
fn without_bounds_the_answer_is_the_one_of_the_segment_at_hand() {
    for metric in METRICS {
        let World { stored, unseen } = world(metric, 12_000, 20);
        let rows = stored.segment.rows();
        let mut rng = SmallRng::seed_from_u64(33);
        let matches: RoaringBitmap = (0..rows).filter(|_| rng.random_bool(0.6)).collect();
        let deleted: RoaringBitmap = (0..rows).filter(|_| rng.random_bool(0.1)).collect();
        let masked = Mask { matches: Some(matches), deleted: Some(deleted), ..Mask::all(rows as usize) };
        for (query, mask) in unseen[..30].iter().zip([Mask::all(rows as usize), masked].iter().cycle()) {
            for (effort, k) in [(Effort::Cells { nprobe: 7, rescored: 24 }, 10), (Effort::Ef(20), 1)] {
                let prepared = Query::dense(metric, query).unwrap();
                let warm = stored.segment.search(&prepared, k, &mask.rows(), effort, &|| false).unwrap();
                assert!(matches!(warm.plan, Plan::Cells { .. }), "{:?}", warm.plan);
                let cold = stored.one(query, k, effort, mask, &UNBOUNDED).unwrap();
                let bits = |row: u32, distance: f64| (row, distance.to_bits());
                let found: Vec<(u32, u64)> = cold.hits.iter().map(|hit| bits(hit.row, hit.distance)).collect();
                let want: Vec<(u32, u64)> = warm.hits.iter().map(|hit| bits(hit.row, hit.distance)).collect();
                assert_eq!((found, cold.allowed, cold.short), (want, warm.allowed, false), "{metric:?}");
                stored.check_hits(&cold);
            }
        }
    }
}

/// Mean recall@10 of the unseen queries, and the mean bytes that they read.
fn recall(world: &World, asked: f32, mask: &Mask, budget: &ColdBudget) -> Option<f64> {
    let World { stored, unseen } = world;
    let mut found = 0;
    for values in unseen {
        let query = Query::dense(stored.segment.metric(), values).unwrap();
        let want = stored.segment.search(&query, 10, &mask.rows(), Effort::Exact, &|| false).unwrap();
        let answer = stored.one(values, 10, Effort::Recall(asked), mask, budget)?;
        assert!(answer.hits.iter().all(|hit| mask.allows(hit.row)));
        found += answer.hits.iter().filter(|hit| want.hits.iter().any(|want| want.row == hit.row)).count();
    }
    Some(found as f64 / (10 * unseen.len()) as f64)
}

#[test]
fn the_recall_that_was_asked_for_is_reached_with_few_reads() {
    for metric in METRICS {
        let other;
        let world = if metric == Metric::Cosine {
            cosine()
        } else {
            other = world(metric, 24_000, 24);
            &other
        };
        let mask = Mask::all(24_000);
        for asked in [0.85, 0.95] {
            let recall = recall(world, asked, &mask, &ColdBudget::default()).unwrap();
            assert!(recall > f64::from(asked) - 0.01, "{metric:?}: {recall} for {asked}");
        }
    }
}

#[test]
fn a_filter_costs_bytes_and_no_recall() {
    let world = cosine();
    let mut rng = SmallRng::seed_from_u64(34);
    for share in [0.5, 0.05] {
        let matches: RoaringBitmap = (0..24_000).filter(|_| rng.random_bool(share)).collect();
        let mask = Mask { matches: Some(matches), ..Mask::all(24_000) };
        let recall = recall(world, 0.9, &mask, &ColdBudget::filtered()).unwrap();
        assert!(recall > 0.89, "{recall} at {share}");
    }
}

#[test]
fn other_numbers_of_ranges_than_were_measured_cost_bytes_and_no_recall() {
    let world = cosine();
    let (default, mask) = (ColdBudget::default(), Mask::all(24_000));
    let measured = recall(world, 0.9, &mask, &default).unwrap();
    for (cell_ranges_max, row_ranges_max) in [(1, 1), (4, 3), (40, 40)] {
        let budget = ColdBudget { cell_ranges_max, row_ranges_max, ..default };
        let recall = recall(world, 0.9, &mask, &budget).unwrap();
        assert!(
            recall > measured - 0.01,
            "{recall}, not {measured}, with {cell_ranges_max} and {row_ranges_max} ranges"
        );
    }
}

/// Recall is measured before the records are known.
#[test]
fn rows_are_chosen_alike_whatever_their_records_are() {
    let mut vectors = clustered(4050, 8, 35);
    let unseen = vectors.split_off(4000);
    let input = Fixture::dense(Metric::L2, vectors).input();
    let [short, long] = ["", "x".repeat(30).as_str()].map(|text| {
        let mut columns = input.attributes.columns().to_vec();
        columns[2] = Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, 4000)));
        let attributes = RecordBatch::try_new(input.attributes.schema(), columns).unwrap();
        Stored::new(&SegmentInput { attributes, ..input.clone() }, &settings())
    });
    assert!(long.bytes.len() > short.bytes.len() + 4000 * 20);
    let mask = Mask::all(4000);
    for query in &unseen {
        let answer = |stored: &Stored| {
            let answer = stored.one(query, 10, Effort::Recall(0.8), &mask, &ColdBudget::default()).unwrap();
            (answer.plan, answer.hits.into_iter().map(|hit| hit.row).collect::<Vec<u32>>())
        };
        assert_eq!(answer(&short), answer(&long));
    }
}

#[test]
fn what_was_not_measured_needs_the_whole_file() {
    let World { stored, unseen } = cosine();
    let mask = Mask::all(24_000);
    let search = |k, effort, mask: &Mask, budget: &ColdBudget| stored.one(&unseen[0], k, effort, mask, budget);
    let default = ColdBudget::default();
    assert!(search(10, Effort::Recall(0.9), &mask, &default).is_some());
    assert_eq!(search(10, Effort::Exact, &mask, &default), None);
    assert_eq!(search(10, Effort::Recall(1.01), &mask, &default), None);
    assert_eq!(search(1000, Effort::Recall(0.9), &mask, &default), None);
    for no_ranges in [ColdBudget { cell_ranges_max: 0, ..default }, ColdBudget { row_ranges_max: 0, ..default }] {
        assert_eq!(search(10, Effort::Recall(0.9), &mask, &no_ranges), None);
    }
    let narrow = ColdBudget { cell_ranges_max: 1, bytes_max: 1000, ..default };
    assert_eq!(search(10, Effort::Recall(0.9), &mask, &narrow), None);
    let one_row = Mask { matches: Some(RoaringBitmap::from_iter([7])), ..Mask::all(24_000) };
    assert_eq!(search(10, Effort::Recall(0.9), &one_row, &default), None);
    let little = ColdBudget { bytes_max: 100, ..default };
    assert_eq!(search(10, Effort::Cells { nprobe: 5, rescored: 20 }, &mask, &little), None);

    let nothing = Mask { matches: Some(RoaringBitmap::new()), ..Mask::all(24_000) };
    let answer = search(10, Effort::Recall(0.9), &nothing, &default).unwrap();
    assert_eq!((answer.hits.len(), answer.allowed, answer.short), (0, 0, false));
    let answer = search(0, Effort::Recall(0.9), &mask, &default).unwrap();
    assert_eq!((answer.hits.len(), answer.short), (0, false));
    let other = Query::dense(Metric::L2, &unseen[0]).unwrap();
    let fetched = FetchedCells::new(0);
    assert!(stored.outline.plan_cells(&[other], 10, Effort::Ef(1), &mask.rows(), &default, &fetched).is_err());
}

#[test]
fn a_byte_budget_is_kept_and_said() {
    let World { stored, unseen } = cosine();
    let mask = Mask::all(24_000);
    let query = [Query::dense(Metric::Cosine, &unseen[1]).unwrap()];
    let plan = |bytes_max| {
        let budget = ColdBudget { bytes_max, ..ColdBudget::default() };
        let fetched = FetchedCells::new(0);
        let effort = Effort::Recall(0.95);
        stored.outline.plan_cells(&query, 10, effort, &mask.rows(), &budget, &fetched).unwrap().unwrap()
    };
    let free = plan(u64::MAX);
    assert!(!free.capped() && free.cells() > 3);
    let bound = plan(free.bytes() / 2);
    assert!(bound.capped() && bound.bytes() <= free.bytes() / 2 && bound.bytes() > 0);
    let fetched = FetchedCells::new(0);
    let rows = |plan: CellPlan| {
        let bytes = stored.read(plan.ranges());
        plan.scan(&bytes, &fetched).unwrap()
    };
    assert!(!rows(free).capped() && rows(bound).capped());
}

/// What answers of `k` hits take is not bounded by the number of ranges: far apart, few of them hold most of the file.
#[test]
fn rows_beyond_any_budget_are_not_read() {
    let World { stored, unseen } = cosine();
    let mask = Mask::all(24_000);
    let effort = Effort::Cells { nprobe: 60, rescored: 300 };
    let query = [Query::dense(Metric::Cosine, &unseen[3]).unwrap()];
    let fetched = FetchedCells::new(0);
    let budget = ColdBudget { cell_ranges_max: 40, row_ranges_max: 1, bytes_max: 50_000 };
    // Nothing was measured for so many neighbours: every candidate is wanted, and one range would have all of them.
    let plan = stored.outline.plan_cells(&query, 200, effort, &mask.rows(), &budget, &fetched).unwrap().unwrap();
    let bytes = stored.read(plan.ranges());
    let rows = plan.scan(&bytes, &fetched).unwrap();
    assert!(rows.capped() && rows.ranges().is_empty());
    let ColdHits::Found(answers) = rows.hits(&[], &none).unwrap() else { panic!("records of no rows") };
    assert!(answers[0].short && answers[0].hits.is_empty());
}

#[test]
fn cells_that_were_read_are_not_read_again() {
    let World { stored, unseen } = cosine();
    let mask = Mask::all(24_000);
    let budget = ColdBudget::default();
    let fetched = FetchedCells::new(1 << 30);
    for effort in [Effort::Recall(0.9), Effort::Cells { nprobe: 12, rescored: 30 }] {
        let query = [Query::dense(Metric::Cosine, &unseen[2]).unwrap()];
        let search = || stored.search(&query, 10, effort, &mask.rows(), &budget, &fetched, &none).unwrap();
        let first = search();
        let plan = stored.outline.plan_cells(&query, 10, effort, &mask.rows(), &budget, &fetched).unwrap().unwrap();
        if effort != Effort::Recall(0.9) {
            assert_eq!(plan.ranges(), []);
            assert_eq!(first[0].hits, search()[0].hits);
        } else {
            // What remains was not worth a range of its own, and is not what was read.
            assert!(plan.bytes() < fetched.bytes() as u64);
        }
    }
    assert!(fetched.bytes() > 0);
}

#[test]
fn several_queries_share_their_reads() {
    let World { stored, unseen } = cosine();
    let mask = Mask::all(24_000);
    let queries: Vec<Query> = unseen[..4].iter().map(|values| Query::dense(Metric::Cosine, values).unwrap()).collect();
    let fetched = FetchedCells::new(0);
    let effort = Effort::Cells { nprobe: 9, rescored: 24 };
    let together = stored.search(&queries, 10, effort, &mask.rows(), &UNBOUNDED, &fetched, &none).unwrap();
    assert_eq!(together.len(), 4);
    for (values, together) in unseen.iter().zip(&together) {
        let alone = stored.one(values, 10, effort, &mask, &UNBOUNDED).unwrap();
        // Cells that another query has brought are scanned, too: never worse.
        for (alone, together) in alone.hits.iter().zip(&together.hits) {
            assert!(together.distance <= alone.distance);
        }
    }
    let plan = |effort| {
        let budget = ColdBudget::default();
        stored
            .outline
            .plan_cells(&queries, 10, effort, &mask.rows(), &budget, &fetched)
            .unwrap()
            .unwrap()
            .ranges()
            .len()
    };
    assert!(plan(Effort::Recall(0.9)) <= 4 * ColdBudget::default().cell_ranges_max);
}

#[test]
fn superseded_points_make_room_for_others() {
    let stored = small(Metric::L2);
    let mask = Mask::all(600);
    let query = [Query::dense(Metric::L2, &[0.1, -0.2, 0.3, 0.0, 0.5]).unwrap()];
    let all = Effort::Cells { nprobe: u32::MAX, rescored: u32::MAX };
    let fetched = FetchedCells::new(0);
    let search = |k, superseded: &dyn Fn(&[u8]) -> bool| {
        stored.search(&query, k, all, &mask.rows(), &UNBOUNDED, &fetched, superseded).unwrap().swap_remove(0)
    };
    let everything = search(600, &none);
    assert_eq!((everything.hits.len(), everything.short), (600, false));
    stored.check_hits(&everything);
    let odd = |key: &[u8]| key.last().is_some_and(|last| last % 2 == 1);
    let rest = search(20, &odd);
    let want: Vec<u32> = everything.hits.iter().filter(|hit| !odd(&hit.key)).take(20).map(|hit| hit.row).collect();
    assert_eq!(rest.hits.iter().map(|hit| hit.row).collect::<Vec<_>>(), want);
    // All rows have been read; nobody else has any.
    let none_left = search(10, &|_| true);
    assert_eq!((none_left.hits.len(), none_left.short), (0, false));
}

#[test]
fn an_answer_with_too_few_hits_says_so() {
    let stored = small(Metric::L2);
    let mask = Mask::all(600);
    let effort = Effort::Cells { nprobe: 1, rescored: 30 };
    let answer = stored.one(&[0.0; 5], 500, effort, &mask, &UNBOUNDED).unwrap();
    assert!(answer.short && answer.hits.len() < 500 && !answer.hits.is_empty());
}

#[test]
fn records_that_do_not_fit_take_one_more_read() {
    let stored = small(Metric::InnerProduct);
    let query = [Query::dense(Metric::InnerProduct, &[0.3; 5]).unwrap()];
    let mask = Mask::all(600);
    let all = Effort::Cells { nprobe: u32::MAX, rescored: u32::MAX };
    let fetched = FetchedCells::new(0);
    let budget = ColdBudget { row_ranges_max: 3, ..UNBOUNDED };
    let cells = stored.outline.plan_cells(&query, 100, all, &mask.rows(), &budget, &fetched).unwrap().unwrap();
    let bytes = stored.read(cells.ranges());
    let rows = cells.scan(&bytes, &fetched).unwrap();
    let bytes = stored.read(rows.ranges());
    let ColdHits::More(more) = rows.hits(&bytes, &none).unwrap() else { panic!("every record fits") };
    assert!(!more.ranges().is_empty() && more.ranges().len() <= 3);
    let bytes = stored.read(more.ranges());
    let answer = more.hits(&bytes, &none).unwrap().swap_remove(0);
    let want = stored.segment.search(&query[0], 100, &mask.rows(), Effort::Exact, &|| false).unwrap();
    let pairs = |row: u32, distance: f64| (row, distance.to_bits());
    assert_eq!(
        answer.hits.iter().map(|hit| pairs(hit.row, hit.distance)).collect::<Vec<_>>(),
        want.hits.iter().map(|hit| pairs(hit.row, hit.distance)).collect::<Vec<_>>()
    );
    stored.check_hits(&answer);
}

#[test]
fn columns_are_those_of_the_attributes() {
    for stored in [small(Metric::Cosine), Stored::new(&Fixture::dense(Metric::L2, Vec::new()).input(), &settings())] {
        let attributes = stored.segment.attributes();
        for positions in [vec![], vec![0], vec![2, 1], vec![0, 1, 2]] {
            let fetched: Vec<(usize, Bytes)> = positions
                .iter()
                .map(|&position| {
                    let range = stored.outline.column_range(position).unwrap();
                    (position, stored.bytes.slice(range.start as usize..range.end as usize))
                })
                .collect();
            assert_eq!(stored.outline.columns(&fetched).unwrap(), attributes.project(&positions).unwrap());
        }
        assert_eq!(stored.outline.schema(), &attributes.schema());
        assert!(stored.outline.column_range(3).is_none() && stored.outline.columns(&[(3, Bytes::new())]).is_err());
    }
}

fn named(result: Result<(), Corrupt>) -> bool {
    match result {
        Ok(()) => false,
        Err(corrupt) => {
            assert!(corrupt.object == "far.seg" && corrupt.expected != corrupt.found, "{corrupt}");
            true
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_an_outline_is_seen() {
    let stored = small(Metric::L2);
    let read = |tail: Bytes, object: &ObjectRef| named(Outline::read("far.seg", tail, object).map(|_| ()));
    for at in 0..stored.tail.len() {
        for bit in [0, 4, 7] {
            let mut changed = stored.tail.to_vec();
            changed[at] ^= 1 << bit;
            assert!(read(changed.into(), &stored.object), "bit {bit} of byte {at}");
        }
    }
    for length in 0..stored.tail.len() {
        assert!(read(stored.tail.slice(..length), &stored.object), "a cut at {length}");
        assert!(read(stored.tail.slice(length + 1..), &stored.object), "a missing beginning of {}", length + 1);
    }
    // More than necessary is no harm; another file is.
    assert!(!read(stored.bytes.clone(), &stored.object));
    for object in [
        ObjectRef { bytes: stored.object.bytes + 64, ..stored.object.clone() },
        ObjectRef { crc32c: !stored.object.crc32c, ..stored.object.clone() },
    ] {
        assert!(read(stored.tail.clone(), &object));
    }
}

/// Changes bytes of a file, searches, and says whether that was seen; what was not must not have changed the answer.
fn search_changed(stored: &Stored, bytes: Bytes, want: &[ColdAnswer]) -> bool {
    let query = [Query::dense(stored.segment.metric(), &[0.1; 5]).unwrap()];
    let mask = Mask::all(600);
    let read = |ranges: &[Range<u64>]| -> Vec<Bytes> {
        ranges.iter().map(|range| bytes.slice(range.start as usize..range.end as usize)).collect()
    };
    let budget = ColdBudget { cell_ranges_max: 3, row_ranges_max: 2, bytes_max: u64::MAX };
    let effort = Effort::Cells { nprobe: 6, rescored: 60 };
    let fetched = FetchedCells::new(1 << 20);
    let search = || -> Result<Vec<ColdAnswer>, Corrupt> {
        let plan = stored.outline.plan_cells(&query, 40, effort, &mask.rows(), &budget, &fetched).unwrap().unwrap();
        let cells = read(plan.ranges());
        let rows = plan.scan(&cells, &fetched)?;
        let slots = read(rows.ranges());
        match rows.hits(&slots, &none)? {
            ColdHits::Found(answers) => Ok(answers),
            ColdHits::More(more) => {
                let records = read(more.ranges());
                more.hits(&records, &none)
            }
        }
    };
    named(search().map(|answers| {
        assert!(want.is_empty() || answers == want, "a change went unseen and changed the answer");
    }))
}

#[test]
fn changed_cells_slots_and_records_are_seen_or_do_no_harm() {
    let stored = small(Metric::L2);
    let want = {
        let query = [Query::dense(Metric::L2, &[0.1; 5]).unwrap()];
        let budget = ColdBudget { cell_ranges_max: 3, row_ranges_max: 2, bytes_max: u64::MAX };
        let effort = Effort::Cells { nprobe: 6, rescored: 60 };
        stored.search(&query, 40, effort, &Mask::all(600).rows(), &budget, &FetchedCells::new(0), &none).unwrap()
    };
    let end = stored.bytes.len() - stored.tail.len();
    let (mut seen, mut harmless) = (0, 0);
    // An odd stride meets every part of slots and cells in turn.
    for at in (64..end).step_by(7) {
        let mut changed = stored.bytes.to_vec();
        changed[at] ^= 0x10;
        if search_changed(&stored, changed.into(), &want) {
            seen += 1;
        } else {
            harmless += 1;
        }
    }
    assert!(seen > 500 && harmless > 500, "{seen} seen, {harmless} harmless");
    // Slots are not each other's.
    let rows = stored.segment.rows();
    let slot = (0..end).step_by(4).find(|&at| {
        let Vector::Dense(first) = stored.segment.vector(0) else { return false };
        stored.bytes[at..].starts_with(&first[0].to_le_bytes())
            && stored.bytes[at + 4..].starts_with(&first[1].to_le_bytes())
    });
    let slot = slot.unwrap();
    let size = (1..200).map(|n| 4 * n).find(|size| {
        let Vector::Dense(second) = stored.segment.vector(1) else { return false };
        stored.bytes[slot + size..].starts_with(&second[0].to_le_bytes())
    });
    let size = size.unwrap();
    let mut shifted = stored.bytes.to_vec();
    shifted.copy_within(slot..slot + (rows as usize - 1) * size, slot + size);
    assert!(search_changed(&stored, shifted.into(), &[]));
}

#[test]
fn reads_of_another_length_are_seen() {
    let stored = small(Metric::Cosine);
    let query = [Query::dense(Metric::Cosine, &[0.1; 5]).unwrap()];
    let mask = Mask::all(600);
    let fetched = FetchedCells::new(0);
    let effort = Effort::Cells { nprobe: 6, rescored: 60 };
    let plan = || stored.outline.plan_cells(&query, 10, effort, &mask.rows(), &UNBOUNDED, &fetched).unwrap().unwrap();
    let cells = stored.read(plan().ranges());
    let shorter = |bytes: &[Bytes]| -> Vec<Vec<Bytes>> {
        let mut cut = bytes.to_vec();
        cut[0] = cut[0].slice(1..);
        vec![cut, bytes[1..].to_vec(), [bytes, bytes].concat()]
    };
    for bytes in shorter(&cells) {
        assert!(named(plan().scan(&bytes, &fetched).map(|_| ())));
    }
    let rows = || plan().scan(&cells, &fetched).unwrap();
    let slots = stored.read(rows().ranges());
    for bytes in shorter(&slots) {
        assert!(named(rows().hits(&bytes, &none).map(|_| ())));
    }
}

#[test]
fn every_flipped_bit_of_a_column_is_seen() {
    let stored = small(Metric::L2);
    for column in 0..3 {
        let range = stored.outline.column_range(column).unwrap();
        let bytes = stored.bytes.slice(range.start as usize..range.end as usize);
        for at in (0..bytes.len()).step_by(3) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 4;
            assert!(named(stored.outline.columns(&[(column, changed.into())]).map(|_| ())), "byte {at} of {column}");
        }
        assert!(named(stored.outline.columns(&[(column, bytes.slice(1..))]).map(|_| ())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_plan_answers_with_true_distances_of_allowed_rows(
        seed in any::<u64>(),
        metric in prop::sample::select(METRICS.to_vec()),
        (nprobe, rescored, k) in (1u32..40, 1u32..80, 0usize..30),
        (cell_ranges_max, row_ranges_max) in (1usize..12, 1usize..12),
        share in 0.0f64..1.0,
        recall in prop::option::of(0.0f32..1.0),
    ) {
        static STORED: OnceLock<Vec<Stored>> = OnceLock::new();
        let all = STORED.get_or_init(|| METRICS.map(small).into());
        let stored = &all[METRICS.iter().position(|other| *other == metric).unwrap()];
        let mut rng = SmallRng::seed_from_u64(seed);
        let matches: RoaringBitmap = (0..600).filter(|_| rng.random_bool(share)).collect();
        let mask = Mask { matches: Some(matches), ..Mask::all(600) };
        let queries: Vec<Query> = (0..rng.random_range(1..4))
            .map(|_| Query::dense(metric, &[(); 5].map(|()| rng.random_range(-1.0..1.0))).unwrap())
            .collect();
        let effort = recall.map_or(Effort::Cells { nprobe, rescored }, Effort::Recall);
        let budget = ColdBudget { cell_ranges_max, row_ranges_max, bytes_max: rng.random_range(1000..100_000) };
        let superseded = |key: &[u8]| key.last() == Some(&b'3');
        let fetched = FetchedCells::new(rng.random_range(0..20_000));
        for _ in 0..2 {
            let found = stored.search(&queries, k, effort, &mask.rows(), &budget, &fetched, &superseded);
            let Some(answers) = found else { continue };
            prop_assert_eq!(answers.len(), queries.len());
            for (query, answer) in queries.iter().zip(&answers) {
                let exact = stored.segment.search(query, 600, &mask.rows(), Effort::Exact, &|| false).unwrap();
                let place = |row: u32| exact.hits.iter().position(|hit| hit.row == row);
                let mut last = None;
                prop_assert!(answer.hits.len() <= k);
                for hit in &answer.hits {
                    prop_assert!(!superseded(&hit.key));
                    let at = place(hit.row);
                    prop_assert!(at.is_some() && at > last, "row {} is not allowed, or out of order", hit.row);
                    prop_assert_eq!(exact.hits[at.unwrap()].distance.to_bits(), hit.distance.to_bits());
                    last = at;
                }
                stored.check_hits(answer);
            }
        }
    }
}
