//! Reading points rather than searching them: samples, exports, statistics. One unit after the other, so that what an index
//! takes beside its files is one segment's worth, however large it is.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use futures::StreamExt;
use roaring::RoaringBitmap;
use tarn_model::{Attributes, IndexId};
use tarn_segment::Statistics;

use super::{Engine, Opened};
use crate::error::SearchError;
use crate::execute::{self, NamedFilter, Prepared};
use crate::export::{self, Export, ExportRequest};
use crate::plan::{Origin, Part, Unit};
use crate::points::Point;
use crate::pool::Abandoned;
use crate::reader::State;
use crate::sample::{Drawn, Lots, Sample, SampleRequest, SampledPoints, lot};
use crate::snapshot::Snapshot;
use crate::splits::Directory;
use crate::statistics::{self, IndexStatistics, MeasuredFrom, StatisticsRequest};
use crate::validate::{check_sample, check_scope};

/// Some rows of a snapshot, by unit.
#[derive(Clone)]
struct Chosen {
    snapshot: Arc<Snapshot>,
    units: Vec<Unit>,
    filter: Option<NamedFilter>,
}

/// When to count points that expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Now,
    /// When the generation was built: what has expired since is part of how the points have changed since.
    Then,
}

/// What an export has left.
struct Left {
    engine: Engine,
    chosen: Chosen,
    units: VecDeque<Unit>,
    drawn: Arc<Drawn>,
    /// The unit under way, and its rows that are left.
    current: Option<(Arc<Prepared>, RoaringBitmap)>,
}

impl Engine {
    /// Statistics of an index, or of a part of it.
    ///
    /// # Errors
    /// [`SearchError::NoGeneration`] when an earlier generation is gone; see [`SearchError`] for the rest.
    pub async fn statistics(&self, id: &IndexId, request: StatisticsRequest) -> Result<IndexStatistics, SearchError> {
        let definition = self.known(id, self.reader(id).definition_for(request.consistency).await)?;
        check_scope(&request.split_filter, request.filter.as_ref(), request.shard.as_deref(), &definition)?;
        let (as_of, tail) = (request.as_of, request.tail);
        let Some(since) = request.since else {
            return self.statistics_of(id, &request, as_of, tail, None, Moment::Now).await;
        };
        let earlier = self.statistics_of(id, &request, Some(since), false, None, Moment::Then).await?;
        let reference = Arc::clone(earlier.statistics.reference());
        let mut now = self.statistics_of(id, &request, as_of, tail, None, Moment::Now).await?;
        now.drift = Some(if *now.statistics.reference() == reference {
            statistics::drift(&earlier, &now.statistics)
        } else {
            let again = self.statistics_of(id, &request, as_of, tail, Some(&reference), Moment::Now).await?;
            now.rows_read += again.rows_read;
            statistics::drift(&earlier, &again.statistics)
        });
        now.rows_read += earlier.rows_read;
        Ok(now)
    }

    async fn statistics_of(
        &self,
        id: &IndexId,
        request: &StatisticsRequest,
        generation: Option<u64>,
        tail: bool,
        reference: Option<&Arc<[f32]>>,
        moment: Moment,
    ) -> Result<IndexStatistics, SearchError> {
        let state = State { generation, consistency: request.consistency, min_version: None };
        let measure = async |snapshot| self.measure(snapshot, request, tail, reference.cloned(), moment).await;
        self.on_state(id, state, measure).await
    }

    /// `reference`: what to measure from; `None`: what costs least and is asked for.
    async fn measure(
        &self,
        snapshot: Arc<Snapshot>,
        request: &StatisticsRequest,
        tail: bool,
        reference: Option<Arc<[f32]>>,
        moment: Moment,
    ) -> Result<IndexStatistics, SearchError> {
        let snapshot = match tail {
            true => snapshot,
            false => {
                let (definition, generation) = (Arc::clone(&snapshot.definition), Arc::clone(&snapshot.generation));
                let built = generation.manifest.as_ref().map(|manifest| manifest.created_ms.saturating_mul(1000));
                let moment = built.filter(|_| moment == Moment::Then).unwrap_or_else(|| self.now_micros());
                Arc::new(Snapshot::without_tail(definition, generation)).at_time(moment)
            }
        };
        let mut chosen = self.choose(&snapshot, &request.split_filter, request.filter.clone()).await?;
        if let Some(shard) = &request.shard {
            chosen.keep_shard(shard);
        }
        let source = &snapshot.definition.source;
        let sparse = source.vector_kind == tarn_model::VectorKind::Sparse;
        // Only of whole segments has the builder counted what is asked for.
        let whole = request.split_filter.is_empty() && request.filter.is_none() && !request.exact;
        let known = match (&reference, sparse, whole) {
            (Some(reference), ..) => Some(Arc::clone(reference)),
            (None, true, _) => Some(Arc::from([])),
            (None, false, true) => chosen.reference(source.vector_dimension as usize),
            (None, false, false) => None,
        };
        let mut rows_read = 0;
        let (reference, from) = match known {
            Some(known) if sparse => (known, MeasuredFrom::Origin),
            Some(known) => (known, MeasuredFrom::Reference),
            None => {
                let origin: Arc<[f32]> = vec![0.0; source.vector_dimension as usize].into();
                let (first, read) = self.count_rows(&chosen, &origin, false).await?;
                rows_read += read;
                let centre = first.centre().map(|centre| centre.into_iter().map(|value| value as f32).collect());
                (centre.unwrap_or(origin), MeasuredFrom::Centre)
            }
        };
        let (statistics, read) = self.count_rows(&chosen, &reference, whole).await?;
        Ok(IndexStatistics {
            statistics,
            from,
            rows_read: rows_read + read,
            version: snapshot.version(),
            generation: snapshot.generation.number(),
            drift: None,
        })
    }

    /// Counts about a reference, and says how many rows it read. `counted`: take what the builder has counted.
    async fn count_rows(
        &self,
        chosen: &Chosen,
        reference: &Arc<[f32]>,
        counted: bool,
    ) -> Result<(Statistics, u64), SearchError> {
        let touched = chosen.snapshot.touched();
        let (mut all, mut read) = (Statistics::new(Arc::clone(reference)), 0);
        for unit in &chosen.units {
            if let Some(part) = chosen.counted(unit, &touched).filter(|part| counted && part.reference() == reference) {
                statistics::merge(&mut all, part)?;
                continue;
            }
            let prepared = self.ready(chosen, unit.clone()).await?;
            let reference = Arc::clone(reference);
            let part = self.inner.files.pool.run(move |_| statistics::count(&prepared, &reference)).await?;
            read += part.rows();
            statistics::merge(&mut all, &part)?;
        }
        Ok((all, read))
    }

    /// A sample that fits one answer.
    ///
    /// # Errors
    /// See [`SearchError`].
    pub async fn sample(&self, id: &IndexId, request: SampleRequest) -> Result<SampledPoints, SearchError> {
        let definition = self.known(id, self.reader(id).definition_for(request.consistency).await)?;
        check_scope(&request.split_filter, request.filter.as_ref(), None, &definition)?;
        check_sample(&request)?;
        let state = State { generation: request.as_of, consistency: request.consistency, min_version: None };
        let request = &request;
        let sample = async |snapshot: Arc<Snapshot>| {
            let chosen = self.choose(&snapshot, &request.split_filter, request.filter.clone()).await?;
            let (drawn, population) = self.draw(&chosen, request.sample).await?;
            let drawn = Arc::new(drawn);
            let mut points: Vec<Point> = Vec::new();
            for unit in &chosen.units {
                let prepared = self.ready(&chosen, unit.clone()).await?;
                let (drawn, snapshot, vectors) = (Arc::clone(&drawn), Arc::clone(&snapshot), request.retrieve_vectors);
                let read = move |_: &Abandoned| {
                    let segment = prepared.segment()?;
                    let rows = prepared.live_rows().into_iter().filter(|&row| drawn.has(segment.key(row)));
                    let points = rows.map(|row| Point::read(&snapshot, segment, row, vectors));
                    points.collect::<Result<Vec<Point>, SearchError>>()
                };
                points.extend(self.inner.files.pool.run(read).await?);
            }
            let seed = request.sample.seed;
            points.sort_by(|a, b| (lot(&a.key.0, seed), &a.key.0).cmp(&(lot(&b.key.0, seed), &b.key.0)));
            let (version, generation) = (snapshot.version(), snapshot.generation.number());
            Ok(SampledPoints { points, population, version, generation })
        };
        self.on_state(id, state, sample).await
    }

    /// Streams points, each once.
    ///
    /// A segment that garbage collection takes away meanwhile ends the stream in an error: the state that was pinned is older
    /// than its grace period by then.
    ///
    /// # Errors
    /// See [`SearchError`]; errors while rows are read come through the stream.
    pub async fn export(&self, id: &IndexId, request: ExportRequest) -> Result<Export, SearchError> {
        let definition = self.known(id, self.reader(id).definition_for(request.consistency).await)?;
        check_scope(&request.split_filter, request.filter.as_ref(), None, &definition)?;
        let state = State { generation: request.as_of, consistency: request.consistency, min_version: None };
        let request = &request;
        let begin = async |snapshot: Arc<Snapshot>| {
            let chosen = self.choose(&snapshot, &request.split_filter, request.filter.clone()).await?;
            let drawn = match request.sample {
                Some(sample) => self.draw(&chosen, sample).await?.0,
                None => Drawn::All,
            };
            Ok((chosen, drawn))
        };
        let (chosen, drawn) = self.on_state(id, state, begin).await?;
        let schema = export::schema(&chosen.snapshot.definition.source);
        let (version, generation) = (chosen.snapshot.version(), chosen.snapshot.generation.number());
        let units = chosen.units.iter().cloned().collect();
        let left = Left { engine: self.clone(), chosen, units, drawn: Arc::new(drawn), current: None };
        let of_batches = Arc::clone(&schema);
        let batches = futures::stream::try_unfold(left, move |mut left| {
            let schema = Arc::clone(&of_batches);
            async move { Ok::<_, SearchError>(left.next(&schema).await?.map(|batch| (batch, left))) }
        });
        Ok(Export { version, generation, schema, batches: batches.boxed() })
    }

    /// Draws a sample; says also how many points it is drawn from.
    async fn draw(&self, chosen: &Chosen, sample: Sample) -> Result<(Drawn, u64), SearchError> {
        let mut lots = Lots::new(sample.seed);
        for unit in &chosen.units {
            let prepared = self.ready(chosen, unit.clone()).await?;
            let add = move |_: &Abandoned| lots.add(&prepared).map(|()| lots);
            lots = self.inner.files.pool.run(add).await?;
        }
        let population = lots.total();
        let Some(cut) = lots.cut(sample.n) else { return Ok((Drawn::All, population)) };
        let mut through = Vec::new();
        for unit in &chosen.units {
            let prepared = self.ready(chosen, unit.clone()).await?;
            let add = move |_: &Abandoned| cut.add(&prepared, &mut through).map(|()| through);
            through = self.inner.files.pool.run(add).await?;
        }
        Ok((cut.drawn(through), population))
    }

    async fn choose(
        &self,
        snapshot: &Arc<Snapshot>,
        split_filter: &Attributes,
        filter: Option<tarn_model::Filter>,
    ) -> Result<Chosen, SearchError> {
        let units = self.plan(snapshot, Part::Everything, split_filter).await?;
        Ok(Chosen { snapshot: Arc::clone(snapshot), units, filter: filter.map(NamedFilter::new) })
    }

    /// Opens a unit and finds out which of its rows count.
    async fn ready(&self, chosen: &Chosen, unit: Unit) -> Result<Prepared, SearchError> {
        let Opened { units, .. } = self.open(&chosen.snapshot, vec![unit], None).await?;
        let (snapshot, filter) = (Arc::clone(&chosen.snapshot), chosen.filter.clone());
        let filters = Arc::clone(&self.inner.filters);
        let prepare = move |_: &Abandoned| {
            let prepared = execute::prepare(&snapshot, units, filter.as_ref(), &filters)?.pop();
            prepared.ok_or_else(|| SearchError::Internal("a unit was opened and is not there".to_owned()))
        };
        self.inner.files.pool.run(prepare).await
    }
}

impl Chosen {
    /// What the builder has counted of a unit, if that is all of it and still so.
    fn counted(&self, unit: &Unit, touched: &BTreeSet<(u32, u32)>) -> Option<&Arc<Statistics>> {
        let Origin::Base { shard, segment } = unit.origin else { return None };
        let base = self.snapshot.base(shard, segment)?;
        let all: Range<u32> = 0..base.rows;
        (unit.ranges == [all] && !touched.contains(&(shard, segment))).then_some(base.statistics.as_ref()).flatten()
    }

    /// The reference of the segments that the builder has counted.
    fn reference(&self, dimension: usize) -> Option<Arc<[f32]>> {
        let none = BTreeSet::new();
        let mut counted = self.units.iter().filter_map(|unit| self.counted(unit, &none));
        counted.find(|known| known.reference().len() == dimension).map(|known| Arc::clone(known.reference()))
    }

    /// Leaves the rows of one shard.
    fn keep_shard(&mut self, wanted: &str) {
        let snapshot = &self.snapshot;
        let Some(wanted) = snapshot.definition.shard_position(wanted) else { return };
        self.units.retain_mut(|unit| match unit.origin {
            Origin::Base { shard, .. } => shard == wanted,
            Origin::Tail(position) => {
                let directory = snapshot.tail.parts().get(position).and_then(|part| part.run.directory(wanted));
                let entries = directory.map_or(&[][..], Directory::entries);
                // Rows are sorted by shard first, so a shard's are adjacent.
                let (start, end) = (entries.first().map_or(0, |e| e.start), entries.last().map_or(0, |e| e.end));
                unit.ranges = within(&unit.ranges, start..end);
                !unit.ranges.is_empty()
            }
        });
    }
}

/// The parts of ranges that are in another.
fn within(ranges: &[Range<u32>], bounds: Range<u32>) -> Vec<Range<u32>> {
    let cut = ranges.iter().map(|range| range.start.max(bounds.start)..range.end.min(bounds.end));
    cut.filter(|range| range.start < range.end).collect()
}

impl Left {
    /// The next batch; `None` after the last.
    async fn next(
        &mut self,
        schema: &arrow::datatypes::SchemaRef,
    ) -> Result<Option<arrow::array::RecordBatch>, SearchError> {
        loop {
            let Some((prepared, mut rows)) = self.current.take() else {
                let Some(unit) = self.units.pop_front() else { return Ok(None) };
                let prepared = Arc::new(self.engine.ready(&self.chosen, unit).await?);
                let (of, drawn) = (Arc::clone(&prepared), Arc::clone(&self.drawn));
                let choose = move |_: &Abandoned| {
                    let live = of.live_rows();
                    if *drawn == Drawn::All {
                        return Ok(live);
                    }
                    let segment = of.segment()?;
                    Ok(live.into_iter().filter(|&row| drawn.has(segment.key(row))).collect())
                };
                let rows = self.engine.inner.files.pool.run(choose).await?;
                self.current = Some((prepared, rows));
                continue;
            };
            let most = export::batch_rows(&self.chosen.snapshot.definition.source);
            let next: Vec<u32> = rows.iter().take(most).collect();
            if next.is_empty() {
                continue;
            }
            rows.remove_smallest(next.len() as u64);
            let (of, schema) = (Arc::clone(&prepared), Arc::clone(schema));
            self.current = Some((prepared, rows));
            let batch = move |_: &Abandoned| export::batch(of.segment()?, next, &schema);
            return self.engine.inner.files.pool.run(batch).await.map(Some);
        }
    }
}
