//! What can be wrong with something a user gave us.

use std::fmt;

/// One or more things wrong with a request or a definition. Nothing was written.
///
/// The messages are the wire texts: layer 1 of the HTTP API returns them to the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationError {
    /// At least one message, in the order in which the checks run.
    pub messages: Vec<String>,
}

impl ValidationError {
    /// An error with a single message.
    pub fn one(message: impl Into<String>) -> Self {
        Self { messages: vec![message.into()] }
    }

    /// Ok when there is no message.
    ///
    /// # Errors
    /// All the messages.
    pub fn from_messages(messages: Vec<String>) -> Result<(), Self> {
        if messages.is_empty() { Ok(()) } else { Err(Self { messages }) }
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("; "))
    }
}

impl std::error::Error for ValidationError {}

/// Stored bytes that do not say what they must. Names the object, the part of it, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object} is corrupt at {part}: expected {expected}, found {found}")]
pub struct Corrupt {
    /// The object's key, or the file's path.
    pub object: String,
    /// The block, field or invariant id at fault.
    pub part: String,
    /// What the format or the manifest says.
    pub expected: String,
    /// What the bytes say.
    pub found: String,
}
