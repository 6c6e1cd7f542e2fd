//! What an upload creates when it is not there, because a definition says so: what `tarn-timeline` does, for what this process
//! keeps of data sources.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use tarn_model::{DataSource, DataSourceId};
use tarn_timeline::{AutoCreateError, Timeline, version_to_come};

use crate::error::ApiError;
use crate::sources::SourceHandle;
use crate::state::AppState;

/// Where an upload goes.
#[derive(Debug)]
pub(crate) enum Destination {
    /// A data source that exists.
    There(SourceHandle),
    /// A version that the upload creates if it is good and has points.
    ToCome(Arc<DataSource>),
}

impl Destination {
    /// Where an upload goes. Creates nothing.
    ///
    /// # Errors
    /// 404 when there is no such data source and none is to be created.
    pub(crate) async fn of(state: &AppState, id: &DataSourceId) -> Result<Self, ApiError> {
        match state.sources().get(id).await {
            Ok(handle) => Ok(Self::There(handle)),
            Err(error) if error.status() == StatusCode::NOT_FOUND => {
                version_to_come(state.store(), id).await?.map(Self::ToCome).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// What the upload must be like.
    pub(crate) fn source(&self) -> &Arc<DataSource> {
        match self {
            Self::There(handle) => &handle.source,
            Self::ToCome(source) => source,
        }
    }

    /// The data source, with what comes with an upload that is about to be appended.
    ///
    /// # Errors
    /// It cannot be created; nothing was uploaded then.
    pub(crate) async fn created(self, state: &AppState) -> Result<SourceHandle, ApiError> {
        let (source, handle) = match self {
            Self::There(handle) if handle.source.policy.auto_create.is_none() => return Ok(handle),
            Self::There(handle) if handle.has_indices.load(Ordering::Acquire) => return Ok(handle),
            Self::There(handle) => (Arc::clone(&handle.source), Some(handle)),
            Self::ToCome(source) => (source, None),
        };
        // One after the other: each counts the versions that there are.
        let _one = state.sources().creating().await;
        let handle = match handle {
            Some(handle) => {
                handle.committer.timeline().create_for_upload().await?;
                handle
            }
            None => {
                Timeline::open(state.store().clone(), Arc::clone(&source)).create_for_upload().await?;
                let handle = state.sources().get(&source.id).await?;
                if handle.source != source {
                    return Err(AutoCreateError::SourceChanged { id: source.id.clone() }.into());
                }
                handle
            }
        };
        handle.has_indices.store(true, Ordering::Release);
        Ok(handle)
    }
}

impl From<AutoCreateError> for ApiError {
    fn from(error: AutoCreateError) -> Self {
        match error {
            AutoCreateError::Invalid(error) => error.into(),
            AutoCreateError::Store(error) => error.into(),
            AutoCreateError::Timeline(error) => error.into(),
            error => Self::conflict(vec![error.to_string()]),
        }
    }
}
