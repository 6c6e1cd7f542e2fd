//! Scores, groups, context and combinations against the reference: segments, tail and leaves alike.

use std::sync::Arc;

use rand::Rng;
use rand::seq::IndexedRandom;
use tarn_model::{AttributeValue, Attributes, Filter, Index, PointKey, Score, Update, Vector};
use tarn_search::{
    Combine, Engine, EngineSettings, Found, FoundGroup, GroupScore, Grouping, Ranking, SearchError, SearchRequest,
    SearchResponse, SegmentPlan, Shape,
};
use tarn_testkit::{Fuse, Groups, Neighbour, RankBy, Scenario, Scope, TOLERANCE, grouped};

use crate::answers::some_filter;
use crate::leaves::Leaves;
use crate::world::World;

const SCORES: [Option<Score>; 4] =
    [None, Some(Score::VectorDistance), Some(Score::QuickVectorDistance), Some(Score::VectorMultiplication)];

fn key(world: &World, found: &Found) -> PointKey {
    let attributes: Attributes = found.attributes.iter().cloned().collect();
    PointKey::encode(&world.scenario.source, &attributes).unwrap()
}

fn found(world: &World, result: &[Found]) -> Vec<(PointKey, f64)> {
    result.iter().map(|found| (key(world, found), found.distance)).collect()
}

fn usual(index: &Index, score: Option<Score>) -> bool {
    score.map_or(index.algorithm.metric.higher_is_nearer(), Score::higher_is_better)
}

/// Filters that hide stored points, as queries by their ids do.
fn without(filter: Option<Filter>, ids: &[Attributes]) -> Option<Filter> {
    let is = |id: &Attributes| {
        let equal = |(attribute, value): (&String, &AttributeValue)| Filter::In {
            attribute: attribute.clone(),
            values: vec![value.clone()],
        };
        Filter::Not(Box::new(Filter::And(id.iter().map(equal).collect())))
    };
    Some(Filter::And(filter.into_iter().chain(ids.iter().map(is)).collect()))
}

/// Some shape. On a grid of small fractions all of its scores are exact, so that answers are equal to the last bit.
fn some_request(world: &mut World, index: &Index) -> SearchRequest {
    let k = [1, 3, 10, 400][world.rng.random_range(0..4)];
    let mut request = SearchRequest { exact: true, ..SearchRequest::new(Vec::new(), k) };
    for _ in 0..world.rng.random_range(1..4) {
        request.queries.push(world.scenario.vector(&mut world.rng));
    }
    request.filter = world.rng.random_bool(0.4).then(|| some_filter(world));
    if world.rng.random_bool(0.7) {
        let score = *SCORES.choose(&mut world.rng).unwrap();
        let higher = [None, Some(false), Some(true)][world.rng.random_range(0..3)];
        request.ranking = Some(Ranking::new(score, higher));
    }
    let mut shape = Shape::default();
    let live: Vec<Attributes> = {
        let everything = Scope::default();
        let points = world.reference.indexed_at(index, u64::MAX, &everything);
        points.map(|(_, point)| point.attributes.clone()).collect()
    };
    for _ in 0..world.rng.random_range(0..3) {
        if let Some(attributes) = live.choose(&mut world.rng) {
            let permanent = &world.scenario.source.permanent_attributes;
            let id: Attributes = attributes
                .iter()
                .filter(|(name, _)| permanent.contains(*name))
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect();
            if !shape.query_ids.contains(&id) {
                shape.query_ids.push(id);
            }
        }
    }
    for _ in 0..world.rng.random_range(0..3) {
        shape.context.push(world.scenario.vector(&mut world.rng));
    }
    shape.prioritize = !shape.context.is_empty() && world.rng.random_bool(0.3);
    shape.combine =
        [None, Some(Combine::Best), Some(Combine::Sum), Some(Combine::ReciprocalRank)][world.rng.random_range(0..4)];
    shape.result_limit = world.rng.random_bool(0.5).then(|| world.rng.random_range(1..6));
    if world.rng.random_bool(0.6) {
        let by = *["colour", "region", "split", "guid", "serial"].choose(&mut world.rng).unwrap();
        let score = [GroupScore::Best, GroupScore::Sum, GroupScore::SumOverSquare][world.rng.random_range(0..3)];
        let limit = world.rng.random_range(1..4);
        let value = world.scenario.value(&mut world.rng, by);
        let filter = world
            .rng
            .random_bool(0.3)
            .then(|| Filter::Not(Box::new(Filter::In { attribute: by.to_owned(), values: vec![value] })));
        shape.grouping = Some(Grouping { by: by.to_owned(), limit, score, filter });
    }
    request.shape = Some(Box::new(shape));
    request
}

/// Searches, and holds the answer against the reference.
async fn check(world: &World, engine: &Engine, index: &Index, request: SearchRequest) -> SearchResponse {
    let response = engine.search(&index.id, request.clone()).await.unwrap();
    assert_eq!(response.coverage, 1.0);
    let version = response.version.sequence(0);
    let shape = request.shape.as_deref().cloned().unwrap_or_default();
    let ranking = request.ranking.clone().unwrap_or_default();
    let rank = RankBy {
        score: ranking.score,
        higher_is_better: ranking.higher_is_better.unwrap_or_else(|| usual(index, ranking.score)),
    };
    let stored = |id: &Attributes| {
        let key = PointKey::encode(&world.scenario.source, id).unwrap();
        world.reference.live_at(version).find(|(other, _)| **other == key).unwrap().1.vector.clone()
    };
    let stored: Vec<Vector> = shape.query_ids.iter().map(stored).collect();
    assert_eq!(response.stored, stored);
    let queries: Vec<Vector> = request.queries.iter().chain(&stored).cloned().collect();
    let list = |query: &Vector| -> Vec<Vector> {
        let query = (!shape.prioritize).then(|| query.clone());
        query.into_iter().chain(shape.context.clone()).collect()
    };
    let lists: Vec<Vec<Vector>> = queries.iter().map(list).collect();
    let (lines, fuse): (Vec<Vec<Vec<Vector>>>, Fuse) = match shape.combine {
        None => (lists.into_iter().map(|list| vec![list]).collect(), Fuse::Best),
        Some(Combine::Best) => (vec![lists], Fuse::Best),
        Some(Combine::Sum) => (vec![lists], Fuse::Sum),
        Some(Combine::ReciprocalRank) => (vec![lists], Fuse::Reciprocal(request.k as usize)),
    };
    assert_eq!(response.results.len(), lines.len());
    let group_filter = shape.grouping.as_ref().and_then(|grouping| grouping.filter.clone());
    let filter = without(request.filter.clone(), &shape.query_ids);
    let filter = Some(Filter::And(filter.into_iter().chain(group_filter).collect()));
    let scope = Scope { split_filter: request.split_filter.clone(), filter };
    let wanted = shape.result_limit.unwrap_or(request.k) as usize;
    for (at, (line, result)) in lines.iter().zip(&response.results).enumerate() {
        let mut ranked = world.reference.ranked_by(index, version, &scope, rank, (line, fuse));
        let order = match fuse {
            Fuse::Reciprocal(_) => RankBy { score: None, higher_is_better: true },
            Fuse::Best | Fuse::Sum => rank,
        };
        match &shape.grouping {
            None => {
                ranked.truncate(wanted.min(request.k as usize));
                assert_same(&found(world, result), &ranked, &request);
            }
            Some(grouping) => {
                let groups = &response.groups.as_ref().unwrap()[at];
                let wanted = Groups {
                    by: &grouping.by,
                    limit: grouping.limit as usize,
                    candidates: request.k as usize,
                    wanted,
                    score: group_score(grouping.score),
                };
                let expected = grouped(&ranked, order, &wanted);
                let mut rest = result.as_slice();
                let answered: Vec<_> = groups.groups.iter().map(|group| take(world, group, &mut rest)).collect();
                assert_eq!(answered, expected, "{request:?}");
                assert!(rest.is_empty(), "points of no group");
                if !matches!(fuse, Fuse::Reciprocal(_)) {
                    assert!(groups.complete, "{request:?}");
                }
            }
        }
    }
    response
}

fn assert_same(found: &[(PointKey, f64)], ranked: &[Neighbour], request: &SearchRequest) {
    let expected: Vec<(PointKey, f64)> = ranked.iter().map(|n| (n.key.clone(), n.distance)).collect();
    assert_eq!(found, expected, "{request:?}");
}

fn take(world: &World, group: &FoundGroup, rest: &mut &[Found]) -> (AttributeValue, f64, Vec<PointKey>) {
    let (points, others) = rest.split_at(group.points);
    *rest = others;
    (group.value.clone(), group.score, points.iter().map(|found| key(world, found)).collect())
}

fn group_score(score: GroupScore) -> fn(&[f64]) -> f64 {
    match score {
        GroupScore::Best => |scores| scores[0],
        GroupScore::Sum => |scores| scores.iter().sum(),
        GroupScore::SumOverSquare => |scores| scores.iter().sum::<f64>() / (scores.len() * scores.len()) as f64,
    }
}

async fn all_equal_the_reference(world: &mut World, engine: &Engine) {
    for round in 0..8 {
        for name in ["exact-l2", "exact-ip", "graph-l2"] {
            let index = world.index(name);
            for _ in 0..4 {
                let request = some_request(world, &index);
                check(world, engine, &index, request).await;
            }
            if round % 3 == 1 {
                let watermark = world.reference.head().saturating_sub(round % 2);
                world.publish(&index, watermark, round % 2 == 0).await;
            }
        }
        for _ in 0..world.rng.random_range(1..4) {
            let size = [1, 3, 60][world.rng.random_range(0..3)];
            world.upload_random(size).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shaped_search_equals_the_reference() {
    for seed in 0..4 {
        let mut world = World::new(Scenario::dense(), 400 + seed).await;
        let engine = world.engine();
        world.upload_random(200).await;
        all_equal_the_reference(&mut world, &engine).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shaped_search_through_leaves_equals_the_reference() {
    for seed in 0..2 {
        let mut world = World::new(Scenario::dense(), 500 + seed).await;
        let leaves = Leaves::over((0..3).map(|_| world.engine()).collect());
        let settings = EngineSettings { leaf_bytes: 1, ..world.settings() };
        let root = Engine::with_leaves(world.store.clone(), settings, leaves.clone()).unwrap();
        world.upload_random(200).await;
        all_equal_the_reference(&mut world, &root).await;
        assert!(leaves.asked() > 20, "leaves were asked {} times", leaves.asked());
    }
}

/// Every score in both directions, in indices of every metric. Those of cosines are not exact: rounding is forgiven.
async fn scores_rank(scenario: Scenario, scores: &[Score]) {
    let mut world = World::new(scenario, 21).await;
    let engine = world.engine();
    for _ in 0..4 {
        world.upload_random(60).await;
    }
    let indices: Vec<Arc<Index>> = world
        .scenario
        .indices
        .iter()
        .filter(|index| index.algorithm.metric != tarn_model::Metric::SparseJaccard)
        .cloned()
        .collect();
    for index in &indices {
        world.publish(index, 3, false).await;
        for &score in scores {
            for higher in [None, Some(false), Some(true)] {
                let mut request = world.request(7);
                request.explain = true;
                request.ranking = Some(Ranking::new(Some(score), higher));
                let response = engine.search(&index.id, request.clone()).await.unwrap();
                let is_usual = higher.is_none_or(|higher| higher == score.higher_is_better());
                let by_index = score.is_served_by(index.algorithm.metric) && is_usual;
                assert_eq!(response.ranked.by_index, by_index, "{score} {higher:?} of {}", index.id);
                let mut plans = response.segments.iter().map(|segment| segment.plan);
                assert!(by_index || plans.all(|plan| plan == SegmentPlan::Exact), "{:?}", response.segments);
                let rank = RankBy { score: Some(score), higher_is_better: higher.unwrap_or(score.higher_is_better()) };
                for (query, result) in request.queries.iter().zip(&response.results) {
                    let lists = [vec![query.clone()]];
                    let ranked = world.reference.ranked_by(index, 4, &Scope::default(), rank, (&lists, Fuse::Best));
                    assert_eq!(result.len(), 7.min(ranked.len()));
                    // An angle of about nothing has half the digits of its cosine.
                    let tolerance = if score == Score::AngularDistance { 1e-3 } else { TOLERANCE };
                    for (place, (key, got)) in found(&world, result).into_iter().enumerate() {
                        let own = ranked.iter().find(|neighbour| neighbour.key == key).unwrap();
                        let within = tolerance * own.distance.abs().max(1.0);
                        assert!((got - own.distance).abs() <= within, "{got} for {}", own.distance);
                        assert!((got - ranked[place].distance).abs() <= within, "place {place} of {rank:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn every_score_ranks_in_either_direction_whatever_the_index() {
    scores_rank(Scenario::dense(), &Score::ALL).await;
    scores_rank(Scenario::sparse(), &[Score::CosineSimilarity, Score::AngularDistance]).await;
}

#[tokio::test]
async fn a_search_that_asks_for_no_shape_is_the_one_it_was() {
    let mut world = World::new(Scenario::dense(), 22).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(50).await;
    let plain = world.request(5);
    let shaped = SearchRequest { shape: Some(Box::default()), ..plain.clone() };
    let (plain, shaped) =
        (engine.search(&index.id, plain).await.unwrap(), engine.search(&index.id, shaped).await.unwrap());
    assert_eq!(plain.results, shaped.results);
    assert!(plain.groups.is_none() && plain.stored.is_empty() && plain.ranked.by_index);
}

#[tokio::test]
async fn one_group_that_has_all_of_the_nearest_does_not_hide_the_others() {
    let mut world = World::new(Scenario::dense(), 23).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    let mut updates = Vec::new();
    for id in 0..300 {
        let mut point = world.scenario.point(&mut world.rng, id);
        let colour = if id < 290 { "red".to_owned() } else { format!("c{id}") };
        point.attributes.insert("id".into(), AttributeValue::Int64(id));
        point.attributes.insert("colour".into(), AttributeValue::String(colour));
        point.vector = Vector::Dense(vec![id as f32 / 4.0; 8]);
        updates.push(Update::Upsert(point));
    }
    world.upload(updates).await;
    let grouping = |limit, score| Grouping { by: "colour".into(), limit, score, filter: None };
    for (limit, k, score) in [(1, 1, GroupScore::Best), (2, 3, GroupScore::Best), (100, 2, GroupScore::Sum)] {
        let shape = Shape { grouping: Some(grouping(limit, score)), result_limit: Some(5), ..Shape::default() };
        let mut request = SearchRequest::new(vec![Vector::Dense(vec![0.0; 8])], k);
        request.shape = Some(Box::new(shape));
        let response = check(&world, &engine, &index, request).await;
        let groups = &response.groups.unwrap()[0].groups;
        assert_eq!(groups.len(), 5, "{limit} {k} {score:?}");
        let red = groups.iter().find(|group| group.value == AttributeValue::String("red".into())).unwrap();
        assert_eq!(red.points, limit as usize);
    }
}

#[tokio::test]
async fn shapes_that_do_not_fit_are_refused_and_say_what_to_do() {
    let mut world = World::new(Scenario::dense(), 24).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(5).await;
    let zero = || Vector::Dense(vec![0.0; 8]);
    let refused = async |shape: Shape| {
        let mut request = SearchRequest::new(vec![zero()], 10);
        request.shape = Some(Box::new(shape));
        match engine.search(&index.id, request).await {
            Err(SearchError::Invalid(error)) => error.messages.join(" | "),
            other => panic!("{other:?}"),
        }
    };
    let group = |by: &str, limit, filter| Shape {
        grouping: Some(Grouping { by: by.to_owned(), limit, score: GroupScore::Best, filter }),
        ..Shape::default()
    };
    let exists = |attribute: &str| Some(Filter::Exists { attribute: attribute.to_owned() });
    assert!(refused(group("nope", 1, None)).await.contains("groupBy names 'nope'"));
    assert!(refused(group("colour", 0, None)).await.contains("groupLimit must be 1 to 10000"));
    assert!(refused(group("colour", 1001, None)).await.contains("times groupLimit"));
    assert!(refused(group("colour", 1, exists("price"))).await.contains("groupFilter may name 'colour' alone"));
    let limit = |result_limit| Shape { result_limit, ..Shape::default() };
    assert!(refused(limit(Some(0))).await.contains("resultLimit must be 1 to 10000"));
    assert!(refused(Shape { prioritize: true, ..Shape::default() }).await.contains("prioritize wants context"));
    let context = vec![zero(), Vector::Dense(vec![1.0])];
    let message = refused(Shape { context, ..Shape::default() }).await;
    assert_eq!(message, "context[1]: Vector coordinates must have dimension: 8");
    let nobody: Attributes = [
        ("id".to_owned(), AttributeValue::Int64(-7)),
        ("split".to_owned(), AttributeValue::String("s0".into())),
        ("region".to_owned(), AttributeValue::Int64(0)),
    ]
    .into();
    let many = Shape { context: vec![zero(); 100], result_limit: Some(10_000), ..group("colour", 1, None) };
    assert!(refused(many).await.contains("10000 points (k, or resultLimit times groupLimit) for each of 101 vectors"));
    let many = Shape { context: vec![zero(); 1000], ..Shape::default() };
    assert!(refused(many).await.contains("queryIds, context and beside have 1001 vectors together"));
    let by_id = |query_ids| Shape { query_ids, ..Shape::default() };
    assert_eq!(refused(by_id(vec![nobody])).await, "queryIds[0]: the index has no such point");
    assert!(refused(by_id(vec![Attributes::new()])).await.starts_with("queryIds[0]: All attributes"));
    let mut sparse = World::new(Scenario::sparse(), 25).await;
    let mut request = sparse.request(1);
    request.ranking = Some(Ranking::by(Score::QuickVectorDistance));
    let refused = sparse.engine().search(&sparse.index("jaccard").id, request).await.unwrap_err().to_string();
    assert!(refused.contains("an index with SparnnIndex.JaccardBinary has its own distance alone"), "{refused}");
}

#[tokio::test]
async fn a_deadline_leaves_groups_incomplete_and_says_so() {
    let mut world = World::new(Scenario::dense(), 26).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(200).await;
    world.publish(&index, 1, false).await;
    let grouping = Grouping { by: "colour".into(), limit: 2, score: GroupScore::Best, filter: None };
    let shape = Shape { grouping: Some(grouping), ..Shape::default() };
    let mut request = world.request(5);
    request.deadline = Some(std::time::Duration::ZERO);
    request.shape = Some(Box::new(shape));
    let response = engine.search(&index.id, request).await.unwrap();
    assert!(response.coverage < 1.0, "{}", response.coverage);
    assert!(response.groups.unwrap().iter().all(|groups| !groups.complete));
}

fn id_of(world: &World, attributes: &Attributes) -> Attributes {
    let permanent = &world.scenario.source.permanent_attributes;
    attributes.iter().filter(|(name, _)| permanent.contains(*name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

fn stored_ids(world: &World, index: &Index, most: usize) -> Vec<Attributes> {
    let everything = Scope::default();
    let points = world.reference.indexed_at(index, u64::MAX, &everything).take(most);
    points.map(|(_, point)| id_of(world, &point.attributes)).collect()
}

#[tokio::test]
async fn stored_points_are_looked_for_at_once_and_not_beyond_the_deadline() {
    let mut world = World::new(Scenario::dense(), 27).await;
    let (engine, index) = (world.engine(), world.index("graph-l2"));
    world.upload_random(150).await;
    let head = world.reference.head();
    world.publish(&index, head, false).await;
    world.upload_random(30).await;
    let by_id = |query_ids| {
        let mut request = SearchRequest { explain: true, exact: true, ..SearchRequest::new(Vec::new(), 2) };
        request.shape = Some(Box::new(Shape { query_ids, ..Shape::default() }));
        request
    };
    let one = check(&world, &engine, &index, by_id(stored_ids(&world, &index, 1))).await;
    let ids = stored_ids(&world, &index, 60);
    assert_eq!(ids.len(), 60);
    let many = check(&world, &engine, &index, by_id(ids.clone())).await;
    let splits = |response: &SearchResponse| response.segments.len();
    assert!(
        splits(&many) <= 2 * splits(&one) + 2,
        "{} segments for 60 points, {} for one",
        splits(&many),
        splits(&one)
    );
    let late = SearchRequest { deadline: Some(std::time::Duration::ZERO), ..by_id(ids) };
    let late = engine.search(&index.id, late).await.unwrap_err();
    assert!(late.is_retryable() && late.to_string().contains("queryIds"), "{late}");
}

#[tokio::test]
async fn stored_sparse_points_are_found() {
    let mut world = World::new(Scenario::sparse(), 28).await;
    let (engine, index) = (world.engine(), world.index("jaccard"));
    world.upload_random(90).await;
    world.publish(&index, 1, false).await;
    let ids = stored_ids(&world, &index, 5);
    let mut request = SearchRequest::new(Vec::new(), 3);
    request.shape = Some(Box::new(Shape { query_ids: ids.clone(), ..Shape::default() }));
    let response = engine.search(&index.id, request).await.unwrap();
    let stored = ids.iter().map(|id| {
        let key = PointKey::encode(&world.scenario.source, id).unwrap();
        world.reference.live_at(1).find(|(other, _)| **other == key).unwrap().1.vector.clone()
    });
    assert_eq!(response.stored, stored.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_receipt_of_many_rounds_has_an_end() {
    let mut world = World::new(Scenario::dense(), 29).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    for _ in 0..4 {
        world.upload_random(5).await;
    }
    let mut request = SearchRequest { explain: true, ..SearchRequest::new(vec![Vector::Dense(vec![0.0; 8]); 600], 1) };
    let grouping = Grouping { by: "serial".into(), limit: 1, score: GroupScore::Best, filter: None };
    request.shape = Some(Box::new(Shape { grouping: Some(grouping), result_limit: Some(3), ..Shape::default() }));
    let response = engine.search(&index.id, request).await.unwrap();
    assert_eq!(response.segments.len(), 1000);
}

#[tokio::test]
async fn context_of_many_vectors_is_put_together_once() {
    let mut world = World::new(Scenario::dense(), 30).await;
    let (engine, index) = (world.engine(), world.index("exact-l2"));
    world.upload_random(200).await;
    let vectors = |world: &mut World, count: usize| -> Vec<Vector> {
        (0..count).map(|_| world.scenario.vector(&mut world.rng)).collect()
    };
    let mut request = SearchRequest { exact: true, ..SearchRequest::new(vectors(&mut world, 40), 100) };
    let context = vectors(&mut world, 40);
    for combine in [None, Some(Combine::Sum), Some(Combine::ReciprocalRank)] {
        // More hits than are looked at without the pool.
        request.shape = Some(Box::new(Shape { context: context.clone(), combine, ..Shape::default() }));
        check(&world, &engine, &index, request.clone()).await;
    }
}
