//! Failures of the engine as answers.

use axum::http::StatusCode;
use tarn_api::{ApiError, index_not_found};
use tarn_search::SearchError;

/// The answer to a request whose search failed.
pub(crate) fn to_api(error: SearchError) -> ApiError {
    match error {
        SearchError::IndexNotFound(id) => index_not_found(&id),
        SearchError::SourceNotFound(_) => ApiError::not_found(error.to_string()),
        SearchError::NotBuilt(_) | SearchError::Late(_) => ApiError::unavailable(error.to_string()),
        SearchError::Invalid(error) => error.into(),
        SearchError::NotYet { .. } => ApiError::conflict(vec![error.to_string()]),
        SearchError::NoGeneration { wanted, kept, .. } => match kept {
            Some((_, newest)) if wanted <= newest => {
                ApiError::new(StatusCode::GONE, "generationGone", error.to_string())
            }
            _ => ApiError::conflict(vec![error.to_string()]),
        },
        SearchError::Store(error) => error.into(),
        SearchError::Leaf(_) => {
            tracing::warn!(%error, "a leaf is unavailable");
            ApiError::unavailable(
                "A part of the index could not be searched, because too much runs at once or a function failed; repeat the \
                 request in a moment, or send deadlineMs and take what the other parts have",
            )
        }
        SearchError::Corrupt(error) => error.into(),
        error => {
            tracing::error!(%error, "search failed");
            ApiError::internal()
        }
    }
}
