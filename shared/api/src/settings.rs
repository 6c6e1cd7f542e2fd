//! What can be set about the HTTP API. Data only; components are given to [`crate::AppState`].

use serde::{Deserialize, Serialize};

use crate::auth::AuthMode;

/// Settings of the HTTP API. Limits on single requests are not settings: they are in `tarn_model::limits`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiSettings {
    /// What `/_status/version` says.
    pub commit_hash: String,
    /// When requests need a key.
    pub auth: AuthMode,
    /// Most bytes of request bodies held at once, in all requests together; above it uploads get 429.
    pub body_bytes_in_flight: usize,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            commit_hash: option_env!("TARN_COMMIT").unwrap_or("unknown").to_owned(),
            auth: AuthMode::WhenKeysExist,
            body_bytes_in_flight: 1024 * 1024 * 1024,
        }
    }
}
