//! Verification finds what is wrong, wherever it is, and says in which object.

use tarn_model::{KeyPrefix, Metric, ObjectKey, VectorKind};

use crate::common::{World, index};

async fn built() -> World {
    let definition = index("graphs", Metric::L2, true);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    let mut settings = crate::common::settings();
    settings.merge_fan = 8;
    let builder = world.builder_with(settings);
    world.upload_range(0..60, "a", 1).await;
    world.upload_range(0..10, "b", 1).await;
    world.run(&builder).await;
    world.upload(&[world.upsert(1, "a", 2), world.delete(2, "b")]).await;
    world.run(&builder).await;
    world
}

async fn replace(world: &World, key: &ObjectKey, bytes: Vec<u8>) {
    world.store.delete(key).await.expect("deleted");
    world.store.put_unique(key, bytes.into()).await.expect("put");
}

#[tokio::test]
async fn a_sound_store_has_no_problems_and_everything_was_read() {
    let world = built().await;
    let report = world.verify().await;
    assert_eq!(report.problems, Vec::new());
    assert_eq!(report.orphans, 0);
    // 69 live points, in the checkpoint and in the index.
    assert_eq!(report.rows, 2 * 69);
    let definitions = 2;
    assert_eq!(report.objects + definitions, world.objects().await.len() as u64);
}

#[tokio::test]
async fn a_flipped_bit_in_an_object_of_any_kind_is_found_and_named() {
    let world = built().await;
    let mut kinds = std::collections::BTreeSet::new();
    for object in world.objects().await {
        let key = object.key.expect("one of ours");
        let kind = object.path.rsplit('/').nth(1).expect("a folder").to_owned();
        if matches!(key, ObjectKey::Source(_) | ObjectKey::Index(_)) {
            continue;
        }
        kinds.insert(kind.clone());
        let sound = world.store.get(&key).await.expect("read").expect("there").to_vec();
        // JSON tolerates a changed space; its roots are damaged where it matters.
        let at = if matches!(key, ObjectKey::Hint(_)) {
            // One of another generation is stale, and no fault.
            let text = String::from_utf8(sound.clone()).expect("text");
            let places = [("rows", 1), ("vectorDimension\":", 17), ("\"bytes\":\"", 12)];
            places.map(|(what, offset)| text.find(what).expect(what) + offset).to_vec()
        } else if object.path.ends_with(".json") {
            let text = String::from_utf8(sound.clone()).expect("text");
            vec![text.find("\"rows\"").expect("rows") + 2, text.find("\"generation\"").expect("a generation") + 14]
        } else {
            (1..8).map(|eighth| sound.len() * eighth / 8).collect()
        };
        for at in at {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            replace(&world, &key, damaged).await;
            let report = world.verify().await;
            let named = report.problems.iter().any(|problem| problem.object == object.path);
            assert!(named, "a flipped bit at {at} of {} ({kind}): {:?}", object.path, report.problems);
        }
        replace(&world, &key, sound[..sound.len() / 2].to_vec()).await;
        let report = world.verify().await;
        assert!(report.problems.iter().any(|p| p.object == object.path), "{} cut in half", object.path);
        replace(&world, &key, sound).await;
    }
    assert!(kinds.len() >= 5, "{kinds:?}");
    assert_eq!(world.verify().await.problems, Vec::new());
}

#[tokio::test]
async fn a_missing_object_of_any_kind_is_found() {
    let world = built().await;
    for object in world.objects().await {
        let key = object.key.expect("one of ours");
        // The newest root is what says that there is something to miss.
        let skip = matches!(
            key,
            ObjectKey::Source(_)
                | ObjectKey::Index(_)
                | ObjectKey::Checkpoint { .. }
                | ObjectKey::Manifest { .. }
                | ObjectKey::Hint(_)
        );
        if skip || matches!(key, ObjectKey::Delta { sequence: 3, .. }) {
            continue;
        }
        let sound = world.store.get(&key).await.expect("read").expect("there").to_vec();
        world.store.delete(&key).await.expect("deleted");
        assert!(!world.verify().await.problems.is_empty(), "{} is missing", object.path);
        replace(&world, &key, sound).await;
    }
}

#[tokio::test]
async fn a_checkpoint_that_is_not_the_fold_is_found() {
    let mut world = built().await;
    // One more delta, then a checkpoint that claims to include it.
    let checkpoints = world.store.list(&KeyPrefix::Checkpoints(world.source.id.clone())).await.expect("listed");
    let key = checkpoints[0].key.clone().expect("ours");
    world.upload_range(0..5, "new", 1).await;
    let text = String::from_utf8(world.store.get(&key).await.expect("read").expect("there").to_vec()).expect("text");
    let mut root: serde_json::Value = serde_json::from_str(&text).expect("json");
    root["watermark"] = serde_json::json!([4]);
    replace(&world, &key, serde_json::to_vec(&root).expect("json")).await;
    let problems = world.verify().await.problems;
    assert!(problems.iter().any(|problem| problem.message.contains("checkpoint-equals-fold")), "{problems:?}");
}

#[tokio::test]
async fn an_index_that_is_not_the_checkpoint_is_found() {
    let world = built().await;
    let manifests =
        world.store.list(&KeyPrefix::Manifests(index("graphs", Metric::L2, true).id)).await.expect("listed");
    let (newest, older) = (manifests[0].key.clone().expect("ours"), manifests[1].key.clone().expect("ours"));
    // The older content under the newer watermark.
    let read = async |key: &ObjectKey| -> serde_json::Value {
        let bytes = world.store.get(key).await.expect("read").expect("there");
        serde_json::from_slice(&bytes).expect("json")
    };
    let (mut root, stale) = (read(&newest).await, read(&older).await);
    root["shards"] = stale["shards"].clone();
    root["rows"] = stale["rows"].clone();
    replace(&world, &newest, serde_json::to_vec(&root).expect("json")).await;
    let problems = world.verify().await.problems;
    assert!(problems.iter().any(|problem| problem.message.contains("index-equals-checkpoint")), "{problems:?}");
}
