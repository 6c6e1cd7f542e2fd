//! One upsert, from the client's upload to the search that finds it, at a store that is 20 ms away.

use std::sync::Arc;
use std::time::Duration;

use tarn_model::Update;
use tarn_store::{Clock, LatencyStore, Meter, Spent, Store};
use tarn_testkit::{Scenario, SteppedClock};

use crate::world::World;

const FIRST_BYTE: Duration = Duration::from_millis(20);

/// What a future gives and spends, and how long it waits for the store.
async fn measured<F: Future>(clock: &SteppedClock, future: F) -> (F::Output, Spent, Duration) {
    let (meter, began) = (Meter::new(), clock.monotonic());
    let output = meter.scope(future).await;
    (output, meter.spent(), clock.monotonic().saturating_sub(began))
}

#[tokio::test]
async fn an_upsert_is_acknowledged_after_one_round_trip_and_seen_by_a_strong_search_of_two() {
    let clock = Arc::new(SteppedClock::new());
    let far = Store::memory().layer(|objects| Arc::new(LatencyStore::new(objects, clock.clone(), FIRST_BYTE)));
    let upsert = async {
        let mut world = World::over(far, Scenario::dense(), 1).await;
        let (engine, index) = (world.engine(), world.index("exact-l2"));
        world.upload_random(50).await;
        world.publish(&index, 1, false).await;
        let request = world.request(20);
        world.check(&engine, &index, request.clone()).await;
        for _ in 0..3 {
            let point = Update::Upsert(world.scenario.point(&mut world.rng, 1));
            let (token, spent, took) = measured(&clock, world.upload(vec![point])).await;
            assert_eq!((spent.requests.puts, spent.requests.total(), took), (1, 1, FIRST_BYTE));

            let (response, spent, took) = measured(&clock, engine.search(&index.id, request.clone())).await;
            assert_eq!(response.unwrap().version, token);
            // The next generation and the next delta, which is there; then that there is no other.
            assert_eq!((spent.requests.gets, spent.requests.total(), spent.round_trips), (4, 4, 2));
            assert_eq!(took, 2 * FIRST_BYTE);

            let (_, spent, took) = measured(&clock, engine.search(&index.id, request.clone())).await;
            assert_eq!((spent.requests.gets, spent.requests.total(), took), (2, 2, FIRST_BYTE), "nothing new");
        }
    };
    clock.run(upsert).await;
}
