//! What a deadline leaves: in which order rows are visited, and that an answer never claims what was skipped
//! (`coverage-claims-nothing-skipped`).
//!
//! The clock of these tests goes on by a tick each time that it is read, so that a search is stopped at each of its steps in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tarn_model::{AttributeValue, CompareOp, Filter, Index, Score, Update};
use tarn_search::{Consistency, Engine, EngineSettings, Ranking, SearchRequest, SearchResponse};
use tarn_store::Clock;
use tarn_testkit::Scenario;

use crate::world::World;

/// Goes on when it is read.
#[derive(Debug, Default)]
struct Ticking(AtomicU64);

#[async_trait]
impl Clock for Ticking {
    fn now_ms(&self) -> i64 {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.fetch_add(1, Ordering::Relaxed))
    }

    async fn sleep(&self, _: Duration) {
        std::future::pending().await
    }
}

/// More ticks than any of these searches takes.
const WHOLE: u64 = 3_000;
/// Points in the tail.
const TAIL: usize = 30;

/// An index of two segments with a tail, and an engine of one thread that has its files.
async fn world(scenario: Scenario, index: &str, points: [usize; 2]) -> (World, Arc<Index>, Engine) {
    let mut world = World::new(scenario, 77).await;
    world.cells = true;
    let index = world.index(index);
    let mut serial = 0;
    for (count, watermark) in [(points[0], Some(1)), (points[1], Some(2)), (TAIL, None)] {
        let updates = (0..count).map(|_| {
            serial += 1;
            let mut point = world.scenario.point(&mut world.rng, serial);
            point.attributes.insert("id".into(), AttributeValue::Int64(serial));
            Update::Upsert(point)
        });
        let updates = updates.collect();
        world.upload(updates).await;
        if let Some(watermark) = watermark {
            world.publish(&index, watermark, false).await;
        }
    }
    let settings = EngineSettings { threads: 1, eventual_max_age: Duration::from_secs(3600), ..world.settings() };
    let engine = Engine::new(world.store.with_clock(Arc::new(Ticking::default())), settings).unwrap();
    engine.warm(&index.id).await.unwrap();
    (world, index, engine)
}

async fn after(engine: &Engine, index: &Index, request: &SearchRequest, ticks: Option<u64>) -> SearchResponse {
    let deadline = ticks.map(Duration::from_nanos);
    let request = SearchRequest { deadline, consistency: Consistency::Eventual, ..request.clone() };
    engine.search(&index.id, request).await.unwrap()
}

/// Stops a search at each of its steps. Gives the answers, the whole one last.
async fn stopped(engine: &Engine, index: &Index, request: &SearchRequest) -> Vec<SearchResponse> {
    let whole = after(engine, index, request, None).await;
    assert_eq!(whole.coverage, 1.0);
    let mut answers = Vec::new();
    for ticks in 1..WHOLE {
        let answer = after(engine, index, request, Some(ticks)).await;
        if answer.coverage >= 1.0 {
            assert_eq!(answer.results, whole.results, "{ticks}: nothing was skipped");
            answers.push(answer);
            return answers;
        }
        assert!(answer.results.iter().all(|found| found.len() <= request.k as usize), "{ticks}");
        answers.push(answer);
    }
    panic!("never whole");
}

#[tokio::test]
async fn coverage_claims_nothing_skipped() {
    for (scenario, name, points) in [
        (Scenario::dense_large(), "graph-l2", [1_500, 900]),
        (Scenario::dense(), "exact-l2", [300, 200]),
        (Scenario::sparse(), "jaccard", [300, 200]),
    ] {
        let (mut world, index, engine) = world(scenario, name, points).await;
        let plain = world.request(5);
        let filter = Filter::Compare { attribute: "id".into(), op: CompareOp::Gt, value: AttributeValue::Int64(100) };
        let mut scored = Ranking::default();
        scored.score = Some(Score::QuickVectorDistance);
        let mut requests = vec![
            SearchRequest { exact: true, ..plain.clone() },
            SearchRequest { filter: Some(filter), ..plain.clone() },
            SearchRequest { queries: vec![plain.queries[0].clone(); 3], ..plain.clone() },
        ];
        if !index.algorithm.metric.is_sparse() {
            requests.push(SearchRequest { ranking: Some(scored), ..plain.clone() });
        }
        requests.push(plain);
        for request in requests {
            let answers = stopped(&engine, &index, &request).await;
            let partial = answers.iter().filter(|answer| answer.coverage > 0.0 && answer.coverage < 1.0).count();
            assert!(partial > 0, "{name}: it can be stopped between");
        }
    }
}

#[tokio::test]
async fn the_tail_comes_first_and_then_a_look_into_every_segment() {
    let (mut world, index, engine) = world(Scenario::dense_large(), "graph-l2", [1_500, 900]).await;
    let live = 2_400.0 + TAIL as f64;
    let request = SearchRequest { exact: true, ..world.request(10) };
    let answers = stopped(&engine, &index, &request).await;
    let considered = |answer: &SearchResponse| (answer.coverage * live).round() as usize;
    let first = answers.iter().map(considered).find(|&rows| rows > 0);
    assert_eq!(first, Some(TAIL), "the tail alone, and all of it");
    // What the looks have found, before any segment is searched: ten rows of each.
    let looked = answers.iter().rfind(|answer| considered(answer) == TAIL + 20).unwrap();
    let whole = &answers.last().unwrap().results[0];
    let farthest = whole.last().unwrap().distance;
    let right = looked.results[0].iter().filter(|found| found.distance <= farthest).count();
    assert!(right >= 9, "{right} of 10 after {} of {live} rows", considered(looked));
}
