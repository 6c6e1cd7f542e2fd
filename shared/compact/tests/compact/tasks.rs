//! A run shared out among processes that know each other's JSON alone equals the run of one process.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tarn_compact::{Builder, CompactError, RunItem, Status, Task, TaskAnswer, TaskPlan, TaskSummary};
use tarn_model::{
    AttributeValue, Index, IndexId, KeyPrefix, Manifest, Metric, ObjectKey, ReadToken, Shard, ShardCondition,
    VectorKind,
};
use tarn_store::{Store, create_index, latest_checkpoint, latest_manifest};
use tarn_testkit::{Faults, Operation};

use crate::common::{World, faulty, gc, index, settings, sharded};

const HOUR: Duration = Duration::from_secs(3600);

/// What Step Functions does to whatever passes from task to task.
fn through_json<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).expect("JSON")).expect("the same again")
}

async fn plan(world: &World) -> TaskPlan {
    through_json(&world.builder().plan_tasks().await.expect("planned"))
}

/// Carries out a fold or a build in a process of its own.
async fn attempt(world: &World, task: &Task) -> Result<TaskAnswer, CompactError> {
    attempt_by(&world.builder(), task).await
}

async fn attempt_by(builder: &Builder, task: &Task) -> Result<TaskAnswer, CompactError> {
    let answer = match through_json(task) {
        Task::Fold { source, up_to } => builder.fold_task(&source, &up_to).await?,
        Task::Build { index, order, part } => builder.build_task(&index, order, part).await?,
        other => panic!("{other:?} is no item of a plan"),
    };
    Ok(through_json(&answer))
}

/// Carries out a task that cannot be carried out; why.
async fn refusal(world: &World, task: &Task) -> String {
    match attempt(world, task).await.expect("answered") {
        TaskAnswer::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

/// Carries out tasks, all of which must succeed.
async fn perform(world: &World, tasks: &[Task]) {
    for task in tasks {
        assert_eq!(attempt(world, task).await.expect("carried out"), TaskAnswer::Done, "{task:?}");
    }
}

async fn publish(world: &World, plan: &TaskPlan) -> TaskSummary {
    world.builder().publish_tasks(&through_json(plan), &[]).await
}

/// How the publication of each index ended.
fn statuses(summary: &TaskSummary) -> Vec<Status> {
    assert_eq!(summary.failures, Vec::<String>::new());
    let status = |item: &RunItem| match item {
        RunItem::Build(_, Ok(outcome)) => outcome.status,
        other => panic!("{other:?}"),
    };
    summary.run.items.iter().map(status).collect()
}

fn failures(summary: &TaskSummary) -> String {
    let of_items = summary.run.failures().map(|(what, error)| format!("{what}: {error}"));
    summary.failures.iter().cloned().chain(of_items).collect::<Vec<_>>().join("; ")
}

async fn manifest(world: &World, index: &Index) -> Manifest {
    latest_manifest(&world.store, &index.id, None).await.expect("read").expect("there")
}

fn indices() -> [Index; 2] {
    [index("graphs", Metric::L2, true), sharded(index("shards", Metric::L2, false))]
}

async fn world_over(store: Store, indices: &[Index; 2]) -> World {
    World::over(store, VectorKind::Dense).await.with_index(&indices[0]).await.with_index(&indices[1]).await
}

/// Some of the tasks twice, and all in any order.
fn muddled(tasks: &[Task], rng: &mut SmallRng) -> Vec<Task> {
    let mut muddled = tasks.to_vec();
    muddled.extend(tasks.iter().filter(|_| rng.random_bool(0.5)).cloned());
    muddled.shuffle(rng);
    muddled
}

#[tokio::test]
async fn tasks_in_any_order_and_twice_equal_the_run_of_one_process() {
    for seed in 0..4 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let indices = indices();
        let mut shared = world_over(Store::memory(), &indices).await;
        let mut alone = world_over(Store::memory(), &indices).await;
        for version in 1..=3 {
            for world in [&mut shared, &mut alone] {
                world.upload_range(0..50 * i64::from(version), "a", version).await;
                world.upload_range(10..40, "b", version).await;
                world.upload_range(0..5, "elsewhere", version).await;
                world.upload(&[world.delete(i64::from(version), "a"), world.delete(11, "b")]).await;
            }
            let plan = plan(&shared).await;
            assert_eq!((plan.folds.len(), plan.builds.len(), plan.left), (1, 3, 0));
            perform(&shared, &muddled(&plan.folds, &mut rng)).await;
            perform(&shared, &muddled(&plan.builds, &mut rng)).await;
            assert_eq!(statuses(&publish(&shared, &plan).await), [Status::Published; 2]);
            let published = (manifest(&shared, &indices[0]).await, manifest(&shared, &indices[1]).await);
            assert_eq!(statuses(&publish(&shared, &plan).await), [Status::Published; 2], "it finds its own");
            assert_eq!((manifest(&shared, &indices[0]).await, manifest(&shared, &indices[1]).await), published);

            alone.run(&alone.builder()).await;
            for index in &indices {
                let (a, b) = (manifest(&shared, index).await, manifest(&alone, index).await);
                assert_eq!((a.generation, &a.watermark, a.rows), (b.generation, &b.watermark, b.rows));
                let counts = |manifest: &Manifest| -> Vec<_> {
                    manifest.shards.iter().map(|s| (s.shard.clone(), s.rows, s.splits, s.segments)).collect()
                };
                assert_eq!(counts(&a), counts(&b));
            }
            shared.check(&[&indices[0], &indices[1]]).await;
        }
        let nothing = plan(&shared).await;
        assert_eq!((nothing.folds, nothing.builds, nothing.failures), (vec![], vec![], vec![]));
    }
}

/// The process that carries out a task dies at its first request, the next one at its second, and so on, until one lives.
struct Mortal<'a> {
    faults: &'a Faults,
    kill: fn(&Faults, u64),
    deaths: u64,
}

impl Mortal<'_> {
    async fn carry_out<T>(&mut self, attempt: impl AsyncFn() -> Result<T, CompactError>) -> T {
        let mut requests = 0;
        loop {
            (self.kill)(self.faults, requests);
            let attempted = attempt().await;
            let died = self.faults.has_crashed();
            self.faults.heal();
            match attempted {
                Ok(done) => return done,
                Err(error) => assert!(died && error.is_retryable(), "{error}"),
            }
            self.deaths += 1;
            requests += 1;
        }
    }
}

async fn die_everywhere(kill: fn(&Faults, u64)) {
    let (store, faults) = faulty();
    let indices = indices();
    let mut world = world_over(store, &indices).await;
    world.upload_range(0..30, "a", 1).await;
    world.upload_range(0..30, "b", 1).await;
    world.run(&world.builder()).await;
    world.upload_range(20..60, "a", 2).await;
    world.upload(&[world.delete(1, "a"), world.upsert(2, "b", 2)]).await;

    // The clock goes on while a dying process waits for a store that does not answer it.
    let mut settings = settings();
    settings.longest_build = HOUR * 1000;
    let builder = || world.builder_with(settings.clone());
    let mut mortal = Mortal { faults: &faults, kill, deaths: 0 };
    let plan = mortal.carry_out(async || builder().plan_tasks().await).await;
    for task in plan.folds.iter().chain(&plan.builds) {
        assert_eq!(mortal.carry_out(async || attempt_by(&builder(), task).await).await, TaskAnswer::Done, "{task:?}");
    }
    let published = async || {
        let summary = builder().publish_tasks(&plan, &[]).await;
        let failure = summary.run.failures().next().map(|(_, error)| error.clone());
        failure.map_or(Ok(summary), Err)
    };
    assert_eq!(statuses(&mortal.carry_out(published).await), [Status::Published; 2]);
    for index in &indices {
        assert_eq!(manifest(&world, index).await.generation, 2, "it was published once");
    }
    world.check(&[&indices[0], &indices[1]]).await;
    assert!(mortal.deaths > 60, "all tasks together make more than {} requests", mortal.deaths);
}

#[tokio::test]
async fn a_task_that_died_between_any_two_requests_is_made_good_by_the_next_attempt() {
    die_everywhere(Faults::crash_after).await;
}

#[tokio::test]
async fn a_task_whose_last_request_took_effect_is_made_good_by_the_next_attempt() {
    die_everywhere(Faults::crash_during).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_state_machines_at_once_publish_each_index_once() {
    let indices = indices();
    let mut world = world_over(Store::memory(), &indices).await;
    for version in 1..=4 {
        world.upload_range(0..60, "a", version).await;
        world.upload_range(0..20, "b", version).await;
        let (one, other) = tokio::join!(plan(&world), plan(&world));
        tokio::join!(perform(&world, &one.folds), perform(&world, &other.folds));
        tokio::join!(perform(&world, &one.builds), perform(&world, &other.builds));
        let (one, other) = tokio::join!(publish(&world, &one), publish(&world, &other));
        // They have planned the same, and share the orders.
        assert_eq!((statuses(&one), statuses(&other)), (vec![Status::Published; 2], vec![Status::Published; 2]));
        assert_eq!(manifest(&world, &indices[0]).await.generation, u64::from(version));
        world.check(&[&indices[0], &indices[1]]).await;
    }
}

/// The second of two who build one part at once finds the result of the first.
#[tokio::test]
async fn a_part_has_one_result() {
    let (store, faults) = faulty();
    let definition = index("flat", Metric::L2, false);
    let mut world = World::over(store, VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..10, "a", 1).await;
    let plan = plan(&world).await;
    perform(&world, &plan.folds).await;
    let Task::Build { index, order, part } = plan.builds[0].clone() else { panic!("a build") };
    let key = ObjectKey::BuildPart { index: index.clone(), order, part };
    let held = faults.hold(Operation::Put, &key.render());
    let slow = world.builder();
    let slow = tokio::spawn(async move { slow.build_task(&index, order, part).await });
    held.arrived().await;
    perform(&world, &plan.builds).await;
    let first = world.store.get(&key).await.expect("read").expect("there");
    held.release();
    assert_eq!(slow.await.expect("ends").expect("carried out"), TaskAnswer::Done);
    assert_eq!(world.store.get(&key).await.expect("read").expect("there"), first);
    assert_eq!(statuses(&publish(&world, &plan).await), [Status::Published]);
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn parts_agree_on_their_watermark_though_checkpoints_go_on() {
    let indices = indices();
    let mut world = world_over(Store::memory(), &indices).await;
    world.upload_range(0..30, "a", 1).await;
    world.upload_range(0..30, "b", 1).await;
    let plan = plan(&world).await;
    perform(&world, &plan.folds).await;
    let (some, others) = plan.builds.split_at(2);
    perform(&world, some).await;
    world.upload_range(10..40, "a", 2).await;
    world.upload_range(10..40, "b", 2).await;
    world.builder().fold(&world.source.id).await.expect("folded");
    perform(&world, others).await;
    assert_eq!(statuses(&publish(&world, &plan).await), [Status::Published; 2]);
    for index in &indices {
        assert_eq!(manifest(&world, index).await.watermark, ReadToken::single(2));
    }
    assert_eq!(world.verify().await.problems, Vec::new());
    world.run(&world.builder()).await;
    world.check(&[&indices[0], &indices[1]]).await;
}

#[tokio::test]
async fn a_fold_that_others_have_overtaken_is_done_and_the_builds_use_theirs() {
    let indices = indices();
    let mut world = world_over(Store::memory(), &indices).await;
    world.upload_range(0..30, "a", 1).await;
    let plan = plan(&world).await;
    world.upload_range(20..40, "b", 2).await;
    world.builder().fold(&world.source.id).await.expect("folded");
    perform(&world, &plan.folds).await;
    let checkpoints = KeyPrefix::Checkpoints(world.source.id.clone());
    assert_eq!(world.store.list(&checkpoints).await.expect("listed").len(), 1);
    perform(&world, &plan.builds).await;
    assert_eq!(statuses(&publish(&world, &plan).await), [Status::Published; 2]);
    world.check(&[&indices[0], &indices[1]]).await;
}

#[tokio::test]
async fn an_index_that_somebody_else_has_published_is_left_to_them() {
    let indices = indices();
    let mut world = world_over(Store::memory(), &indices).await;
    world.upload_range(0..30, "a", 1).await;
    let plan = plan(&world).await;
    perform(&world, &plan.folds).await;
    world.run(&world.builder()).await;
    for task in &plan.builds {
        assert_eq!(attempt(&world, task).await.expect("answered"), TaskAnswer::LostRace);
    }
    assert_eq!(statuses(&publish(&world, &plan).await), [Status::LostRace; 2]);
    world.check(&[&indices[0], &indices[1]]).await;
}

#[tokio::test]
async fn what_no_attempt_makes_better_is_an_answer_and_publish_tells_of_it() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..50, "a", 1).await;
    let delta = ObjectKey::Delta { source: world.source.id.clone(), lane: 0, sequence: 1 };
    let mut bytes = world.store.get(&delta).await.expect("read").expect("there").to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.store.delete(&delta).await.expect("deleted");
    world.store.put_unique(&delta, bytes.into()).await.expect("put");
    let plan = plan(&world).await;
    let mut answers = Vec::new();
    for task in plan.folds.iter().chain(&plan.builds) {
        answers.push(attempt(&world, task).await.expect("answered"));
    }
    let TaskAnswer::Failed(why) = &answers[0] else { panic!("{answers:?}") };
    assert!(why.contains("corrupt") || why.contains(&delta.render()), "{why}");
    let TaskAnswer::Failed(why) = &answers[1] else { panic!("{answers:?}") };
    assert!(why.contains("a checkpoint of"), "{why}");
    let summary = world.builder().publish_tasks(&plan, &answers).await;
    assert_eq!((summary.failures.len(), summary.run.failures().count()), (2, 1), "{}", failures(&summary));
    assert!(latest_manifest(&world.store, &definition.id, None).await.expect("read").is_none());
}

#[tokio::test]
async fn a_task_that_comes_before_its_turn_is_answered_and_changes_nothing() {
    let indices = indices();
    let mut world = world_over(Store::memory(), &indices).await;
    world.upload_range(0..30, "a", 1).await;
    world.upload_range(0..30, "b", 1).await;
    let plan = plan(&world).await;
    let before = world.objects().await;
    for task in &plan.builds {
        let why = refusal(&world, task).await;
        assert!(why.contains("which its fold must publish first, does not exist"), "{why}");
    }
    let why = failures(&publish(&world, &plan).await);
    assert!(why.contains("must be built before it is published, does not exist"), "{why}");
    assert_eq!(world.objects().await, before);

    perform(&world, &plan.folds).await;
    let is_missing = |task: &Task| matches!(task, Task::Build { index, part: 1, .. } if *index == indices[1].id);
    let (missing, some): (Vec<Task>, Vec<Task>) = plan.builds.iter().cloned().partition(is_missing);
    perform(&world, &some).await;
    let published = publish(&world, &plan).await;
    assert_eq!(published.run.failures().count(), 1, "the other index has all its parts");
    assert!(failures(&published).contains("the result of part 1 of "), "{}", failures(&published));
    assert!(latest_manifest(&world.store, &indices[1].id, None).await.expect("read").is_none());

    perform(&world, &missing).await;
    assert_eq!(statuses(&publish(&world, &plan).await), [Status::Published; 2]);
    world.check(&[&indices[0], &indices[1]]).await;
}

/// A result is believed for the order and the part that it was built for, and no other.
#[tokio::test]
async fn results_of_other_parts_and_orders_are_not_published() {
    let definition = sharded(index("shards", Metric::L2, false));
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..30, "a", 1).await;
    world.upload_range(0..30, "b", 1).await;
    let first = plan(&world).await;
    perform(&world, &first.folds).await;
    perform(&world, &first.builds).await;
    world.upload_range(0..30, "a", 2).await;
    let (other, plan) = (plan(&world).await, first);
    assert_ne!(other.builds, plan.builds);
    perform(&world, &other.folds).await;
    perform(&world, &other.builds).await;
    let keys = |plan: &TaskPlan| -> Vec<ObjectKey> {
        let key = |task: &Task| match task.clone() {
            Task::Build { index, order, part } => ObjectKey::BuildPart { index, order, part },
            other => panic!("{other:?} is no build"),
        };
        plan.builds.iter().map(key).collect()
    };
    let (ours, theirs) = (keys(&plan), keys(&other));
    let sound = world.store.get(&ours[1]).await.expect("read").expect("there");
    let read = async |key: &ObjectKey| world.store.get(key).await.expect("read").expect("there");
    let put = async |bytes| {
        world.store.delete(&ours[1]).await.expect("deleted");
        world.store.put_unique(&ours[1], bytes).await.expect("put");
    };
    let text = String::from_utf8(read(&ours[0]).await.to_vec()).expect("text");
    let renumbered = text.replace("\"part\": 0", "\"part\": 1");
    assert_ne!(renumbered, text);
    for foreign in [read(&ours[0]).await, read(&theirs[1]).await, renumbered.into(), "{".into()] {
        put(foreign).await;
        let why = failures(&publish(&world, &plan).await);
        assert!(why.contains(&ours[1].render()), "{why}");
        assert!(latest_manifest(&world.store, &definition.id, None).await.expect("read").is_none());
    }
    put(sound).await;
    assert_eq!(statuses(&publish(&world, &plan).await), [Status::Published]);
    assert_eq!(statuses(&publish(&world, &other).await), [Status::LostRace]);
    world.run(&world.builder()).await;
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn a_plan_that_is_made_again_goes_on_with_what_is_built() {
    let indices = indices();
    let mut world = world_over(Store::memory(), &indices).await;
    world.upload_range(0..30, "a", 1).await;
    world.upload_range(0..30, "b", 1).await;
    let first = plan(&world).await;
    let mut settings = settings();
    settings.fold_deltas_max = 1;
    assert_eq!(attempt_by(&world.builder_with(settings), &first.folds[0]).await.expect("folded"), TaskAnswer::Done);
    let (some, others) = first.builds.split_at(2);
    perform(&world, some).await;
    // The state machine gave up here; another one is started.
    let again = plan(&world).await;
    let by_text = |tasks: &[Task]| -> BTreeSet<String> { tasks.iter().map(|task| format!("{task:?}")).collect() };
    assert_eq!((again.folds.len(), by_text(&again.builds)), (0, by_text(&first.builds)));
    let before = world.objects().await.len();
    perform(&world, some).await;
    assert_eq!(world.objects().await.len(), before, "these are built");
    perform(&world, others).await;
    assert_eq!(statuses(&publish(&world, &again).await), [Status::Published; 2]);
    world.check(&[&indices[0], &indices[1]]).await;
}

/// An order's name may come again. What a builder that slept leaves under it then is not believed.
#[tokio::test]
async fn an_order_that_is_old_or_damaged_is_replaced_and_not_taken_up() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..5, "a", 1).await;
    world.builder().fold(&world.source.id).await.expect("folded");
    let first = plan(&world).await;
    perform(&world, &first.builds).await;
    // More than half of `longest_build`, which is 600 s.
    world.clock.advance(Duration::from_secs(301));
    let second = plan(&world).await;
    assert_ne!(second.builds, first.builds);

    let Task::Build { index, order, part } = first.builds[0].clone() else { panic!("a build") };
    let key = ObjectKey::BuildOrder { index: index.clone(), id: order };
    world.store.delete(&key).await.expect("deleted");
    let anew = plan(&world).await;
    assert_eq!(anew.builds, first.builds, "the name is free again");
    let why = failures(&publish(&world, &anew).await);
    assert!(why.contains(&ObjectKey::BuildPart { index, order, part }.render()), "the old result is refused: {why}");

    world.store.delete(&key).await.expect("deleted");
    world.store.put_unique(&key, "{}".into()).await.expect("put");
    let last = plan(&world).await;
    assert_ne!(last.builds, first.builds);
    perform(&world, &last.builds).await;
    assert_eq!(statuses(&publish(&world, &last).await), [Status::Published]);
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn a_publication_that_is_repeated_late_finds_its_own() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..5, "a", 1).await;
    let plan = plan(&world).await;
    perform(&world, &plan.folds).await;
    perform(&world, &plan.builds).await;
    assert_eq!(statuses(&publish(&world, &plan).await), [Status::Published]);
    world.clock.advance(HOUR);
    assert_eq!(statuses(&publish(&world, &plan).await), [Status::Published]);
    perform(&world, &plan.folds).await;
    perform(&world, &plan.builds).await;
    assert_eq!(manifest(&world, &definition).await.generation, 1);
}

#[tokio::test]
async fn a_fold_to_where_no_timeline_goes_is_refused_and_publishes_nothing() {
    let mut world = World::new(VectorKind::Dense).await;
    world.upload_range(0..5, "a", 1).await;
    let fold = |lanes: &[u64]| Task::Fold { source: world.source.id.clone(), up_to: ReadToken { lanes: lanes.into() } };
    let why = refusal(&world, &fold(&[1, 1])).await;
    assert!(why.contains("a lane of "), "{why}");
    let why = refusal(&world, &fold(&[7])).await;
    assert!(
        why.contains(&ObjectKey::Delta { source: world.source.id.clone(), lane: 0, sequence: 2 }.render()),
        "{why}"
    );
    assert!(latest_checkpoint(&world.store, &world.source.id, None).await.expect("read").is_none());
}

/// A fold in steps publishes checkpoints between the one that is there and the one that the order means.
#[tokio::test]
async fn the_builds_of_a_plan_find_the_checkpoint_of_a_fold_in_steps() {
    let indices = indices();
    let mut world = world_over(Store::memory(), &indices).await;
    for version in 1..=3 {
        world.upload_range(0..30, "a", version).await;
        world.upload_range(0..30, "b", version).await;
    }
    let plan = plan(&world).await;
    let mut settings = settings();
    settings.fold_deltas_max = 4;
    assert_eq!(attempt_by(&world.builder_with(settings), &plan.folds[0]).await.expect("folded"), TaskAnswer::Done);
    perform(&world, &plan.builds).await;
    assert_eq!(statuses(&publish(&world, &plan).await), [Status::Published; 2]);
    assert_eq!(manifest(&world, &indices[0]).await.watermark, ReadToken::single(6));
    world.check(&[&indices[0], &indices[1]]).await;
}

#[tokio::test]
async fn what_was_begun_too_long_ago_is_not_published() {
    let definition = index("flat", Metric::L2, false);
    let mut world = World::new(VectorKind::Dense).await.with_index(&definition).await;
    world.upload_range(0..5, "a", 1).await;
    let plan = plan(&world).await;
    perform(&world, &plan.folds).await;
    perform(&world, &plan.builds).await;
    // `longest_build` is 600 s. A process that starts now has not run for any of them.
    world.clock.advance(Duration::from_secs(601));
    let summary = publish(&world, &plan).await;
    assert!(failures(&summary).contains("nothing was published"), "{}", failures(&summary));
    assert!(latest_manifest(&world.store, &definition.id, None).await.expect("read").is_none());
    world.run(&world.builder()).await;
    world.check(&[&definition]).await;
}

#[tokio::test]
async fn what_a_state_machine_left_is_collected_when_it_is_old() {
    let indices = indices();
    let mut world = world_over(Store::memory(), &indices).await;
    world.upload_range(0..30, "a", 1).await;
    let plan = plan(&world).await;
    perform(&world, &plan.folds).await;
    perform(&world, &plan.builds).await;
    let left = async || {
        let all = world.objects().await.into_iter();
        all.filter(|o| matches!(o.key, Some(ObjectKey::BuildOrder { .. } | ObjectKey::BuildPart { .. }))).count()
    };
    assert_eq!(left().await, 5, "two orders and three parts");
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert_eq!(left().await, 5, "they are young");
    assert_eq!(world.verify().await.problems, Vec::new());
    world.clock.advance(HOUR * 2);
    world.builder().collect_garbage(&gc(HOUR)).await.expect("collected");
    assert_eq!(left().await, 0);
    let TaskAnswer::Failed(why) = attempt(&world, &plan.builds[0]).await.expect("answered") else { panic!("gone") };
    assert!(why.contains("does not exist"), "{why}");
    assert!(failures(&publish(&world, &plan).await).contains("does not exist"));
    world.run(&world.builder()).await;
    world.check(&[&indices[0], &indices[1]]).await;
    assert_eq!(world.verify().await.orphans, 0, "what the parts had built is gone too");
}

/// As many shards as may be, and names as long as may be: plan and answers still pass through Step Functions, and what does
/// not fit has its turn.
#[tokio::test]
async fn a_plan_with_all_its_answers_is_small_however_much_there_is() {
    let mut world = World::new(VectorKind::Dense).await;
    world.upload_range(0..3, "a", 1).await;
    let shard = |i: u32| {
        let value = ShardCondition::Values([AttributeValue::String(format!("group {i}"))].into());
        (format!("shard {i}"), Shard { conditions: [("group".to_owned(), value)].into() })
    };
    for i in 0..6 {
        let mut definition = index("many", Metric::L2, false);
        definition.id = IndexId::new(format!("{i}{}", "n".repeat(127)), "v".repeat(128)).expect("valid");
        definition.shards = (0..1024).map(shard).collect();
        create_index(&world.store, &definition).await.expect("created");
    }
    let mut planned = BTreeSet::new();
    for _ in 0..30 {
        let plan = plan(&world).await;
        assert!(plan.left > 0 && !plan.builds.is_empty());
        let failed = |_: &Task| TaskAnswer::Failed("x".repeat(240));
        let publish = Task::Publish {
            folds: plan.folds.iter().map(failed).collect(),
            builds: plan.builds.iter().map(failed).collect(),
            plan: plan.clone(),
        };
        let bytes = serde_json::to_vec(&publish).expect("JSON").len();
        assert!(bytes < 256 << 10, "{bytes} bytes");
        planned.extend(plan.builds.iter().filter_map(|task| match task {
            Task::Build { index, .. } => Some(index.clone()),
            _ => None,
        }));
    }
    assert_eq!(planned.len(), 6, "every index has its turn");
}
