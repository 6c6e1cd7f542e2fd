//! Uploads straight into the drop folder: where a file of a given name goes, and what a presigned URL is made of.

use std::fmt::Debug;

use async_trait::async_trait;
use tarn_model::{DataSourceId, DropPath, ObjectKey, ValidationError, limits};

use crate::error::DropError;
use crate::folder::is_ignored;
use crate::mapping::is_mapping;

/// What is to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresignRequest {
    /// Where to.
    pub key: ObjectKey,
    /// The exact length, if the client has named it; the upload must have it then.
    pub bytes: Option<u64>,
    /// The `Content-Type`, likewise.
    pub content_type: Option<String>,
}

/// Permission to put one object, for a while.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedUpload {
    /// Where to put it. A secret.
    pub url: String,
    /// Headers that the request must have, as they are.
    pub headers: Vec<(String, String)>,
    /// When the permission ends, in milliseconds since the Unix epoch.
    pub expires_ms: i64,
}

impl Debug for PresignedUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresignedUpload").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

/// Signs uploads. Implemented where the SDK of the cloud may be linked; readers of this crate do not link it.
#[async_trait]
pub trait Presign: Send + Sync + Debug {
    /// Signs one upload. No request to the store is made; credentials may have to be renewed.
    async fn presign(&self, request: &PresignRequest) -> Result<PresignedUpload, DropError>;
}

/// Where a file of this name goes. A name is no path: it cannot leave the data source's folder.
///
/// # Errors
/// The name cannot be one of a file that would be processed, or used as a mapping.
pub fn upload_path(source: &DataSourceId, file_name: &str) -> Result<ObjectKey, ValidationError> {
    let wrong = |what: &str| Err(ValidationError::one(format!("fileName {what}")));
    if file_name.contains(['/', '\\']) {
        return wrong("must be a name without slashes");
    }
    let Some(path) = DropPath::parse(file_name) else {
        return wrong(&format!(
            "must have 1 to {} bytes, no control characters, and not be '.' or '..'",
            limits::DROP_NAME_BYTES
        ));
    };
    match is_ignored(&path) {
        Some(why) if !is_mapping(&path) => wrong(&format!("would be ignored: {why}")),
        _ => Ok(ObjectKey::Dropped { source: source.clone(), path }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_folder() {
        let source = DataSourceId { name: "a/b".into(), version: "..".into() };
        let key = |name: &str| upload_path(&source, name).map(|key| key.render());
        assert_eq!(key("x y+%2e.csv").unwrap(), "drop/a%2Fb/%2E%2E/x y+%2e.csv");
        assert_eq!(key("x.csv.mapping.json").unwrap(), "drop/a%2Fb/%2E%2E/x.csv.mapping.json");
        for name in ["", ".", "..", "../x", "a/b", "a\\b", "/x", "x\n", ".hidden", "x.part", &"x".repeat(300)] {
            assert!(key(name).is_err(), "{name}");
        }
    }
}
