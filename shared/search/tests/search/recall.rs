//! Recall, on demand and observed.

use tarn_model::Update;
use tarn_search::{Engine, EngineSettings, FilterClass, RecallRequest, SearchRequest};
use tarn_testkit::Scenario;

use crate::world::World;

async fn large(seed: u64) -> World {
    let mut world = World::new(Scenario::dense_large(), seed).await;
    let everything: Vec<Update> = world.scenario.everything(&mut world.rng);
    world.upload(everything).await;
    let index = world.index("graph-l2");
    let head = world.reference.head();
    world.publish(&index, head, false).await;
    world
}

#[tokio::test]
async fn recall_of_an_exact_search_is_1_and_of_a_hasty_one_is_less() {
    let world = large(51).await;
    let (engine, index) = (world.engine(), world.index("graph-l2"));
    let report = |ef_search| {
        let request = RecallRequest { queries: 60, k: 20, ef_search, ..RecallRequest::default() };
        engine.recall(&index.id, request)
    };
    let hasty = report(Some(1)).await.unwrap();
    assert_eq!((hasty.queries, hasty.k, hasty.generation), (60, 20, 1));
    assert!(hasty.recall < 1.0, "{hasty:?}");
    assert!(hasty.lowest <= hasty.recall, "{hasty:?}");
    let usual = report(None).await.unwrap();
    assert!(usual.recall > hasty.recall, "{usual:?}, {hasty:?}");
    let exact = world.index("exact-l2");
    let exact = engine.recall(&exact.id, RecallRequest { queries: 20, ..RecallRequest::default() }).await.unwrap();
    assert_eq!((exact.recall, exact.lowest), (1.0, 1.0));
}

#[tokio::test]
async fn recall_of_nothing_is_1_and_nonsense_is_refused() {
    let world = World::new(Scenario::dense(), 52).await;
    let (engine, index) = (world.engine(), world.index("graph-l2"));
    let report = engine.recall(&index.id, RecallRequest::default()).await.unwrap();
    assert_eq!((report.queries, report.recall), (0, 1.0));
    for request in [
        RecallRequest { queries: 0, ..RecallRequest::default() },
        RecallRequest { k: 1_001, ..RecallRequest::default() },
    ] {
        assert!(engine.recall(&index.id, request).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_searches_are_compared_with_exact_ones() {
    let mut world = large(53).await;
    let settings = EngineSettings { recall_share: 1.0, ..world.settings() };
    let engine = Engine::new(world.store.clone(), settings).unwrap();
    let index = world.index("graph-l2");
    engine.warm(&index.id).await.unwrap();
    let request = SearchRequest { exact: false, ef_search: Some(1), ..world.request(20) };
    engine.search(&index.id, SearchRequest { exact: true, ..request.clone() }).await.unwrap();
    let mut searches = 0;
    // They are compared beside the searches, whenever that is; a search more each time it has not happened yet.
    let observed = loop {
        engine.search(&index.id, request.clone()).await.unwrap();
        searches += 1;
        tokio::task::yield_now().await;
        if let [observed] = engine.observed_recall(&index.id).as_slice() {
            break observed.clone();
        }
        assert!(searches < 100_000, "never compared");
    };
    assert_eq!(observed.class, FilterClass::None);
    assert!(observed.queries % 3 == 0 && observed.queries <= searches * 3, "{observed:?}");
    assert!((0.0..1.0).contains(&observed.recall()), "{observed:?}");
    let description = engine.describe(&index.id, 0).await.unwrap();
    assert_eq!(description.recall.len(), 1);
    assert!(world.engine().observed_recall(&index.id).is_empty(), "nothing unless it is asked for");
}
