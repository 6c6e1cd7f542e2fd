//! A process's own part of the cache directory, and the names of the files in it.
//!
//! `{directory}/{n}/` with `{n}.lock` beside it, which the process holds locked; `{id}-{bytes}-{crc32c}` inside, and
//! `{the same}.part` while it is being downloaded.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tarn_model::ObjectRef;

use super::LocalFile;
use crate::error::StoreError;

/// Processes that may share a cache directory.
const SLOTS: u32 = 256;
const PART: &str = ".part";

/// A locked sub-directory.
#[derive(Debug)]
pub(super) struct Slot {
    directory: PathBuf,
    /// Held for the lock.
    _lock: File,
}

impl Slot {
    /// Takes the first slot that no living process has. Also the files found in it, least recently used first.
    pub(super) fn acquire(directory: &Path) -> Result<(Self, Vec<(ObjectRef, PathBuf)>), StoreError> {
        let unusable = |error: std::io::Error| {
            StoreError::config(format!("cannot use '{}' for the cache: {error}", directory.display()))
        };
        fs::create_dir_all(directory).map_err(unusable)?;
        for number in 0..SLOTS {
            let lock = directory.join(format!("{number}.lock"));
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock).map_err(unusable)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
            let directory = directory.join(number.to_string());
            fs::create_dir_all(&directory).map_err(unusable)?;
            let found = take_stock(&directory).map_err(unusable)?;
            return Ok((Self { directory, _lock: lock }, found));
        }
        Err(StoreError::config(format!(
            "all {SLOTS} slots of the cache '{}' are in use; give this process a directory of its own",
            directory.display()
        )))
    }

    /// Where to download an object to. The file is removed with the handle unless it is completed.
    pub(super) fn part(&self, object: &ObjectRef) -> Part {
        Part(self.directory.join(name(object) + PART))
    }
}

/// A file that is being downloaded.
#[derive(Debug)]
pub(super) struct Part(PathBuf);

impl Part {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives the file its final name.
    pub(super) fn complete(self, object: &ObjectRef) -> Result<PathBuf, StoreError> {
        let path = self.0.with_file_name(name(object));
        // Not synced: what a crash of the machine leaves is verified before it is used.
        fs::rename(&self.0, &path).map_err(|error| StoreError::local("rename", &self.0, error))?;
        Ok(path)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn name(object: &ObjectRef) -> String {
    format!("{}-{}-{:08x}", object.id, object.bytes, object.crc32c)
}

fn parse(name: &str) -> Option<ObjectRef> {
    let mut parts = name.split('-');
    let (id, bytes, crc32c) = (parts.next()?, parts.next()?, parts.next()?);
    let object =
        ObjectRef { id: id.parse().ok()?, bytes: bytes.parse().ok()?, crc32c: u32::from_str_radix(crc32c, 16).ok()? };
    (self::name(&object) == name).then_some(object)
}

fn take_stock(directory: &Path) -> std::io::Result<Vec<(ObjectRef, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        match parse(name) {
            Some(object) if metadata.len() == object.bytes => found.push((metadata.modified()?, object, path)),
            Some(_) => remove(&path),
            None if name.ends_with(PART) => remove(&path),
            // Somebody else's file; it does not count.
            None => {}
        }
    }
    found.sort_by_key(|(modified, ..)| *modified);
    Ok(found.into_iter().map(|(_, object, path)| (object, path)).collect())
}

pub(super) fn remove_files(files: impl IntoIterator<Item = LocalFile>) {
    for file in files {
        remove(file.path());
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "cannot remove a file from the cache");
        }
        _ => {}
    }
}

/// Notes the time of use in the file's modification time, for the next process to order by.
pub(super) fn touch(path: &Path, now_ms: i64) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
    if let Err(error) = File::open(path).and_then(|file| file.set_modified(now)) {
        tracing::debug!(file = %path.display(), %error, "cannot note the use of a cached file");
    }
}
