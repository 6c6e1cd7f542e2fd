//! A builder's directory for spills, files under construction and local copies; and what killed builders have left of theirs.
//!
//! The directory goes with its builder. A builder that is killed, as a function is at its time limit, leaves it behind, and
//! the next one in the same place, as a function's next process has the same `/tmp`, would run out of disk. So beside each
//! directory lies a file that its builder has locked; the operating system unlocks it when the process ends, however it
//! does. A new builder removes every directory whose lock is free.
//!
//! Where files cannot be locked nothing is removed, and everything else works.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::path::Path;

use tempfile::{NamedTempFile, TempDir};

use crate::error::CompactError;

const PREFIX: &str = "tarn-build-";
const LOCK_SUFFIX: &str = ".lock";

/// The directory of a living builder.
pub(crate) struct Scratch {
    /// Removed first: who finds the lock free finds no directory in use.
    directory: TempDir,
    _lock: NamedTempFile,
}

impl Scratch {
    /// A new directory below `parent`, which is made if it is not there.
    pub(crate) fn new(parent: &Path) -> Result<Self, CompactError> {
        std::fs::create_dir_all(parent).map_err(|e| CompactError::local("create", parent, e))?;
        remove_leftovers(parent);
        let failed = |e| CompactError::local("create a directory in", parent, e);
        loop {
            let lock =
                tempfile::Builder::new().prefix(PREFIX).suffix(LOCK_SUFFIX).tempfile_in(parent).map_err(failed)?;
            if matches!(lock.as_file().try_lock(), Err(TryLockError::WouldBlock)) {
                // Somebody has taken it for a leftover between the two lines; it is lost to them.
                continue;
            }
            let name = lock.path().file_name().and_then(OsStr::to_str).and_then(|name| name.strip_suffix(LOCK_SUFFIX));
            let name = name.ok_or_else(|| failed(std::io::Error::other("a name that was not asked for")))?;
            let directory = tempfile::Builder::new().prefix(name).rand_bytes(0).tempdir_in(parent).map_err(failed)?;
            return Ok(Self { directory, _lock: lock });
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes the directories of builders that have ended. What cannot be removed takes up space and does no other harm.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let directory = name.to_str().filter(|name| name.starts_with(PREFIX)).and_then(|n| n.strip_suffix(LOCK_SUFFIX));
        let Some(directory) = directory.map(|directory| parent.join(directory)) else { continue };
        let Ok(lock) = File::open(entry.path()) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let removed = match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => std::fs::remove_file(entry.path()),
        };
        match removed {
            Ok(()) => {
                tracing::info!(directory = %directory.display(), "removed what a builder that was killed has left")
            }
            Err(error) => {
                tracing::warn!(directory = %directory.display(), %error, "cannot remove a temporary directory")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(parent: &Path) -> BTreeSet<String> {
        let entries = std::fs::read_dir(parent).expect("listed");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
    }

    #[test]
    fn what_a_killed_builder_left_goes_and_what_others_use_stays() {
        let parent = tempfile::tempdir().expect("a directory");
        let living = Scratch::new(parent.path()).expect("created");
        std::fs::write(living.path().join("in use"), "rows").expect("written");
        let before = names(parent.path());
        // Nobody holds the lock of this one.
        let left = parent.path().join("tarn-build-killed");
        std::fs::create_dir(&left).expect("created");
        std::fs::write(left.join("spill"), "rows").expect("written");
        std::fs::write(parent.path().join("tarn-build-killed.lock"), "").expect("written");
        std::fs::write(parent.path().join("somebody's.lock"), "").expect("written");

        let next = Scratch::new(parent.path()).expect("created");
        assert!(!left.exists() && living.path().join("in use").exists() && next.path().exists());
        drop(next);
        let mut expected = before;
        expected.insert("somebody's.lock".to_owned());
        assert_eq!(names(parent.path()), expected);
        drop(living);
        assert_eq!(names(parent.path()), BTreeSet::from(["somebody's.lock".to_owned()]));
    }
}
