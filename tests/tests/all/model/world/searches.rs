//! Searches of every kind, each answer judged by the reference at the version that it shows.

use std::sync::Arc;
use std::time::Duration;

use tarn_model::{AttributeValue, Attributes, DataPoint, Index, Manifest, Metric, ObjectKey, ReadToken, Score, Vector};
use tarn_search::{
    CacheState, Combine, Consistency, Found, GroupScore, Grouping, Ranking, SearchError, SearchRequest, SearchResponse,
    Shape,
};
use tarn_store::{latest_index_boundary, latest_manifest};
use tarn_testkit::{
    Answer, AsOf, AtLeast, Beside, Fuse, Fused, Grouped, Groups, Judged, Question, Rank, RankBy, Scope, Search, Shaped,
    Side, Stored, TOLERANCE, Wanted, check_exact, check_found, check_groups, check_identical, check_line, fused,
    recall,
};
use tempfile::TempDir;

use super::{Processes, World};

/// How far off the angle of nearly parallel vectors may be: it has half the digits of its cosine.
const ANGLE_TOLERANCE: f64 = 1e-3;

/// Which state of an index a question is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// The newest.
    Newest,
    /// That of a generation, which shows this sequence.
    There { generation: u64, watermark: u64 },
    /// That of a generation which is not there.
    Gone { generation: u64, newest: Option<u64> },
}

impl State {
    /// What is asked for.
    pub(super) fn generation(self) -> Option<u64> {
        match self {
            Self::Newest => None,
            Self::There { generation, .. } | Self::Gone { generation, .. } => Some(generation),
        }
    }
}

/// A search with what is known before it is asked.
struct Prospect {
    state: State,
    /// Permanent attributes of the stored points.
    stored: Vec<Attributes>,
    /// The request is one that cannot be.
    is_refused: bool,
}

impl World {
    /// What there is of a generation, by the store itself.
    pub(super) async fn state(&self, index: &Index, as_of: Option<AsOf>) -> Result<State, String> {
        let Some(as_of) = as_of else { return Ok(State::Newest) };
        let store = self.truth.store();
        let text = |error: tarn_store::StoreError| error.to_string();
        let newest = latest_manifest(store, &index.id, None).await.map_err(text)?.map(|manifest| manifest.generation);
        let number = newest.unwrap_or(0);
        let generation = match as_of {
            AsOf::Back(back) => number.saturating_sub(back),
            AsOf::Ahead => number + 1,
        };
        let gone = Ok(State::Gone { generation, newest });
        let boundary = latest_index_boundary(store, &index.id, None).await.map_err(text)?;
        if boundary.is_some_and(|boundary| boundary.generation >= generation) {
            return gone;
        }
        let key = ObjectKey::Manifest { index: index.id.clone(), generation };
        let Some(bytes) = store.get(&key).await.map_err(text)? else { return gone };
        let manifest = Manifest::parse(&key.render(), &bytes, &index.id, generation).map_err(|e| e.to_string())?;
        Ok(State::There { generation, watermark: manifest.watermark.sequence(0) })
    }

    /// What the newest generation shows; 0 without any.
    pub(super) async fn newest_watermark(&self, index: &Index) -> Result<u64, String> {
        let newest = latest_manifest(self.truth.store(), &index.id, None).await.map_err(|error| error.to_string())?;
        Ok(newest.map_or(0, |manifest| manifest.watermark.sequence(0)))
    }

    /// The answer, if there is to be one.
    pub(super) fn expected<T>(&mut self, state: &State, outcome: Result<T, SearchError>) -> Result<Option<T>, String> {
        match (state, outcome) {
            (State::Gone { generation, .. }, Ok(_)) => {
                Err(format!("generation {generation} is not there, and answered"))
            }
            (_, Ok(answer)) => Ok(Some(answer)),
            (State::Gone { newest, .. }, Err(SearchError::NoGeneration { kept, .. }))
                if kept.map(|(_, newest)| newest) == *newest =>
            {
                self.tally.asked.gone += 1;
                Ok(None)
            }
            (_, Err(error)) => self.forgive(matches!(error, SearchError::Store(_)), error).map(|()| None),
        }
    }

    pub(super) async fn search(&mut self, search: &Search) -> Result<(), String> {
        self.ask(search).await?;
        if search.twice {
            self.ask(search).await?;
            // A question that has been asked before, whatever has happened since.
            if let Some(earlier) = self.earlier.replace(search.clone()) {
                self.ask(&earlier).await?;
            }
        }
        Ok(())
    }

    async fn ask(&mut self, search: &Search) -> Result<(), String> {
        let index = Arc::clone(&self.scenario.indices[search.index]);
        let state = self.state(&index, search.as_of).await?;
        let began = self.now();
        let prospect = Prospect { stored: self.stored(search, state, began), state, is_refused: self.refuses(search) };
        let request = self.request(search, &prospect);
        let answer = if search.cold {
            let cache = TempDir::new().map_err(|error| error.to_string())?;
            let engine = Processes::beginner(&self.store, &cache)?;
            engine.search(&index.id, request).await
        } else {
            self.processes.engine.search(&index.id, request).await
        };
        let ended = self.now();
        match answer {
            Ok(_) if search.at_least == AtLeast::Future => {
                Err("answered with a version that does not exist".to_owned())
            }
            Ok(_) if prospect.is_refused => Err(format!("answered what it was to refuse: {search:?}")),
            Ok(response) => {
                self.tally.searches += 1;
                let by_ranges = response.segments.iter().filter(|segment| segment.state == CacheState::Cold).count();
                self.tally.cold.searches += u64::from(search.cold);
                self.tally.cold.by_ranges += by_ranges as u64;
                self.note(search, &prospect, &response, ended);
                let mut judged = self.judge(search, &prospect, &response, began);
                if judged.is_err() && self.expires_between(began, ended) {
                    judged = self.judge(search, &prospect, &response, ended);
                }
                judged.map_err(|error| {
                    format!(
                        "{error}\n  at version {}, generation {}, of {search:?}",
                        response.version, response.generation
                    )
                })
            }
            Err(SearchError::NotYet { .. }) if search.at_least == AtLeast::Future => Ok(()),
            Err(SearchError::NotYet { .. })
                if search.at_least == AtLeast::Acknowledged
                    && matches!(state, State::There { watermark, .. } if watermark < self.acknowledged) =>
            {
                Ok(())
            }
            // Without the vectors of stored points there is nothing to answer.
            Err(SearchError::Late(_)) if search.deadline_ms.is_some() && !prospect.stored.is_empty() => {
                self.tally.asked.cut_short += 1;
                Ok(())
            }
            Err(SearchError::Invalid(_)) if prospect.is_refused => {
                self.tally.asked.refused += 1;
                Ok(())
            }
            Err(SearchError::Invalid(error))
                if error.messages.iter().all(|message| message.ends_with("the index has no such point"))
                    && (search.eventual || self.vectors(&index, &prospect, self.shown(state), ended).is_none()) =>
            {
                self.tally.asked.refused += 1;
                Ok(())
            }
            Err(error) => self.expected(&state, Err::<(), _>(error)).map(drop),
        }
    }

    /// The sequence that a strong answer shows.
    fn shown(&self, state: State) -> u64 {
        match state {
            State::There { watermark, .. } => watermark,
            State::Newest | State::Gone { .. } => self.reference.head(),
        }
    }

    /// Which points the search names.
    fn stored(&self, search: &Search, state: State, now: i64) -> Vec<Attributes> {
        let Some(shape) = search.shape.as_ref().filter(|shape| !shape.stored.is_empty()) else { return Vec::new() };
        let index = &self.scenario.indices[search.index];
        let scope = self.alive(Scope::default(), now);
        let live: Vec<&Arc<DataPoint>> =
            self.reference.indexed_at(index, self.shown(state), &scope).map(|(_, point)| point).collect();
        let named = |stored: &Stored| match stored {
            Stored::Named(attributes) => Some(attributes.clone()),
            Stored::Live(place) => {
                let mut attributes = live.get(place.checked_rem(live.len())?)?.attributes.clone();
                attributes.retain(|name, _| self.scenario.source.permanent_attributes.contains(name));
                Some(attributes)
            }
        };
        shape.stored.iter().filter_map(named).collect()
    }

    /// The vectors of the stored points; `None` when one is not there.
    fn vectors(&self, index: &Index, prospect: &Prospect, sequence: u64, now: i64) -> Option<Vec<Vector>> {
        let scope = self.alive(Scope::default(), now);
        let points: Vec<&Arc<DataPoint>> =
            self.reference.indexed_at(index, sequence, &scope).map(|(_, point)| point).collect();
        let vector = |id: &Attributes| {
            let is_it =
                |point: &&&Arc<DataPoint>| id.iter().all(|(name, value)| point.attributes.get(name) == Some(value));
            points.iter().find(is_it).map(|point| point.vector.clone())
        };
        prospect.stored.iter().map(vector).collect()
    }

    /// Whether a search is one that cannot be.
    fn refuses(&self, search: &Search) -> bool {
        let metric = |index: usize| self.scenario.indices[index].algorithm.metric;
        let unfit = |rank: Option<Rank>, index| rank.is_some_and(|rank| !rank.fits(metric(index)));
        let (ours, rank) = (metric(search.index), search.rank.unwrap_or_default());
        let beside = search.shape.as_ref().and_then(|shape| Some((shape, shape.beside.as_ref()?)));
        let refuses_beside = beside.is_some_and(|(shape, beside)| {
            let (theirs, other) = (metric(beside.index), beside.rank.unwrap_or_default());
            let alike = rank.score == other.score
                && (rank.score.is_some() || ours == theirs)
                && rank.by(ours).higher_is_better == other.by(theirs).higher_is_better;
            let fuses = match shape.fused {
                Some(Fused::Reciprocal) => true,
                Some(Fused::Best) => alike,
                Some(Fused::Sum) | None => false,
            };
            // A point may have two values of any other attribute.
            let permanent = &self.scenario.source.permanent_attributes;
            let splits_points = shape.groups.as_ref().is_some_and(|groups| !permanent.contains(&groups.by));
            !fuses
                || splits_points
                || search.as_of.is_some()
                || !shape.context.is_empty()
                || unfit(beside.rank, beside.index)
        });
        refuses_beside || unfit(search.rank, search.index)
    }

    fn request(&self, search: &Search, prospect: &Prospect) -> SearchRequest {
        let mut request = SearchRequest::new(search.queries.clone(), search.k);
        request.split_filter = search.scope.split_filter.clone();
        request.filter = search.scope.filter.clone();
        request.consistency = if search.eventual { Consistency::Eventual } else { Consistency::Strong };
        request.min_version = match search.at_least {
            AtLeast::Any => None,
            AtLeast::Acknowledged => Some(ReadToken::single(self.acknowledged)),
            AtLeast::Future => Some(ReadToken::single(self.reference.head() + 1)),
        };
        request.exact = search.exact;
        request.retrieve_vectors = search.vectors;
        request.attributes = search.attributes.clone();
        request.explain = search.cold;
        request.as_of = prospect.state.generation();
        request.deadline = search.deadline_ms.map(Duration::from_millis);
        request.ranking = search.rank.map(ranking);
        request.shape = search.shape.as_ref().map(|shape| Box::new(self.shape(shape, &prospect.stored)));
        request
    }

    fn shape(&self, shape: &Shaped, stored: &[Attributes]) -> Shape {
        let beside = |beside: &Beside| tarn_search::Beside {
            index: self.scenario.indices[beside.index].id.clone(),
            queries: beside.queries.clone(),
            split_filter: beside.scope.split_filter.clone(),
            filter: beside.scope.filter.clone(),
            ranking: beside.rank.map(ranking),
        };
        Shape {
            query_ids: stored.to_vec(),
            context: shape.context.clone(),
            prioritize: shape.prioritize,
            combine: shape.fused.map(|fused| match fused {
                Fused::Best => Combine::Best,
                Fused::Sum => Combine::Sum,
                Fused::Reciprocal => Combine::ReciprocalRank,
            }),
            grouping: shape.groups.as_ref().map(|groups| Grouping {
                by: groups.by.clone(),
                limit: groups.limit,
                score: match groups.score {
                    Grouped::Best => GroupScore::Best,
                    Grouped::Sum => GroupScore::Sum,
                    Grouped::SumOverSquare => GroupScore::SumOverSquare,
                },
                filter: groups.filter.clone(),
            }),
            result_limit: shape.result_limit,
            beside: shape.beside.as_ref().map(beside),
        }
    }

    fn note(&mut self, search: &Search, prospect: &Prospect, response: &SearchResponse, now: i64) {
        let asked = &mut self.tally.asked;
        asked.ranked += u64::from(search.rank.is_some());
        asked.as_of += u64::from(search.as_of.is_some());
        asked.cut_short += u64::from(response.coverage < 1.0);
        asked.stored += u64::from(!prospect.stored.is_empty());
        if let Some(shape) = &search.shape {
            asked.grouped += u64::from(shape.groups.is_some());
            asked.context += u64::from(!shape.context.is_empty());
            asked.combined += u64::from(shape.fused.is_some());
            asked.beside += u64::from(shape.beside.is_some());
        }
        self.note_expired(now);
    }

    fn judge(
        &mut self,
        search: &Search,
        prospect: &Prospect,
        response: &SearchResponse,
        now: i64,
    ) -> Result<(), String> {
        let version = response.version.sequence(0);
        let (acknowledged, head) = (self.acknowledged, self.reference.head());
        match prospect.state {
            State::Gone { generation, .. } => {
                return Err(format!("answered as of generation {generation}, which is not there"));
            }
            State::There { generation, watermark } => {
                if (version, response.generation) != (watermark, generation) {
                    return Err(format!("shows version {version}; generation {generation} shows {watermark}"));
                }
            }
            State::Newest if version > head || (!search.eventual && version < head) => {
                return Err(format!("shows version {version}; the head is {head}"));
            }
            State::Newest => {}
        }
        if search.at_least == AtLeast::Acknowledged && version < acknowledged {
            return Err(format!("shows version {version}; {acknowledged} was asked for"));
        }
        let cut_short = search.deadline_ms.is_some() && response.coverage < 1.0;
        if !cut_short && (response.coverage - 1.0).abs() > f64::EPSILON || response.coverage < 0.0 {
            return Err(format!("covers {} without a deadline", response.coverage));
        }
        if search.shape.is_none() && search.rank.is_none() && !cut_short {
            return self.judge_plain(search, response, version, now);
        }
        self.judge_shaped(search, prospect, response, (version, now))
    }

    /// The nearest points of each query, by the index's own distance.
    fn judge_plain(
        &mut self,
        search: &Search,
        response: &SearchResponse,
        version: u64,
        now: i64,
    ) -> Result<(), String> {
        if response.results.len() != search.queries.len() {
            return Err(format!("{} results for {} queries", response.results.len(), search.queries.len()));
        }
        let index = Arc::clone(&self.scenario.indices[search.index]);
        let question = Question {
            index: &index,
            source: &self.scenario.source,
            k: search.k as usize,
            attributes: search.attributes.as_deref(),
            vectors: search.vectors,
        };
        let scope = self.alive(search.scope.clone(), now);
        for (query, found) in search.queries.iter().zip(&response.results) {
            let ranked = self.reference.ranked(&index, version, &scope, query);
            let found = answers(found);
            let metric = index.algorithm.metric;
            if index.algorithm.hnsw.is_some() && !search.exact {
                let places = check_found(&question, &ranked, &found)?;
                if search.k == 10 && !places.is_empty() {
                    let recall = recall(&ranked, &places);
                    self.tally.add_recall(recall);
                    if response.segments.iter().any(|segment| segment.state == CacheState::Cold) {
                        self.tally.cold.queries += 1;
                        self.tally.cold.recall_sum += recall;
                    }
                }
            } else if matches!(metric, Metric::L2 | Metric::InnerProduct | Metric::SparseJaccard) {
                check_identical(&question, &ranked, &found)?;
            } else {
                check_exact(&question, &ranked, &found)?;
            }
        }
        Ok(())
    }

    fn judge_shaped(
        &self,
        search: &Search,
        prospect: &Prospect,
        response: &SearchResponse,
        (version, now): (u64, i64),
    ) -> Result<(), String> {
        let index = &self.scenario.indices[search.index];
        let plain = Shaped::default();
        let shape = search.shape.as_ref().unwrap_or(&plain);
        let Some(stored) = self.vectors(index, prospect, version, now) else {
            return Err("answered about a stored point that is not there".to_owned());
        };
        if response.stored != stored {
            return Err(format!("stored vectors {:?} should be {stored:?}", response.stored));
        }
        let list = |query: &Vector| -> Vec<Vector> {
            let query = (!shape.prioritize || shape.context.is_empty()).then(|| query.clone());
            query.into_iter().chain(shape.context.clone()).collect()
        };
        let lists: Vec<Vec<Vector>> = search.queries.iter().chain(&stored).map(list).collect();
        let scope = |scope: &Scope| {
            let of_groups = shape.groups.as_ref().and_then(|groups| groups.filter.clone());
            self.alive(scope.clone().and(of_groups).without(&prospect.stored), now)
        };
        let rank = search.rank.unwrap_or_default();
        let ours = Side {
            reference: &self.reference,
            index,
            sequence: version,
            scope: scope(&search.scope),
            rank: rank.by(index.algorithm.metric),
            lists: Vec::new(),
        };
        let is_sum = shape.fused == Some(Fused::Sum) && lists.len() > 1;
        let of_index = rank.is_of_index(index.algorithm.metric) && !is_sum;
        let ranked = response.ranked;
        if (ranked.score, ranked.higher_is_better, ranked.by_index)
            != (rank.score, ours.rank.higher_is_better, of_index)
        {
            return Err(format!("is ranked by {ranked:?}"));
        }
        let mut exactness = exactness(index, search.exact || !of_index, rank.score);
        let mut others = Vec::new();
        if let Some(Beside { index, queries, scope: theirs, rank }) = &shape.beside {
            let (index, rank) = (&self.scenario.indices[*index], rank.unwrap_or_default());
            let by = rank.by(index.algorithm.metric);
            let exact = search.exact || !rank.is_of_index(index.algorithm.metric);
            exactness = exactness.and(self::exactness(index, exact, rank.score));
            let lists = queries.iter().map(|query| vec![query.clone()]).collect();
            others.push(Side { index, scope: scope(theirs), rank: by, lists, ..ours.clone() });
        }
        let lines: Vec<Vec<Vec<Vector>>> = match shape.fused {
            Some(_) => vec![lists],
            None => lists.into_iter().map(|list| vec![list]).collect(),
        };
        if response.results.len() != lines.len() || response.groups.is_some() != shape.groups.is_some() {
            return Err(format!("{} results for {} lines", response.results.len(), lines.len()));
        }
        for (at, (lists, found)) in lines.into_iter().zip(&response.results).enumerate() {
            let sides: Vec<Side<'_>> =
                [Side { lists, ..ours.clone() }].into_iter().chain(others.iter().cloned()).collect();
            let groups = response.groups.as_ref().and_then(|groups| groups.get(at));
            let one = Line { search, shape, sides: &sides, exactness, is_cut: response.coverage < 1.0 };
            self.judge_line(&one, &answers(found), groups).map_err(|error| format!("line {at}: {error}"))?;
        }
        Ok(())
    }

    fn judge_line(
        &self,
        line: &Line<'_>,
        found: &[Answer],
        groups: Option<&tarn_search::FoundGroups>,
    ) -> Result<(), String> {
        let Line { search, shape, sides, exactness, is_cut } = *line;
        let k = search.k as usize;
        let limit = shape.result_limit.map_or(k, |limit| limit as usize);
        let fuse = match shape.fused {
            None | Some(Fused::Best) => Fuse::Best,
            Some(Fused::Sum) => Fuse::Sum,
            Some(Fused::Reciprocal) => Fuse::Reciprocal(k),
        };
        let by_places = matches!(fuse, Fuse::Reciprocal(_));
        let follows = exactness == Exactness::Bits && !is_cut;
        // Of lists that do not follow from the data to the last bit nobody knows the places.
        let ranked = if by_places && !follows { fused(sides, Fuse::Best) } else { fused(sides, fuse) };
        let own = sides.first().map_or(RankBy { score: None, higher_is_better: true }, |side| side.rank);
        let order = if by_places { RankBy { score: None, higher_is_better: true } } else { own };
        let lists: usize = sides.iter().map(|side| side.lists.len()).sum();
        let tolerance =
            lists as f64 * if own.score == Some(Score::AngularDistance) { ANGLE_TOLERANCE } else { TOLERANCE };
        let sound = Judged::Sound {
            tolerance: if by_places { f64::INFINITY } else { tolerance },
            least: if is_cut { 0 } else { ranked.len().min(k) },
        };
        let judged = match exactness {
            _ if is_cut => sound,
            Exactness::Bits => Judged::Bits,
            Exactness::About if !by_places => Judged::About(tolerance),
            // The first list has so many at least.
            Exactness::About | Exactness::Sound => match sides {
                [first, _, ..] => Judged::Sound {
                    tolerance: if by_places { f64::INFINITY } else { tolerance },
                    least: k.min(fused(std::slice::from_ref(first), Fuse::Best).len()),
                },
                _ => sound,
            },
        };
        let wanted = Wanted {
            source: &self.scenario.source,
            ranked: &ranked,
            order,
            limit: limit.min(k),
            attributes: search.attributes.as_deref(),
            vectors: search.vectors,
            judged,
        };
        let (Some(by), Some(groups)) = (&shape.groups, groups) else { return check_line(&wanted, found) };
        if is_cut && groups.complete {
            return Err("groups are complete, though not all was considered".to_owned());
        }
        if !matches!(judged, Judged::Sound { .. }) && !by_places && !groups.complete {
            return Err("groups are not complete, though nothing was cut short".to_owned());
        }
        let answered: Vec<(AttributeValue, f64, usize)> =
            groups.groups.iter().map(|group| (group.value.clone(), group.score, group.points)).collect();
        let score = match by.score {
            Grouped::Best => |scores: &[f64]| Grouped::Best.of(scores),
            Grouped::Sum => |scores: &[f64]| Grouped::Sum.of(scores),
            Grouped::SumOverSquare => |scores: &[f64]| Grouped::SumOverSquare.of(scores),
        };
        let asked = Groups { by: &by.by, limit: by.limit as usize, candidates: k, wanted: limit, score };
        check_groups(&wanted, &asked, &answered, found)
    }
}

/// One result, and what it should be made of.
#[derive(Clone, Copy)]
struct Line<'a> {
    search: &'a Search,
    shape: &'a Shaped,
    sides: &'a [Side<'a>],
    exactness: Exactness,
    is_cut: bool,
}

/// How much of a ranking follows from the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exactness {
    Bits,
    About,
    Sound,
}

impl Exactness {
    /// Of two rankings together.
    fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

/// Vectors are on a grid of small fractions: sums of their differences, squares and products are exact in single precision.
fn exactness(index: &Index, compares_all: bool, score: Option<Score>) -> Exactness {
    if index.algorithm.hnsw.is_some() && !compares_all {
        return Exactness::Sound;
    }
    let by_cosine = match score {
        None => matches!(index.algorithm.metric, Metric::Cosine | Metric::SparseCosine),
        Some(score) => matches!(score, Score::CosineSimilarity | Score::AngularDistance),
    };
    if by_cosine { Exactness::About } else { Exactness::Bits }
}

fn ranking(rank: Rank) -> Ranking {
    Ranking::new(rank.score, rank.higher_is_better)
}

fn answers(found: &[Found]) -> Vec<Answer> {
    let answer = |found: &Found| Answer {
        attributes: found.attributes.clone(),
        vector: found.vector.clone(),
        distance: found.distance,
    };
    found.iter().map(answer).collect()
}
