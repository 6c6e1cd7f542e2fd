//! What is damaged is named, and never left out of an answer in silence.

use tarn_model::{KeyPrefix, ObjectKey};
use tarn_search::SearchError;
use tarn_store::StoreError;
use tarn_testkit::Scenario;

use crate::world::World;

/// Publishes, damages the first object under a prefix, searches, and gives the error's text.
async fn damaged(prefix: impl Fn(&World) -> KeyPrefix, damage: impl Fn(&mut Vec<u8>)) -> (String, SearchError) {
    let mut world = World::new(Scenario::dense(), 1).await;
    let index = world.index("exact-l2");
    world.upload_random(50).await;
    world.publish(&index, 1, false).await;
    world.upload_random(5).await;
    let listed = world.store.list(&prefix(&world)).await.unwrap();
    let victim = listed.last().unwrap();
    let key = victim.key.clone().unwrap();
    let mut bytes = world.store.get(&key).await.unwrap().unwrap().to_vec();
    damage(&mut bytes);
    world.store.put_unique(&key, bytes.into()).await.unwrap();
    let request = world.request(5);
    let error = world.engine().search(&index.id, request).await.expect_err("damage goes unnoticed");
    (victim.path.clone(), error)
}

#[tokio::test]
async fn a_flipped_bit_in_any_object_is_an_error_that_names_the_object() {
    let id = |world: &World| world.index("exact-l2").id.clone();
    let prefixes: [&dyn Fn(&World) -> KeyPrefix; 4] = [
        &|world| KeyPrefix::Segments(id(world)),
        &|world| KeyPrefix::Catalogs(id(world)),
        &|world| KeyPrefix::Manifests(id(world)),
        &|world| KeyPrefix::Timeline(world.scenario.source.id.clone(), 0),
    ];
    for prefix in prefixes {
        for place in [0.1, 0.5, 0.9] {
            let flip = |bytes: &mut Vec<u8>| {
                let at = (bytes.len() as f64 * place) as usize;
                bytes[at] ^= 0x80;
            };
            let (path, error) = damaged(prefix, flip).await;
            let is_corrupt = matches!(&error, SearchError::Corrupt(_) | SearchError::Store(StoreError::Corrupt(_)));
            assert!(is_corrupt, "{path}: {error:?}");
            assert!(error.to_string().contains(&path), "{path} is not named in: {error}");
        }
        let (path, error) = damaged(prefix, |bytes| bytes.truncate(bytes.len() / 2)).await;
        assert!(error.to_string().contains(&path), "{path} is not named in: {error}");
    }
}

#[tokio::test]
async fn a_missing_segment_is_an_error_that_names_it() {
    let mut world = World::new(Scenario::dense(), 2).await;
    let index = world.index("exact-l2");
    world.upload_random(50).await;
    world.publish(&index, 1, false).await;
    let listed = world.store.list(&KeyPrefix::Segments(index.id.clone())).await.unwrap();
    world.store.delete(listed[0].key.as_ref().unwrap()).await.unwrap();
    let request = world.request(5);
    let error = world.engine().search(&index.id, request).await.unwrap_err();
    assert!(matches!(error, SearchError::Store(StoreError::Missing { .. })), "{error:?}");
    assert!(error.to_string().contains(&listed[0].path), "{error}");
}

#[tokio::test]
async fn a_local_copy_that_goes_bad_is_fetched_again() {
    let mut world = World::new(Scenario::dense(), 4).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(50).await;
    let manifest = world.publish(&index, 1, false).await;
    let request = world.request(5);
    world.check(&engine, &index, request.clone()).await;
    // Nobody has the file open any more when the disk flips a bit of it.
    engine.forget(&index.id);
    let bytes = manifest.shards[0].segment_bytes;
    let mut directories = vec![world.settings().cache_dir];
    let mut damaged = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            if metadata.is_dir() {
                directories.push(path);
            } else if metadata.len() == bytes {
                let mut contents = std::fs::read(&path).unwrap();
                contents[100] ^= 1;
                std::fs::write(&path, contents).unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1);
    world.check(&engine, &index, request).await;
}

#[tokio::test]
async fn a_gap_in_the_timeline_is_an_error_that_names_the_delta() {
    let mut world = World::new(Scenario::dense(), 3).await;
    let index = world.index("exact-l2");
    for _ in 0..4 {
        world.upload_random(5).await;
    }
    let key = ObjectKey::Delta { source: world.scenario.source.id.clone(), lane: 0, sequence: 2 };
    world.store.delete(&key).await.unwrap();
    let request = world.request(5);
    let error = world.engine().search(&index.id, request).await.unwrap_err();
    assert!(error.to_string().contains(&key.render()), "{error}");
}
