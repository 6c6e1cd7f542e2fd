//! What an upload creates when it is not there, because a definition says so.
//!
//! The author of a data source's definition, who may create and delete, decides; whoever may upload to it carries it out. Definitions
//! stay what they are: created once, never changed. An index that somebody deletes later is not created again: indices come with the
//! first upload, and after that with nobody's.

use std::sync::atomic::Ordering;

use tarn_model::{DataSource, DataSourceId};
use tarn_store::{Defined, create_index, create_source, list_sources};

use crate::error::ApiError;
use crate::sources::{SourceHandle, source_not_found};
use crate::state::AppState;

/// The data source that an upload goes to. A version that does not exist is created when another version's definition allows it;
/// when several do, the last of them as text.
///
/// # Errors
/// 404 when there is no such data source and none is to be created.
pub(crate) async fn source_of_upload(state: &AppState, id: &DataSourceId) -> Result<SourceHandle, ApiError> {
    let missing = match state.sources().get(id).await {
        Err(error) if error.status() == axum::http::StatusCode::NOT_FOUND => error,
        found => return found,
    };
    let versions = |source: &DataSource| {
        let allowed = source.policy.auto_create.as_ref().is_some_and(|auto_create| auto_create.versions);
        source.id.name == id.name && allowed
    };
    let sources = list_sources(state.store()).await?;
    let Some(like) = sources.iter().rfind(|source| versions(source)) else { return Err(missing) };
    let source = DataSource { id: id.clone(), ..(**like).clone() };
    source.validate()?;
    if let Defined::Created = create_source(state.store(), &source).await? {
        tracing::info!(source = %id, like = %like.id, "created by an upload");
    }
    match state.sources().get(id).await {
        Err(error) if error.status() == axum::http::StatusCode::NOT_FOUND => Err(source_not_found(id)),
        found => found,
    }
}

/// Creates the indices that come with the first upload to a data source.
///
/// # Errors
/// The store failed; nothing was uploaded then.
pub(crate) async fn create_indices(state: &AppState, handle: &SourceHandle) -> Result<(), ApiError> {
    let Some(auto_create) = &handle.source.policy.auto_create else { return Ok(()) };
    if auto_create.indices.is_empty() || handle.has_indices.load(Ordering::Acquire) {
        return Ok(());
    }
    if handle.committer.timeline().head().await?.lanes.iter().all(|sequence| *sequence == 0) {
        for template in &auto_create.indices {
            let index = template.index(&handle.source.id)?;
            index.validate(&handle.source)?;
            match create_index(state.store(), &index).await? {
                Defined::Created => tracing::info!(index = %index.id, "created by the first upload"),
                Defined::Same => {}
                // Somebody has made one of the name; it is theirs.
                other => tracing::warn!(index = %index.id, ?other, "not created: the name is taken"),
            }
        }
    }
    handle.has_indices.store(true, Ordering::Release);
    Ok(())
}
