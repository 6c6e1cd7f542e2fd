//! Before a fold: tombstones for the points whose time is up, so that the fold and the builds after it take them out of the objects.
//!
//! A builder remembers what it saw of each data source; while nothing is due, it reads the new deltas alone.

use std::sync::Arc;

use tarn_model::DataSource;
use tarn_timeline::{AppendError, SweepError, Timeline};

use crate::context::Context;
use crate::error::CompactError;

/// Applies the data source's retention, if it has one.
///
/// # Errors
/// The timeline could not be read, or is corrupt. That it could not be written to is none, be it that writers of other processes were
/// faster or that this builder may not: the points are not found any more in any case, and the next build tries again.
pub(crate) async fn apply(context: &Context, source: &Arc<DataSource>) -> Result<(), CompactError> {
    if source.policy.retention.is_none() {
        return Ok(());
    }
    let timeline = Timeline::open(context.store.clone(), Arc::clone(source));
    // Taken, not copied: after a failure everything is looked at anew. Another source of the name is one to know nothing of.
    let known = context.retention.lock().remove(&source.id);
    let known = known.filter(|(of, _)| of == source).map(|(_, state)| state);
    match timeline.apply_retention(known).await {
        Ok(None) => Ok(()),
        Ok(Some((swept, state))) => {
            if swept.deleted > 0 {
                tracing::info!(source = %source.id, points = swept.deleted, complete = swept.complete, "retention");
            }
            context.retention.lock().insert(source.id.clone(), (Arc::clone(source), state));
            Ok(())
        }
        Err(SweepError::Read(error)) => Err(error.into()),
        Err(SweepError::Append(AppendError::Corrupt(error))) => Err(error.into()),
        Err(SweepError::Append(AppendError::Deleted { source_id })) => {
            Err(CompactError::NotFound { what: source_id.to_string() })
        }
        Err(SweepError::Append(error)) => {
            tracing::warn!(source = %source.id, %error, "retention waits for the next build");
            Ok(())
        }
    }
}
