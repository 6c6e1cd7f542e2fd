//! Watching the drop folder by listing it, where no events come.
//!
//! A file is processed when two looks in a row have seen it the same: one that is still being copied grows. What is done is
//! remembered, so that a look costs one listing.

use std::collections::HashMap;

use tarn_model::{KeyPrefix, ObjectKey};

use crate::error::DropError;
use crate::folder::{DropFolder, Outcome, is_ignored};

/// A file as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    bytes: u64,
    modified_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Seen once.
    New(Look),
    /// Nothing is left to do.
    Done(Look),
}

/// Watches the drop folder of a store.
#[derive(Debug)]
pub struct Watcher {
    folder: DropFolder,
    files: HashMap<String, State>,
}

/// What a look did with a file.
#[derive(Debug)]
pub struct Seen {
    /// The file's key.
    pub key: String,
    /// How it went. What failed is tried again at the next look.
    pub outcome: Result<Outcome, DropError>,
}

impl Watcher {
    /// Knows nothing yet.
    pub fn new(folder: DropFolder) -> Self {
        Self { folder, files: HashMap::new() }
    }

    /// Looks once, and processes what is complete, oldest first.
    ///
    /// # Errors
    /// The folder cannot be listed. What goes wrong with one file is told in [`Seen`].
    pub async fn look(&mut self) -> Result<Vec<Seen>, DropError> {
        let mut listed = self.folder.store().list(&KeyPrefix::Drops).await?;
        listed.sort_by(|a, b| (a.modified_ms, &a.path).cmp(&(b.modified_ms, &b.path)));
        let mut before = std::mem::take(&mut self.files);
        let mut complete = Vec::new();
        for object in listed {
            let look = Look { bytes: object.bytes, modified_ms: object.modified_ms };
            let state = match before.remove(&object.path) {
                Some(State::Done(seen)) if seen == look => State::Done(look),
                Some(State::New(seen)) if seen == look => {
                    complete.push((object.path.clone(), look));
                    State::New(look)
                }
                _ if is_nothing(object.key.as_ref()) => State::Done(look),
                _ => State::New(look),
            };
            self.files.insert(object.path, state);
        }
        let mut seen = Vec::with_capacity(complete.len());
        for (key, look) in complete {
            let outcome = self.folder.process(&key, None, None).await;
            if outcome.is_ok() {
                self.files.insert(key.clone(), State::Done(look));
            }
            seen.push(Seen { key, outcome });
        }
        Ok(seen)
    }
}

fn is_nothing(key: Option<&ObjectKey>) -> bool {
    matches!(key, Some(ObjectKey::Dropped { path, .. }) if is_ignored(path).is_some())
}
