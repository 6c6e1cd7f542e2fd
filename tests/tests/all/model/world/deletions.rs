//! Points that go without having been named: by filter, and because their time is up.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tarn_model::{AttributeValue, Attributes, CompareOp, DataPoint, Filter, PointKey, ReadToken, Retention};
use tarn_testkit::{Deletion, Reference, Scenario, Scope, Step, Upload};
use tarn_timeline::{AppendError, SweepError, SweepOptions, Swept, TimelineError};

use super::{Where, World};

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

/// A deletion whose tombstones may come yet.
pub(super) struct Unsettled {
    deletion: Deletion,
    /// What was written later stays.
    cut: u64,
}

/// Whether a sweep may remove a live point now.
pub(super) fn may_go(
    scenario: &Scenario,
    deletions: &[Unsettled],
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
    let written = reference.written_at(key, head).unwrap_or_default();
    let matches = |Unsettled { deletion, cut }: &Unsettled| {
        let index = &scenario.indices[deletion.index];
        written <= *cut && reference.indexed_at(index, head, &deletion.scope).any(|(other, _)| other == key)
    };
    deletions.iter().any(matches)
}

/// Whether a failed sweep is over: nothing that it has put can land later.
fn is_settled(error: &SweepError) -> bool {
    matches!(
        error,
        SweepError::Read(_) | SweepError::Append(AppendError::NotApplied(_) | AppendError::Contended { .. })
    )
}

/// Compares what a sweep answers with the points that are gone, and with those that were `expected` to go. Whatever failed, it
/// counts what it removes; only that something failed may keep it from removing all.
fn check_count(deletion: &Deletion, swept: &Swept, removed: u64, expected: u64, failing: bool) -> Result<(), String> {
    let wanted = if deletion.dry_run { 0 } else { swept.deleted };
    if removed != wanted {
        return Err(format!("{} points deleted, {removed} are gone: {deletion:?}", swept.deleted));
    }
    let most = deletion.limit.unwrap_or(u64::MAX);
    let whole = (swept.deleted, swept.complete) == (expected.min(most), expected <= most);
    let may_be_short = failing && !swept.complete;
    match whole || (may_be_short && swept.deleted <= expected.min(most)) {
        true => Ok(()),
        false => Err(format!("{swept:?} of {expected} points, for {deletion:?}")),
    }
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
        let Scope { split_filter, filter } = deletion.scope.clone();
        let attributes: BTreeSet<String> = filter.iter().flat_map(Filter::attributes).map(str::to_owned).collect();
        let question = move |point: &Attributes| {
            split_filter.iter().all(|(name, value)| point.get(name) == Some(value))
                && filter.as_ref().is_none_or(|filter| filter.matches(point))
                && index.shard_of(point).is_some()
        };
        let mut options = SweepOptions::new(Arc::new(question), attributes);
        options.cut = cut.map(ReadToken::single);
        options.limit = deletion.limit.unwrap_or(u64::MAX);
        options.dry_run = deletion.dry_run;
        if !deletion.dry_run {
            self.deletions.push(Unsettled { deletion: deletion.clone(), cut: cut.unwrap_or(head) });
        }
        let before = self.tally.asked.retired;
        let outcome = self.processes.timeline.sweep(options).await;
        self.follow().await?;
        if !deletion.dry_run && outcome.as_ref().err().is_none_or(is_settled) {
            self.deletions.pop();
        }
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
                check_count(deletion, &swept, removed, expected, self.failing)
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

/// Everything in the first index that holds all points.
fn everything() -> Deletion {
    Deletion { index: 0, scope: Scope::default(), limit: None, dry_run: false, cut: None }
}

#[test]
fn only_what_a_deletion_is_about_may_go_and_not_what_was_written_after_its_cut() {
    let scenario = Scenario::dense();
    let mut updates = scenario.everything(&mut SmallRng::seed_from_u64(1));
    updates.truncate(2);
    let mut reference = Reference::new(Arc::clone(&scenario.source));
    for update in &updates {
        reference.apply(std::slice::from_ref(update)).unwrap();
    }
    let keys: Vec<PointKey> = reference.live_at(2).map(|(key, _)| key.clone()).collect();
    let gone =
        |deletions: &[Unsettled]| keys.iter().filter(|key| may_go(&scenario, deletions, &reference, key, 0)).count();
    let until = |cut| [Unsettled { deletion: everything(), cut }];
    assert_eq!([gone(&[]), gone(&until(0)), gone(&until(1)), gone(&until(2))], [0, 0, 1, 2]);
}

#[test]
fn a_sweep_that_ends_early_has_to_count_what_is_gone() {
    let token = ReadToken::single(1);
    let swept =
        |deleted, complete| Swept { deleted, complete, cut: token.clone(), token: token.clone(), position: None };
    let check = |swept: &Swept, removed, failing| check_count(&everything(), swept, removed, 5, failing).is_ok();
    assert!(check(&swept(5, true), 5, false) && check(&swept(3, false), 3, true));
    assert!(!check(&swept(3, false), 3, false), "nothing failed");
    assert!(!check(&swept(3, false), 2, true) && !check(&swept(3, false), 4, true), "a wrong count");
    assert!(!check(&swept(3, true), 3, true) && !check(&swept(6, false), 6, true));
}

#[tokio::test]
async fn a_deletion_whose_outcome_is_known_excuses_no_later_tombstone() {
    let scenario = Scenario::dense();
    let updates = scenario.everything(&mut SmallRng::seed_from_u64(1));
    let mut world = World::new(scenario, Where::Memory, &[Default::default()], 1).await.unwrap();
    world.perform(&Step::Upload(Upload { repeats: None, updates })).await.unwrap();
    world.perform(&Step::Delete(everything())).await.unwrap();
    assert!(world.tally.asked.deleted > 0);
    assert!(world.deletions.is_empty());
}
