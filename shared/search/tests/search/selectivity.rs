//! Filters are exact at every selectivity, over segments and tail, on the graph and off it.

use tarn_model::{AttributeValue, CompareOp, Filter, Update};
use tarn_search::SearchRequest;
use tarn_testkit::{Scenario, Scope};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_hold_from_half_of_the_points_to_one_in_a_thousand() {
    let mut world = World::new(Scenario::dense(), 1).await;
    let engine = world.engine();
    // Serials are unique among the points, so that a bound on the serial has the selectivity that it says.
    let mut serial = 0;
    for _ in 0..4 {
        let mut updates = Vec::new();
        for _ in 0..1000 {
            let mut point = world.scenario.point(&mut world.rng, serial);
            point.attributes.insert("id".into(), AttributeValue::Int64(serial));
            updates.push(Update::Upsert(point));
            serial += 1;
        }
        world.upload(updates).await;
    }
    for name in ["exact-l2", "graph-l2", "graph-ip"] {
        let index = world.index(name);
        world.publish(&index, 3, false).await;
        for share in [0.5, 0.1, 0.01, 0.001] {
            let bound = (f64::from(i32::try_from(serial).unwrap()) * share) as i64;
            let filter =
                Filter::Compare { attribute: "serial".into(), op: CompareOp::Lt, value: AttributeValue::Int64(bound) };
            let mut request = world.request(10);
            request.filter = Some(filter.clone());
            world.check(&engine, &index, request.clone()).await;
            // The planner's default: as many as there are, each of them a match, recall as promised.
            let scope = Scope { filter: Some(filter), ..Scope::default() };
            let default = SearchRequest { exact: false, ..request };
            let response = engine.search(&index.id, default.clone()).await.unwrap();
            for (query, found) in default.queries.iter().zip(&response.results) {
                let ranked = world.reference.ranked(&index, u64::MAX, &scope, query);
                assert_eq!(found.len(), ranked.len().min(10), "{name} at {share}");
                let cut = ranked[found.len() - 1].distance;
                let near = found.iter().filter(|found| match index.algorithm.metric.higher_is_nearer() {
                    true => found.distance >= cut - 1e-5,
                    false => found.distance <= cut + 1e-5,
                });
                assert!(near.count() * 10 >= found.len() * 8, "{name} at {share}");
            }
        }
    }
}
