//! Retention: tombstones for the points whose time is up, and for those that are more than a data source is to keep.
//!
//! Searches leave expired points out by themselves, from the moment they expire; what is done here takes them out of the objects.
//! Expired points become deleted points, by the same tombstones as all others, so that folds, builds and readers need not know of
//! retention; see `docs/adr/018-retention-is-a-filter-and-tombstones.md`. Only builders do it, before they fold.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use futures::TryStreamExt;
use tarn_model::{AttributeValue, Attributes, ReadToken, Retention};

use crate::error::TimelineError;
use crate::live::{LiveOptions, live};
use crate::schema::attribute_column;
use crate::sweep::{SweepError, SweepOptions, Swept};
use crate::timeline::Timeline;

/// What a process remembers of a data source between two sweeps, so that it need not look at every point when nothing is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionState {
    /// As of here.
    at: ReadToken,
    /// No point's date-time is before this one, in microseconds.
    earliest: Option<i64>,
    /// At most this many points are live.
    points: u64,
}

impl Timeline {
    /// Deletes the points that have expired, and the oldest of those beyond `targetN`. `known`: what the last call answered, if this
    /// process made one. `None` for a data source without retention.
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
        if let Some(known) = known {
            let known = self.read_on(known, &retention).await?;
            let expired = known.earliest.is_some_and(|earliest| gone.is_some_and(|gone| earliest <= gone));
            let many = retention.target_points.is_some_and(|target| known.points > target);
            if !expired && !many {
                let at = known.at.clone();
                return Ok(Some((Swept { deleted: 0, complete: true, cut: at.clone(), token: at }, known)));
            }
        }
        let survey = self.survey(&retention, gone).await?;
        let attribute = retention.attribute.clone();
        let is_due = move |attributes: &Attributes| match attributes.get(&attribute) {
            Some(AttributeValue::DateTime(at)) => gone.is_some_and(|gone| *at <= gone) || *at < survey.keep_from,
            _ => false,
        };
        let swept = match survey.due {
            0 => Swept { deleted: 0, complete: true, cut: survey.at.clone(), token: survey.at.clone() },
            _ => {
                let attributes = BTreeSet::from([retention.attribute.clone()]);
                let options = SweepOptions { cut: Some(survey.at), ..SweepOptions::new(Arc::new(is_due), attributes) };
                self.sweep(options).await?
            }
        };
        // Of a sweep that was cut short nothing is remembered but that something is left.
        let earliest = if swept.complete { survey.earliest } else { Some(i64::MIN) };
        let state = RetentionState { at: swept.cut.clone(), earliest, points: survey.kept };
        Ok(Some((swept, state)))
    }

    /// Takes what was written meanwhile into account.
    async fn read_on(&self, known: RetentionState, retention: &Retention) -> Result<RetentionState, TimelineError> {
        let mut state = known;
        let mut deltas = Box::pin(self.stream_after(&state.at));
        loop {
            match deltas.try_next().await {
                Ok(Some(delta)) => {
                    state.at = ReadToken::single(delta.sequence);
                    let written = moments(&delta.data, &retention.attribute);
                    state.points = state.points.saturating_add(written.len() as u64);
                    state.earliest = state.earliest.into_iter().chain(written).min();
                }
                Ok(None) => return Ok(state),
                // What came since is folded and collected: everything is looked at anew.
                Err(TimelineError::Collected { .. }) => {
                    return Ok(RetentionState { earliest: Some(i64::MIN), points: u64::MAX, ..state });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the date-time of every live point. Memory: 8 bytes for each when there is a cap, else none.
    async fn survey(&self, retention: &Retention, gone: Option<i64>) -> Result<Survey, TimelineError> {
        let columns = Some(vec![attribute_column(&retention.attribute)]);
        let rows = live(self.store(), Arc::clone(self.source()), LiveOptions { columns, ..LiveOptions::default() });
        let mut rows = rows.await?;
        let is_alive = |at: &i64| gone.is_none_or(|gone| *at > gone);
        let (mut all, mut alive, mut earliest) = (0_u64, 0_u64, None::<i64>);
        let mut kept: Vec<i64> = Vec::new();
        while let Some(batch) = rows.batches.try_next().await? {
            let found = moments(&batch, &retention.attribute);
            all += found.len() as u64;
            for at in found.into_iter().filter(is_alive) {
                alive += 1;
                earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
                if retention.target_points.is_some() {
                    kept.push(at);
                }
            }
        }
        let beyond = retention.target_points.map_or(0, |target| alive.saturating_sub(target));
        let mut keep_from = i64::MIN;
        if let Some(place) = usize::try_from(beyond).ok().filter(|&place| place > 0 && place < kept.len()) {
            // Of equal date-times all stay: which of them would go would be chance.
            keep_from = *kept.select_nth_unstable(place).1;
            let before = kept.iter().filter(|at| **at < keep_from).count() as u64;
            alive -= before;
            earliest = Some(keep_from);
        }
        Ok(Survey { at: rows.at, due: all - alive, keep_from, earliest, kept: alive })
    }
}

struct Survey {
    at: ReadToken,
    /// Points that go.
    due: u64,
    /// Points with an earlier date-time are too many.
    keep_from: i64,
    /// The first date-time of those that stay.
    earliest: Option<i64>,
    /// Points that stay.
    kept: u64,
}

/// The date-times of a batch's points; a tombstone has none.
fn moments(batch: &RecordBatch, attribute: &str) -> Vec<i64> {
    let column = batch.column_by_name(&attribute_column(attribute));
    let column = column.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    column.map(|column| column.iter().flatten().collect()).unwrap_or_default()
}
