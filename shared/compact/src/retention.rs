//! Before a fold: tombstones for the points whose time is up, so that the fold and the builds after it take them out of the objects.
//!
//! A builder remembers what it saw of each data source; while nothing is due, it reads the new deltas alone. One that may not write to
//! timelines should be told so ([`crate::BuilderSettings::retention`]); it finds out by itself, and then looks again once an hour.

use std::sync::Arc;
use std::time::Duration;

use tarn_model::DataSource;
use tarn_store::StoreError;
use tarn_timeline::{AppendError, RetentionState, SweepError, Timeline};

use crate::context::Context;
use crate::error::CompactError;

/// How long a builder that may not append leaves a data source alone: each try reads all of its points.
const DENIED: Duration = Duration::from_secs(3600);

/// What a builder remembers of a data source between two passes.
#[derive(Debug)]
pub(crate) enum Remembered {
    /// What it saw, and the definition that it was about.
    State(Arc<DataSource>, RetentionState),
    /// That it was not permitted to append. Until then, by the store's monotonic clock, it does not try again.
    Denied(Duration),
}

/// Applies the data source's retention, if it has one and this builder is to.
///
/// # Errors
/// The timeline could not be read, or is corrupt. That it could not be written to is none, be it that writers of other processes were
/// faster or that this builder may not: expired points are not found any more in any case, and a later build tries again.
pub(crate) async fn apply(context: &Context, source: &Arc<DataSource>) -> Result<(), CompactError> {
    if source.policy.retention.is_none() || !context.settings.retention {
        return Ok(());
    }
    let now = context.store.clock().monotonic();
    // Taken, not copied: after a failure everything is looked at anew.
    let known = match context.retention.lock().remove(&source.id) {
        Some(Remembered::Denied(until)) if now < until => Some(Remembered::Denied(until)),
        // Another source of the name is one to know nothing of.
        Some(Remembered::State(of, state)) if of == *source => Some(Remembered::State(of, state)),
        _ => None,
    };
    let remember = |what| context.retention.lock().insert(source.id.clone(), what);
    let known = match known {
        Some(denied @ Remembered::Denied(_)) => {
            remember(denied);
            return Ok(());
        }
        Some(Remembered::State(_, state)) => Some(state),
        None => None,
    };
    let timeline = Timeline::open(context.store.clone(), Arc::clone(source));
    match timeline.apply_retention(known).await {
        Ok(None) => Ok(()),
        Ok(Some((swept, state))) => {
            if swept.deleted > 0 {
                tracing::info!(source = %source.id, points = swept.deleted, complete = swept.complete, "retention");
            }
            remember(Remembered::State(Arc::clone(source), state));
            Ok(())
        }
        Err(SweepError::Read(error)) => Err(error.into()),
        Err(SweepError::Append(AppendError::Corrupt(error))) => Err(error.into()),
        Err(SweepError::Append(AppendError::Deleted { source_id })) => {
            Err(CompactError::NotFound { what: source_id.to_string() })
        }
        Err(SweepError::Append(AppendError::NotApplied(error @ StoreError::Denied { .. }))) => {
            tracing::warn!(
                source = %source.id, %error,
                "points that are to go stay in the objects: permit the builder to write to timelines, or turn its retention off"
            );
            remember(Remembered::Denied(now.saturating_add(DENIED)));
            Ok(())
        }
        Err(error) => {
            tracing::warn!(source = %source.id, %error, "retention waits for the next build");
            Ok(())
        }
    }
}
