//! Points that go without having been named: by filter, and because their time is up.

use std::collections::BTreeSet;
use std::sync::Arc;

use tarn_model::{AttributeValue, Attributes, CompareOp, DataPoint, Filter, PointKey, ReadToken, Retention};
use tarn_testkit::{Deletion, Reference, Scenario, Scope};
use tarn_timeline::{AppendError, SweepError, SweepOptions, TimelineError};

use super::World;

const MICROS: i64 = 1_000_000;

/// From when on a point is not found any more, in microseconds since 1970.
fn expires_at(retention: Option<&Retention>, point: &DataPoint) -> Option<i64> {
    let retention = retention?;
    let keep = i64::try_from(retention.keep_seconds?).unwrap_or(i64::MAX / MICROS) * MICROS;
    Some(moment(retention, point) + keep)
}

fn moment(retention: &Retention, point: &DataPoint) -> i64 {
    match point.attributes.get(&retention.attribute) {
        Some(AttributeValue::DateTime(at)) => *at,
        other => panic!("a point with {other:?} for a moment"),
    }
}

/// Whether a sweep may remove a live point now.
pub(super) fn may_go(
    scenario: &Scenario,
    deletions: &[Deletion],
    reference: &Reference,
    key: &PointKey,
    now: i64,
) -> bool {
    let head = reference.head();
    let Some((_, point)) = reference.live_at(head).find(|(other, _)| *other == key) else { return false };
    let retention = scenario.source.policy.retention.as_ref();
    let is_expired = |point: &DataPoint| expires_at(retention, point).is_some_and(|at| at <= now);
    if is_expired(point) {
        return true;
    }
    if let Some(Retention { target_points: Some(target), .. }) = retention
        && let Some(retention) = retention
    {
        let later = |other: &DataPoint| !is_expired(other) && moment(retention, other) > moment(retention, point);
        let later = reference.live_at(head).filter(|(_, other)| later(other)).count() as u64;
        if later >= *target {
            return true;
        }
    }
    let matches = |deletion: &Deletion| {
        let index = &scenario.indices[deletion.index];
        reference.indexed_at(index, head, &deletion.scope).any(|(other, _)| other == key)
    };
    deletions.iter().any(|deletion| !deletion.dry_run && matches(deletion))
}

impl World {
    fn retention(&self) -> Option<&Retention> {
        self.scenario.source.policy.retention.as_ref()
    }

    /// Of a scope, what has not expired.
    pub(super) fn alive(&self, scope: Scope, now: i64) -> Scope {
        let keep = self.retention().and_then(|retention| Some((retention, retention.keep_seconds?)));
        let Some((retention, keep)) = keep else { return scope };
        let gone = now - i64::try_from(keep).unwrap_or(i64::MAX / MICROS) * MICROS;
        let (attribute, value) = (retention.attribute.clone(), AttributeValue::DateTime(gone));
        scope.and(Some(Filter::Compare { attribute, op: CompareOp::Gt, value }))
    }

    /// Whether any stored point expires between two moments, so that an answer may be as of either.
    pub(super) fn expires_between(&self, from: i64, to: i64) -> bool {
        let within = |at: i64| from < at && at <= to;
        let mut points = self.reference.live_at(self.reference.head());
        points.any(|(_, point)| expires_at(self.retention(), point).is_some_and(within))
    }

    /// Notes how many points an answer had to leave out, though nothing has removed them yet.
    pub(super) fn note_expired(&mut self, now: i64) {
        let head = self.reference.head();
        let expired = |point: &DataPoint| expires_at(self.retention(), point).is_some_and(|at| at <= now);
        let count = self.reference.live_at(head).filter(|(_, point)| expired(point)).count();
        self.tally.asked.expired += count as u64;
    }

    /// After a fold: what had expired when it began is not in the live set, and neither is what is more than the cap.
    pub(super) fn check_retention(&self, began: i64) -> Result<(), String> {
        let Some(retention) = self.retention().filter(|_| !self.failing) else { return Ok(()) };
        let head = self.reference.head();
        let live: Vec<&Arc<DataPoint>> = self.reference.live_at(head).map(|(_, point)| point).collect();
        let expired = |point: &&&Arc<DataPoint>| expires_at(Some(retention), point).is_some_and(|at| at <= began);
        if let Some(point) = live.iter().find(expired) {
            return Err(format!("a fold has left a point that had expired: {point:?}"));
        }
        let Some(target) = retention.target_points else { return Ok(()) };
        let oldest = live.iter().map(|point| moment(retention, point)).min().unwrap_or_default();
        let others = live.iter().filter(|point| moment(retention, point) > oldest).count();
        // Those of one moment go together or stay together.
        if live.len() as u64 > target && others as u64 >= target {
            return Err(format!("a fold has left {} points; {others} would do for the cap of {target}", live.len()));
        }
        Ok(())
    }

    pub(super) async fn delete(&mut self, deletion: &Deletion) -> Result<(), String> {
        let head = self.reference.head();
        let index = Arc::clone(&self.scenario.indices[deletion.index]);
        let cut = deletion.cut.map(|back| head.saturating_sub(back));
        let unchanged = |key: &PointKey| {
            let written = self.reference.written_at(key, head).unwrap_or_default();
            cut.is_none_or(|cut| written <= cut)
        };
        let matches = self.reference.indexed_at(&index, head, &deletion.scope).filter(|(key, _)| unchanged(key));
        let expected = matches.count() as u64;
        let most = deletion.limit.unwrap_or(u64::MAX);
        let Scope { split_filter, filter } = deletion.scope.clone();
        let attributes: BTreeSet<String> = filter.iter().flat_map(Filter::attributes).map(str::to_owned).collect();
        let question = move |point: &Attributes| {
            split_filter.iter().all(|(name, value)| point.get(name) == Some(value))
                && filter.as_ref().is_none_or(|filter| filter.matches(point))
                && index.shard_of(point).is_some()
        };
        let mut options = SweepOptions::new(Arc::new(question), attributes);
        options.cut = cut.map(ReadToken::single);
        options.limit = most;
        options.dry_run = deletion.dry_run;
        self.deletions.push(deletion.clone());
        let before = self.tally.asked.retired;
        let outcome = self.processes.timeline.sweep(options).await;
        self.follow().await?;
        // What a sweep removes is not retention's.
        let removed = self.tally.asked.retired - before;
        self.tally.asked.retired = before;
        self.tally.asked.deleted += removed;
        match outcome {
            Ok(swept) => {
                let sequence = swept.token.sequence(0);
                if removed > 0 && !self.failing && sequence != self.reference.head() {
                    return Err(format!("the tombstones are at {}, the answer says {sequence}", self.reference.head()));
                }
                self.acknowledged = self.acknowledged.max(sequence);
                let wanted = if deletion.dry_run { 0 } else { swept.deleted };
                let may_be_short = self.failing && !swept.complete;
                if removed != wanted && !may_be_short {
                    return Err(format!("{} points deleted, {removed} are gone: {deletion:?}", swept.deleted));
                }
                let whole = (swept.deleted, swept.complete) == (expected.min(most), expected <= most);
                match whole || (may_be_short && swept.deleted <= expected.min(most)) {
                    true => Ok(()),
                    false => Err(format!("{swept:?} of {expected} points, for {deletion:?}")),
                }
            }
            Err(error) => {
                let explained = match &error {
                    SweepError::Read(TimelineError::Store(_)) => true,
                    SweepError::Append(error) => matches!(
                        error,
                        AppendError::Ambiguous { .. } | AppendError::NotApplied(_) | AppendError::Contended { .. }
                    ),
                    SweepError::Unsettled { .. } => true,
                    _ => false,
                };
                self.forgive(explained, error)
            }
        }
    }
}
