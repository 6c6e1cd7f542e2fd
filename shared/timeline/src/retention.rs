//! Retention: tombstones for the points whose time is up, and for those that are more than a data source is to keep.
//!
//! Searches leave expired points out by themselves, from the moment they expire; what is done here takes them out of the objects.
//! Expired points become deleted points, by the same tombstones as all others, so that folds, builds and readers need not know of
//! retention; see `docs/adr/018-retention-is-a-filter-and-tombstones.md`. Only builders do it, before they fold.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use futures::TryStreamExt;
use parking_lot::Mutex;
use tarn_model::{AttributeValue, Attributes, Corrupt, ReadToken, Retention};

use crate::error::TimelineError;
use crate::live::{LiveOptions, live};
use crate::schema::attribute_column;
use crate::sweep::{SweepError, SweepOptions, Swept};
use crate::timeline::{LANE, Timeline};

/// What a process remembers of a data source between two sweeps, so that it need not look at every point when nothing is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionState {
    /// As of here.
    at: ReadToken,
    /// No point's date-time is before this one, in microseconds.
    earliest: Option<i64>,
    /// At most this many points are live.
    points: u64,
    /// Points that were left when the cap was last applied: more than it where date-times are equal.
    kept: u64,
}

impl RetentionState {
    /// Of a data source of which nothing is known but that it has to be looked at.
    fn unknown(at: ReadToken) -> Self {
        Self { at, earliest: Some(i64::MIN), points: u64::MAX, kept: 0 }
    }
}

impl Timeline {
    /// Deletes the points that have expired, and the oldest of those beyond `targetN`. `known`: what the last call answered, if this
    /// process made one. `None` for a data source without retention.
    ///
    /// Reads the deltas since then; every point's date-time once when some have expired, and twice when there are too many.
    ///
    /// # Errors
    /// See [`Timeline::sweep`].
    pub async fn apply_retention(
        &self,
        known: Option<RetentionState>,
    ) -> Result<Option<(Swept, RetentionState)>, SweepError> {
        let source = Arc::clone(self.source());
        let Some(retention) = source.policy.retention.clone() else { return Ok(None) };
        let now = self.store().clock().now_ms().saturating_mul(1000);
        let gone = retention.gone_up_to(now);
        let known = match known {
            Some(known) => self.read_on(known, &retention).await?,
            None => RetentionState::unknown(ReadToken::default()),
        };
        let expired = known.earliest.is_some_and(|earliest| gone.is_some_and(|gone| earliest <= gone));
        // Of equal date-times all stay; that there are too many of these is no reason to look again.
        let many = retention.target_points.is_some_and(|target| known.points > target.max(known.kept));
        if !expired && !many {
            let at = known.at.clone();
            return Ok(Some((Swept { deleted: 0, complete: true, cut: at.clone(), token: at, position: None }, known)));
        }
        let mut due = Due { up_to: gone, before: i64::MIN };
        let mut cut = None;
        let mut kept = known.kept;
        if let Some(target) = retention.target_points.filter(|_| many) {
            let survey = self.survey(&retention, target, gone).await?;
            if survey.due == 0 {
                let Survey { at, left, .. } = survey;
                let state =
                    RetentionState { at: at.clone(), earliest: left.earliest, points: left.points, kept: left.points };
                return Ok(Some((
                    Swept { deleted: 0, complete: true, cut: at.clone(), token: at, position: None },
                    state,
                )));
            }
            due.before = survey.keep_from;
            cut = Some(survey.at);
            kept = survey.left.points;
        }
        let (swept, left) = self.retire(&retention, due, cut).await?;
        let state = match swept.complete {
            true => RetentionState {
                at: swept.cut.clone(),
                earliest: left.earliest,
                points: left.points,
                kept: kept.min(left.points),
            },
            // Of a sweep that was cut short nothing is remembered but that something is left.
            false => RetentionState::unknown(swept.cut.clone()),
        };
        Ok(Some((swept, state)))
    }

    /// Deletes what is due, and says what is left.
    async fn retire(
        &self,
        retention: &Retention,
        due: Due,
        cut: Option<ReadToken>,
    ) -> Result<(Swept, Left), SweepError> {
        let left = Arc::new(Mutex::new(Left::default()));
        let (attribute, noted) = (retention.attribute.clone(), Arc::clone(&left));
        let is_due = move |attributes: &Attributes| match attributes.get(&attribute) {
            Some(&AttributeValue::DateTime(at)) if due.has(at) => true,
            Some(&AttributeValue::DateTime(at)) => {
                noted.lock().add(at);
                false
            }
            _ => false,
        };
        let attributes = BTreeSet::from([retention.attribute.clone()]);
        let options = SweepOptions { cut, ..SweepOptions::new(Arc::new(is_due), attributes) };
        let swept = self.sweep(options).await?;
        let left = *left.lock();
        Ok((swept, left))
    }

    /// Takes what was written meanwhile into account.
    async fn read_on(&self, known: RetentionState, retention: &Retention) -> Result<RetentionState, TimelineError> {
        let head = self.head().await?;
        if head.sequence(LANE) < known.at.sequence(LANE) {
            // The data source was deleted, collected and made anew: what is known is of another.
            return Ok(RetentionState::unknown(head));
        }
        let mut state = known;
        if head == state.at {
            return Ok(state);
        }
        let mut deltas = Box::pin(self.stream_after(&state.at));
        loop {
            match deltas.try_next().await {
                Ok(Some(delta)) => {
                    state.at = ReadToken::single(delta.sequence);
                    let moments = moments(&self.key(delta.sequence).render(), &delta.data, &retention.attribute)?;
                    // A tombstone has a date-time, too, if that is one of the permanent attributes.
                    let live = (0..delta.rows()).filter(|&row| !delta.is_deleted(row) && moments.is_valid(row));
                    for row in live {
                        let at = moments.value(row);
                        state.points = state.points.saturating_add(1);
                        state.earliest = Some(state.earliest.map_or(at, |earliest| earliest.min(at)));
                    }
                }
                Ok(None) => return Ok(state),
                // What came since is folded and collected: everything is looked at anew.
                Err(TimelineError::Collected { .. }) => return Ok(RetentionState::unknown(state.at)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the date-time of every live point, and finds out which are too many. Memory: 8 bytes for each.
    async fn survey(&self, retention: &Retention, target: u64, gone: Option<i64>) -> Result<Survey, TimelineError> {
        let columns = Some(vec![attribute_column(&retention.attribute)]);
        let rows = live(self.store(), Arc::clone(self.source()), LiveOptions { columns, ..LiveOptions::default() });
        let mut rows = rows.await?;
        let source = self.source().id.to_string();
        let expired = Due { up_to: gone, before: i64::MIN };
        let mut all = 0_u64;
        let mut alive: Vec<i64> = Vec::new();
        while let Some(batch) = rows.batches.try_next().await? {
            let found = moments(&source, &batch, &retention.attribute)?;
            all += found.len() as u64;
            alive.extend(found.iter().flatten().filter(|&at| !expired.has(at)));
        }
        let mut keep_from = i64::MIN;
        let beyond = (alive.len() as u64).saturating_sub(target);
        if let Some(place) = usize::try_from(beyond).ok().filter(|&place| place > 0 && place < alive.len()) {
            // Of equal date-times all stay: which of them would go would be chance.
            keep_from = *alive.select_nth_unstable(place).1;
        }
        let mut left = Left::default();
        alive.into_iter().filter(|&at| at >= keep_from).for_each(|at| left.add(at));
        Ok(Survey { at: rows.at, due: all - left.points, keep_from, left })
    }
}

/// Which points go.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// Those with this date-time or an earlier one have expired.
    up_to: Option<i64>,
    /// Those with an earlier one are too many.
    before: i64,
}

impl Due {
    fn has(&self, at: i64) -> bool {
        self.up_to.is_some_and(|up_to| at <= up_to) || at < self.before
    }
}

/// Points that stay.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    points: u64,
    earliest: Option<i64>,
}

impl Left {
    fn add(&mut self, at: i64) {
        self.points += 1;
        self.earliest = Some(self.earliest.map_or(at, |earliest| earliest.min(at)));
    }
}

struct Survey {
    at: ReadToken,
    /// Points that go.
    due: u64,
    /// Points with an earlier date-time are too many.
    keep_from: i64,
    left: Left,
}

/// The date-times of a batch's rows.
fn moments<'a>(
    object: &str,
    batch: &'a RecordBatch,
    attribute: &str,
) -> Result<&'a PrimitiveArray<TimestampMicrosecondType>, Corrupt> {
    let name = attribute_column(attribute);
    let column = batch.column_by_name(&name);
    column.and_then(|column| column.as_primitive_opt()).ok_or_else(|| Corrupt {
        object: object.to_owned(),
        part: "columns".to_owned(),
        expected: format!("the date-times of {name}"),
        found: column.map_or_else(|| "none".to_owned(), |column| column.data_type().to_string()),
    })
}
