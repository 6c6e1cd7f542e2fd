//! Listing a directory as a store.
//!
//! What is not ours is passed over: names that are no keys, and everything but files. Below `drop/`, where people put what they
//! like, so is what cannot be read: it must not hide the rest of the store. Anywhere else that is an error.
//!
//! Follows symbolic links, but not in circles.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::Path as FilePath;
use std::time::SystemTime;

use object_store::path::Path;
use object_store::{ObjectMeta, Result};

use super::generic;

/// The folder that is not ours alone.
const FOREIGN: &str = "drop/";
/// Longest key that is looked for: object stores know none that is longer.
const KEY_BYTES: usize = 1_024;

/// Everything below a prefix, in no order.
pub(super) fn walk(root: &FilePath, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
    let mut directory = root.to_path_buf();
    let mut key = String::new();
    if let Some(prefix) = prefix {
        directory.extend(prefix.parts().map(|part| part.as_ref().to_owned()));
        prefix.as_ref().clone_into(&mut key);
    }
    let mut walk = Walk { found: Vec::new(), above: Vec::new() };
    walk.directory(&directory, &key).map_err(generic)?;
    Ok(walk.found)
}

struct Walk {
    found: Vec<ObjectMeta>,
    /// The directories that lead here.
    above: Vec<(u64, u64)>,
}

impl Walk {
    fn directory(&mut self, directory: &FilePath, key: &str) -> io::Result<()> {
        let Some(metadata) = readable(key, fs::metadata(directory))? else { return Ok(()) };
        let identity = identity(&metadata);
        if !metadata.is_dir() || self.above.contains(&identity) {
            return Ok(());
        }
        let Some(entries) = readable(key, fs::read_dir(directory))? else { return Ok(()) };
        self.above.push(identity);
        for entry in entries {
            let Some(entry) = readable(key, entry)? else { continue };
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let key = if key.is_empty() { name.to_owned() } else { format!("{key}/{name}") };
            self.entry(&entry.path(), key)?;
        }
        self.above.pop();
        Ok(())
    }

    fn entry(&mut self, file: &FilePath, key: String) -> io::Result<()> {
        let Ok(location) = Path::parse(&key) else { return Ok(()) };
        if key.len() > KEY_BYTES || location.as_ref() != key {
            return Ok(());
        }
        let Some(metadata) = readable(&key, fs::metadata(file))? else { return Ok(()) };
        if metadata.is_dir() {
            return self.directory(file, &key);
        }
        if metadata.is_file() && !is_reserved(&location) {
            let Some(modified) = readable(&key, metadata.modified())? else { return Ok(()) };
            let (last_modified, size) = (modified.into(), metadata.len());
            let e_tag = Some(e_tag(&metadata, modified));
            self.found.push(ObjectMeta { location, last_modified, size, e_tag, version: None });
        }
        Ok(())
    }
}

/// A name that `LocalFileSystem` keeps for itself, and does not read: it ends in `#` and digits.
fn is_reserved(location: &Path) -> bool {
    let suffix = location.filename().and_then(|name| name.split_once('#')).map_or("", |(_, suffix)| suffix);
    !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit())
}

/// What was read; `None` when it is gone, or cannot be read and need not be.
fn readable<T>(key: &str, read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if key.starts_with(FOREIGN) => {
            tracing::warn!(key, %error, "cannot be read, and is passed over");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The ETag by which `LocalFileSystem` knows a file, so that an object has one whoever is asked.
pub(super) fn e_tag(metadata: &Metadata, modified: SystemTime) -> String {
    let micros = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("{:x}-{micros:x}-{:x}", inode(metadata), metadata.len())
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// Every directory is another one: a circle ends where keys become too long.
#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    (0, NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(root: &FilePath, prefix: Option<&str>) -> Result<Vec<String>> {
        let prefix = prefix.map(|prefix| Path::parse(prefix).unwrap());
        let mut keys: Vec<String> =
            walk(root, prefix.as_ref())?.into_iter().map(|meta| meta.location.to_string()).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_object_is_passed_over() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("drop/a/1/empty")).unwrap();
        fs::create_dir_all(root.join("sources/a%2F/1")).unwrap();
        fs::write(root.join("sources/a%2F/1/source.json"), "{}").unwrap();
        for name in [&b"x y.csv"[..], b"latin-\xe9.csv", b"new\nline.csv", b"x#1"] {
            fs::write(root.join("drop/a/1").join(OsStr::from_bytes(name)), "x").unwrap();
        }
        symlink("..", root.join("drop/a/1/circle")).unwrap();
        symlink("self", root.join("drop/a/1/self")).unwrap();
        symlink("nowhere", root.join("drop/a/1/broken")).unwrap();
        symlink(root.join("sources/a%2F"), root.join("drop/linked")).unwrap();
        let all = ["drop/a/1/x y.csv", "drop/linked/1/source.json", "sources/a%2F/1/source.json"];
        assert_eq!(keys(root, None).unwrap(), all);
        assert_eq!(keys(root, Some("drop/a")).unwrap(), all[..1]);
        assert_eq!(keys(root, Some("drop/b")).unwrap(), Vec::<String>::new());
        assert_eq!(keys(root, Some("drop/a/1/x y.csv")).unwrap(), Vec::<String>::new());
        symlink("self", root.join("sources/self")).unwrap();
        assert!(keys(root, None).is_err(), "what is ours is not passed over");
        assert_eq!(keys(root, Some("drop/a")).unwrap(), all[..1]);
    }
}
