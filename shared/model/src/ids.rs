//! Names of data sources and indices.
//!
//! Owns `names-stay-in-their-prefix`: a name or version is 1 to [`limits::NAME_BYTES`] bytes of text without control
//! characters, and is percent-encoded wherever it becomes part of an object key (see `layout`). Versions are text:
//! `1.10` and `1.1` are different versions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ValidationError;
use crate::{layout, limits};

/// Identifies a data source: a named, versioned timeline of updates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataSourceId {
    /// The name, 1 to [`limits::NAME_BYTES`] bytes.
    pub name: String,
    /// The version, text, 1 to [`limits::NAME_BYTES`] bytes.
    pub version: String,
}

/// Identifies an index: a named, versioned definition over one data source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexId {
    /// The name, 1 to [`limits::NAME_BYTES`] bytes.
    pub name: String,
    /// The version, text, 1 to [`limits::NAME_BYTES`] bytes.
    pub version: String,
}

macro_rules! id {
    ($type:ident, $what:literal) => {
        impl $type {
            /// Checks name and version.
            ///
            /// # Errors
            /// [`ValidationError`] when either is empty, too long, or holds a control character.
            pub fn new(name: impl Into<String>, version: impl Into<String>) -> Result<Self, ValidationError> {
                let id = Self { name: name.into(), version: version.into() };
                id.validate()?;
                Ok(id)
            }

            /// The check behind [`Self::new`], for ids that were deserialised.
            ///
            /// # Errors
            /// See [`Self::new`].
            pub fn validate(&self) -> Result<(), ValidationError> {
                check_part($what, "name", &self.name)?;
                check_part($what, "version", &self.version)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), " {{ Name = {}, Version = {} }}"), self.name, self.version)
            }
        }
    };
}

id!(DataSourceId, "Data source");
id!(IndexId, "Index");

fn check_part(what: &str, part: &str, text: &str) -> Result<(), ValidationError> {
    if text.is_empty() {
        return Err(ValidationError::one(format!("{what} {part} must not be empty")));
    }
    if text.len() > limits::NAME_BYTES {
        return Err(ValidationError::one(format!(
            "{what} {part} is {} bytes long; at most {} are allowed",
            text.len(),
            limits::NAME_BYTES
        )));
    }
    if layout::encoded_part_len(text) > limits::NAME_ENCODED_BYTES {
        return Err(ValidationError::one(format!(
            "{what} {part} is too long once its special characters are escaped; use fewer of them"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(ValidationError::one(format!("{what} {part} must not hold control characters")));
    }
    Ok(())
}
