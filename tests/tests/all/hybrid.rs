//! Two indices at once, one over dense and one over sparse vectors, while points come, go and are built: every answer is held against
//! the reference's lists of both.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tarn_compact::{Builder, BuilderSettings, Silent};
use tarn_model::{AttributeValue, Attributes, Index, Score, Update, Vector};
use tarn_search::{
    Beside, Combine, Engine, EngineSettings, GroupScore, Grouping, InProcess, Ranking, SearchError, SearchRequest,
    Shape,
};
use tarn_store::{Store, create_index, create_source};
use tarn_testkit::{
    Answer, Fuse, Groups, Judged, Rank, RankBy, Reference, Scenario, Scope, Side, TOLERANCE, Wanted, check_groups,
    check_line, fused,
};
use tarn_timeline::{AppendOptions, PointBatch, Timeline};

/// Worlds, and what happens in each.
const SEEDS: u64 = 3;
const ROUNDS: usize = 14;
const SEARCHES: usize = 8;

/// A data source and its indices.
struct Half {
    scenario: Scenario,
    timeline: Timeline,
    reference: Reference,
}

impl Half {
    async fn new(store: &Store, scenario: Scenario) -> Self {
        create_source(store, &scenario.source).await.expect("defined");
        for index in &scenario.indices {
            create_index(store, index).await.expect("defined");
        }
        Self {
            timeline: Timeline::open(store.clone(), Arc::clone(&scenario.source)),
            reference: Reference::new(Arc::clone(&scenario.source)),
            scenario,
        }
    }

    async fn upload(&mut self, rng: &mut SmallRng, points: i64) {
        let update = |serial| match rng.random_ratio(1, 6) {
            true => self.scenario.tombstone(rng),
            false => Update::Upsert(self.scenario.point(rng, serial)),
        };
        let updates: Vec<Update> = (0..points).map(update).collect();
        let batch = PointBatch::from_updates(Arc::clone(&self.scenario.source), &updates).expect("valid");
        self.timeline.append(batch, AppendOptions::default()).await.expect("appended");
        self.reference.apply(&updates).expect("applied");
    }

    fn index(&self, name: &str) -> Arc<Index> {
        let named = self.scenario.indices.iter().find(|index| index.id.name == name);
        Arc::clone(named.expect("the scenario has it"))
    }

    fn vectors(&self, rng: &mut SmallRng) -> Vec<Vector> {
        (0..rng.random_range(1..3)).map(|_| self.scenario.vector(rng)).collect()
    }

    fn scope(&self, rng: &mut SmallRng) -> Scope {
        let split = AttributeValue::String("s0".to_owned());
        let filter = tarn_model::Filter::In { attribute: "split".to_owned(), values: vec![split] };
        Scope { split_filter: Attributes::new(), filter: rng.random_ratio(1, 3).then_some(filter) }
    }

    fn side(&self, index: &Arc<Index>, scope: &Scope, rank: Rank, queries: &[Vector]) -> (Side<'_>, Arc<Index>) {
        let index = Arc::clone(index);
        let own = self.scenario.indices.iter().find(|own| own.id == index.id).expect("of the scenario");
        let lists = queries.iter().map(|query| vec![query.clone()]).collect();
        let (sequence, rank) = (self.reference.head(), rank.by(index.algorithm.metric));
        (Side { reference: &self.reference, index: own, sequence, scope: scope.clone(), rank, lists }, index)
    }
}

/// The scenario of sparse vectors, beside that of dense ones: another data source with the same permanent attributes.
fn words() -> Scenario {
    let mut scenario = Scenario::sparse();
    let source = Arc::make_mut(&mut scenario.source);
    source.id.name = "Words".to_owned();
    let id = source.id.clone();
    scenario.indices.iter_mut().for_each(|index| Arc::make_mut(index).data_source = id.clone());
    scenario
}

struct Both {
    dense: Half,
    sparse: Half,
    builder: Builder,
    engines: Vec<Engine>,
    rng: SmallRng,
    seed: u64,
    _directory: tempfile::TempDir,
}

impl Both {
    async fn new(seed: u64) -> Self {
        let store = Store::memory();
        let (dense, sparse) = (Half::new(&store, Scenario::dense()).await, Half::new(&store, words()).await);
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = BuilderSettings::default();
        settings.threads = 1;
        settings.cells_threshold_rows = 60;
        settings.segment.rows_per_cell = 10;
        settings.cache_dir = Some(directory.path().join("builder"));
        let of =
            |name: &str| EngineSettings { cache_dir: directory.path().join(name), threads: 2, ..Default::default() };
        let alone = Engine::new(store.clone(), of("engine")).expect("an engine");
        let leaf = Engine::new(store.clone(), of("leaf")).expect("an engine");
        let root = EngineSettings { leaf_bytes: 1, ..of("root") };
        let root = Engine::with_leaves(store.clone(), root, Arc::new(InProcess(leaf))).expect("an engine");
        Self {
            builder: Builder::new(store, settings, Arc::new(Silent)).expect("a builder"),
            engines: vec![alone, root],
            dense,
            sparse,
            rng: SmallRng::seed_from_u64(seed),
            seed,
            _directory: directory,
        }
    }

    /// Some points of one half, or of both; some are of the same keys.
    async fn step(&mut self) {
        let Self { dense, sparse, rng, .. } = self;
        let points = rng.random_range(1..60);
        if rng.random_ratio(3, 4) {
            dense.upload(rng, points).await;
        }
        if rng.random_ratio(3, 4) {
            sparse.upload(rng, points).await;
        }
        if rng.random_ratio(1, 3) {
            let summary = self.builder.run().await.expect("runs");
            assert!(summary.failures().next().is_none(), "{summary:?}");
        }
    }

    /// By places, in any pair of indices; or by the best cosine, in any that has one.
    async fn search(&mut self) {
        let Self { dense, sparse, rng, .. } = self;
        let by_places = rng.random_ratio(2, 3);
        let first_is_dense = rng.random_ratio(2, 3);
        let (ours, theirs) = if first_is_dense { (&*dense, &*sparse) } else { (&*sparse, &*dense) };
        let names = |half: &Half| match (half.scenario.source.id.name == "Words", by_places) {
            (true, true) => ["jaccard", "jaccard-whole"],
            (true, false) => ["cosine", "cosine-whole"],
            (false, true) => ["exact-l2", "exact-ip"],
            (false, false) => ["exact-l2", "exact-cosine"],
        };
        let mut pick = |half: &Half| half.index(names(half).choose(rng).copied().unwrap_or_default());
        let (our_index, their_index) = (pick(ours), pick(theirs));
        let score = (!by_places).then_some(Score::CosineSimilarity);
        let rank = Rank { score, higher_is_better: None };
        let k = [1, 4, 30, 1_000][rng.random_range(0..4)];
        let (queries, their_queries) = (ours.vectors(rng), theirs.vectors(rng));
        let (scope, their_scope) = (ours.scope(rng), theirs.scope(rng));
        let stored = stored(ours, &our_index, rng);
        let result_limit = rng.random_ratio(1, 3).then(|| rng.random_range(1..8));
        let grouping = rng.random_ratio(1, 2).then(|| Grouping {
            by: ["region", "split"][rng.random_range(0..2)].to_owned(),
            limit: rng.random_range(1..4),
            score: GroupScore::Best,
            filter: None,
        });
        let permanent: Vec<String> = ours.scenario.source.permanent_attributes.iter().cloned().collect();
        let mut request = SearchRequest::new(queries.clone(), k);
        request.exact = true;
        request.filter = scope.filter.clone();
        // The rest of a point may be another in each half.
        request.attributes = Some(permanent.clone());
        request.ranking = score.map(Ranking::by);
        request.shape = Some(Box::new(Shape {
            query_ids: stored.iter().map(|(id, _)| id.clone()).collect(),
            combine: Some(if by_places { Combine::ReciprocalRank } else { Combine::Best }),
            grouping: grouping.clone(),
            result_limit,
            beside: Some(Beside {
                index: their_index.id.clone(),
                queries: their_queries.clone(),
                split_filter: Attributes::new(),
                filter: their_scope.filter.clone(),
                ranking: score.map(Ranking::by),
            }),
            ..Shape::default()
        }));
        let left_out: Vec<Attributes> = stored.iter().map(|(id, _)| id.clone()).collect();
        let queries: Vec<Vector> = queries.into_iter().chain(stored.into_iter().map(|(_, vector)| vector)).collect();
        let (ours_side, _index) = ours.side(&our_index, &scope.without(&left_out), rank, &queries);
        let (theirs_side, _index) = theirs.side(&their_index, &their_scope.without(&left_out), rank, &their_queries);
        let order = if by_places { RankBy { score: None, higher_is_better: true } } else { ours_side.rank };
        let fuse = if by_places { Fuse::Reciprocal(k as usize) } else { Fuse::Best };
        let ranked = fused(&[ours_side, theirs_side], fuse);
        let wanted = Wanted {
            source: &ours.scenario.source,
            ranked: &ranked,
            order,
            limit: result_limit.unwrap_or(k).min(k) as usize,
            attributes: Some(&permanent),
            vectors: false,
            judged: if by_places { Judged::Bits } else { Judged::About(TOLERANCE) },
        };
        for engine in &self.engines {
            let response = engine.search(&our_index.id, request.clone()).await.expect("answers");
            assert_eq!((response.coverage, response.results.len()), (1.0, 1));
            assert_eq!(response.version.sequence(0), ours.reference.head());
            let answer = |found: &tarn_search::Found| Answer {
                attributes: found.attributes.clone(),
                vector: found.vector.clone(),
                distance: found.distance,
            };
            let found: Vec<Answer> = response.results[0].iter().map(answer).collect();
            let checked = match (&grouping, &response.groups) {
                (None, None) => check_line(&wanted, &found),
                (Some(grouping), Some(groups)) => {
                    let groups = &groups[0];
                    let answered: Vec<_> = groups.groups.iter().map(|g| (g.value.clone(), g.score, g.points)).collect();
                    let asked = Groups {
                        by: &grouping.by,
                        limit: grouping.limit as usize,
                        candidates: k as usize,
                        wanted: result_limit.unwrap_or(k) as usize,
                        score: |scores| scores[0],
                    };
                    check_groups(&wanted, &asked, &answered, &found)
                }
                _ => Err("groups where none were wanted, or none".to_owned()),
            };
            checked.unwrap_or_else(|error| panic!("seed {}: {error}\n  of {request:?}", self.seed));
        }
    }
}

/// Up to two live points, with their vectors.
fn stored(half: &Half, index: &Index, rng: &mut SmallRng) -> Vec<(Attributes, Vector)> {
    let everything = Scope::default();
    let points: Vec<_> = half.reference.indexed_at(index, half.reference.head(), &everything).collect();
    let mut seen = BTreeSet::new();
    let mut some = Vec::new();
    for _ in 0..rng.random_range(0..3) {
        let Some((key, point)) = points.choose(rng) else { break };
        if seen.insert((*key).clone()) {
            let mut id = point.attributes.clone();
            id.retain(|name, _| half.scenario.source.permanent_attributes.contains(name));
            some.push((id, point.vector.clone()));
        }
    }
    some
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dense_and_a_sparse_index_together_behave_like_the_reference() {
    for seed in 0..SEEDS {
        let mut both = Both::new(seed).await;
        both.dense.upload(&mut both.rng, 150).await;
        both.sparse.upload(&mut both.rng, 150).await;
        for _ in 0..ROUNDS {
            both.step().await;
            for _ in 0..SEARCHES {
                both.search().await;
            }
        }
    }
}

#[tokio::test]
async fn what_two_indices_cannot_answer_is_refused_with_what_to_do() {
    let mut both = Both::new(99).await;
    both.dense.upload(&mut both.rng, 20).await;
    let (ours, theirs) = (both.dense.index("exact-l2"), both.sparse.index("cosine"));
    let dense = both.dense.scenario.vector(&mut both.rng);
    let sparse = both.sparse.scenario.vector(&mut both.rng);
    let beside = Beside {
        index: theirs.id.clone(),
        queries: vec![sparse],
        split_filter: Attributes::new(),
        filter: None,
        ranking: None,
    };
    let shape = Shape { beside: Some(beside), combine: Some(Combine::ReciprocalRank), ..Shape::default() };
    let engine = both.engines[0].clone();
    let ask = async |shape: Shape, as_of: Option<u64>, score: Option<Score>| {
        let mut request = SearchRequest::new(vec![dense.clone()], 3);
        request.as_of = as_of;
        request.ranking = score.map(Ranking::by);
        request.shape = Some(Box::new(shape));
        match engine.search(&ours.id, request).await {
            Ok(_) => "answered".to_owned(),
            Err(SearchError::Invalid(error)) => error.messages.join(" | "),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(ask(shape.clone(), None, None).await, "answered");
    let with = |combine| Shape { combine, ..shape.clone() };
    let grouped = |by: &str| {
        let grouping = Grouping { by: by.to_owned(), limit: 1, score: GroupScore::Best, filter: None };
        Shape { grouping: Some(grouping), ..shape.clone() }
    };
    assert_eq!(ask(grouped("region"), None, None).await, "answered");
    let context = Shape { context: vec![dense.clone()], ..shape.clone() };
    let prioritized = Shape { prioritize: true, ..context.clone() };
    for (shape, as_of, score, says) in [
        (with(Some(Combine::Sum)), None, None, "combine sum wants every score of every point"),
        (with(None), None, None, "beside wants combine: reciprocalRank, or best"),
        (with(Some(Combine::Best)), None, None, "combine best wants scores of one kind from both indices"),
        (with(Some(Combine::Best)), None, Some(Score::CosineSimilarity), "combine best wants scores of one kind"),
        (context.clone(), None, None, "context cannot be used with beside"),
        (prioritized, None, None, "context cannot be used with beside"),
        (shape.clone(), Some(1), None, "asOf cannot be used with beside"),
        (Shape { combine: Some(Combine::Sum), ..context }, Some(1), None, "asOf cannot be used with beside"),
        (grouped("colour"), None, None, "groupBy must name a permanent attribute"),
        (grouped("nothing"), None, None, "groupBy names 'nothing'"),
    ] {
        let refused = ask(shape, as_of, score).await;
        assert!(refused.contains(says), "{refused}");
    }
}
