//! What an upload creates when it is not there, because a definition says so: over HTTP, from the drop folder and from the command line.
//!
//! The author of a data source's definition, who may create and delete, decides; whoever may upload to it carries it out. Definitions
//! stay what they are: created once, never changed. An index that somebody deletes later is not created again: indices come with the
//! first upload, and after that with nobody's. What is refused, or has no points, creates nothing.
//!
//! Owns `an-upload-creates-only-what-it-needs`.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tarn_model::{DataSource, DataSourceId, Index, IndexId, ValidationError, limits};
use tarn_store::{
    Defined, Store, StoreError, create_index, create_source, is_index_deleted, list_source_versions, load_index,
    load_source,
};

use crate::error::TimelineError;
use crate::timeline::Timeline;

/// Definitions that are asked for at once.
const CONCURRENCY: usize = 16;

/// Why something could not be created. Nothing was uploaded.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AutoCreateError {
    /// The version's name is not a good one, or what is to be created does not fit.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
    /// There are as many versions as uploads may make. The same upload succeeds once there are fewer, or the version is there.
    #[error(
        "Data source {id} does not exist, and uploads create no more than {most} versions of one name: delete versions that are not \
         needed (they count until garbage collection), or create this one with its definition",
        most = limits::AUTO_VERSIONS
    )]
    TooManyVersions {
        /// The version that is not created.
        id: DataSourceId,
    },
    /// What the upload is to create is there, and is something else. The same upload succeeds once the name is free.
    #[error(
        "The first upload is to create index {id}, and its name and version are taken by another index or one that was deleted and is \
         not yet collected; delete that and run garbage collection, or upload to another version of the data source"
    )]
    IndexTaken {
        /// The index.
        id: IndexId,
    },
    /// The version was created at the same time, with another definition, or deleted. The same upload may succeed.
    #[error("Data source {id} was defined otherwise, or deleted, at the same time; upload again")]
    SourceChanged {
        /// The data source.
        id: DataSourceId,
    },
    /// The store failed, or does not permit it.
    #[error("what the upload is to create could not be created, and nothing was uploaded: {0}")]
    Store(#[from] StoreError),
    /// Whether this is the first upload could not be told.
    #[error(transparent)]
    Timeline(#[from] TimelineError),
}

/// The definition of the data source that an upload goes to: the stored one, or that of the version to come (see
/// [`version_to_come`]). Creates nothing: [`Timeline::create_for_upload`] does, before the first batch. `None`: there is none.
///
/// # Errors
/// See [`AutoCreateError`].
pub async fn source_of_upload(store: &Store, id: &DataSourceId) -> Result<Option<Arc<DataSource>>, AutoCreateError> {
    match load_source(store, id).await? {
        Some(source) => Ok(Some(source)),
        None => version_to_come(store, id).await,
    }
}

/// The definition that a version which does not exist is to have, if another version's allows it: that one. When several do, that of the
/// last of them as text.
///
/// # Errors
/// See [`AutoCreateError`].
pub async fn version_to_come(store: &Store, id: &DataSourceId) -> Result<Option<Arc<DataSource>>, AutoCreateError> {
    let versions = list_source_versions(store, &id.name).await?;
    // Its definition is not there, but its objects are: it was deleted.
    if versions.contains(id) {
        return Ok(None);
    }
    let count = versions.len();
    let definitions = futures::stream::iter(versions.into_iter().rev())
        .map(|version| async move { load_source(store, &version).await })
        .buffered(CONCURRENCY)
        .try_filter(|source| {
            let policy = source.as_ref().and_then(|source| source.policy.auto_create.as_ref());
            std::future::ready(policy.is_some_and(|auto_create| auto_create.versions))
        });
    let mut definitions = std::pin::pin!(definitions);
    let Some(like) = definitions.try_next().await?.flatten() else { return Ok(None) };
    if count >= limits::AUTO_VERSIONS {
        return Err(AutoCreateError::TooManyVersions { id: id.clone() });
    }
    let source = DataSource { id: id.clone(), ..(*like).clone() };
    source.validate()?;
    Ok(Some(Arc::new(source)))
}

impl Timeline {
    /// Creates what comes with an upload that is about to be appended: the data source itself, if it is a version to come; with the
    /// first upload, its indices. All of them, or none when a name is taken.
    ///
    /// # Errors
    /// See [`AutoCreateError`].
    pub async fn create_for_upload(&self) -> Result<(), AutoCreateError> {
        let source = self.source();
        let Some(auto_create) = &source.policy.auto_create else { return Ok(()) };
        if auto_create.versions {
            self.create_version().await?;
        }
        if auto_create.indices.is_empty() || self.head().await?.lanes.iter().any(|sequence| *sequence > 0) {
            return Ok(());
        }
        let indices = auto_create.indices.iter().map(|template| template.index(&source.id));
        let indices: Vec<Index> = indices.collect::<Result<_, _>>()?;
        for index in &indices {
            index.validate(source)?;
            let taken = match load_index(self.store(), &index.id).await? {
                Some(there) => *there != *index,
                None => is_index_deleted(self.store(), &index.id).await?,
            };
            if taken {
                return Err(AutoCreateError::IndexTaken { id: index.id.clone() });
            }
        }
        for index in indices {
            match create_index(self.store(), &index).await? {
                Defined::Created => tracing::info!(index = %index.id, "created by the first upload"),
                Defined::Same => {}
                Defined::Differs | Defined::Deleted => return Err(AutoCreateError::IndexTaken { id: index.id }),
            }
        }
        Ok(())
    }

    async fn create_version(&self) -> Result<(), AutoCreateError> {
        let source = self.source();
        let changed = || AutoCreateError::SourceChanged { id: source.id.clone() };
        let there = match load_source(self.store(), &source.id).await? {
            Some(there) => there,
            None => {
                // Asked once more: since the upload began, others may have created versions.
                let to_come = version_to_come(self.store(), &source.id).await?.ok_or_else(changed)?;
                if to_come == *source {
                    match create_source(self.store(), source).await? {
                        Defined::Created => tracing::info!(source = %source.id, "created by an upload"),
                        Defined::Same => {}
                        Defined::Differs | Defined::Deleted => return Err(changed()),
                    }
                }
                to_come
            }
        };
        if there == *source { Ok(()) } else { Err(changed()) }
    }
}
