//! What can be set about the HTTP API. Data only; components are given to [`crate::AppState`].

use serde::{Deserialize, Serialize};
use tarn_timeline::GroupSettings;

use crate::auth::AuthMode;

/// Settings of the HTTP API. Limits on single requests are not settings: they are in `tarn_model::limits`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiSettings {
    /// What `/_status/version` says.
    pub commit_hash: String,
    /// When requests need a key.
    pub auth: AuthMode,
    /// Most bytes of request bodies, and of uploads read from them until they are committed, held at once in all requests
    /// together; above it requests get 429.
    pub body_bytes_in_flight: usize,
    /// Most bytes of uploads to one data source that wait or are being written; above it uploads get 429.
    pub queue_bytes: usize,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            commit_hash: option_env!("TARN_COMMIT").unwrap_or("unknown").to_owned(),
            auth: AuthMode::WhenKeysExist,
            body_bytes_in_flight: 1024 * 1024 * 1024,
            queue_bytes: GroupSettings::default().queue_bytes,
        }
    }
}
