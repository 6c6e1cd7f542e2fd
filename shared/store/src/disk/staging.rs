//! Staged files: what a writer has not yet given its name.
//!
//! A file in staging is locked for as long as its writer lives. The lock is the kernel's, so it ends with the process,
//! however that ends; an unlocked file has no writer.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use object_store::PutPayload;
use ulid::Ulid;

/// A file in staging, removed when dropped (its content lives on under its new name if it was linked or renamed).
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Staged {
    pub(super) fn create(staging: &Path) -> io::Result<Self> {
        loop {
            // Unique by its random part; nothing reads the time in it.
            let path = staging.join(Ulid::from_parts(0, rand::random()).to_string());
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    fs::create_dir_all(staging)?;
                    continue;
                }
                opened => opened?,
            };
            match file.try_lock() {
                Ok(()) => {}
                // A sweep came between opening and locking; it removes the file.
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if fs::exists(&path)? {
                return Ok(Self { file, path });
            }
        }
    }

    pub(super) fn write_at(&mut self, offset: u64, data: &PutPayload) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        data.iter().try_for_each(|chunk| self.file.write_all(chunk))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(file = %self.path.display(), %error, "a staged file stays until the store is opened again");
            }
            _ => {}
        }
    }
}

/// Removes the files whose writers are gone, and says how many those were.
pub(super) fn sweep(staging: &Path) -> io::Result<u64> {
    let mut swept = 0;
    for entry in fs::read_dir(staging)? {
        let path = entry?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            // Its writer finished meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => match fs::remove_file(&path) {
                Ok(()) => swept += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(swept)
}
