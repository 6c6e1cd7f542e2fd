//! How much of the temporary directory the cache may have.

use std::path::Path;

/// Of a file system this large or larger, the cache's share is half of so much: Lambda gives no function more, and what has more
/// is somebody's whole disk.
const MOST: u64 = 10 << 30;
/// What every function has.
const LEAST: u64 = 512 << 20;

/// Half of the file system that `directory` is in: a file and another that replaces it may both be there for a while.
pub(crate) fn cache_bytes(directory: &Path) -> u64 {
    let size = rustix::fs::statvfs(directory).map(|found| found.f_blocks.saturating_mul(found.f_frsize));
    let size = size.unwrap_or_else(|error| {
        tracing::warn!(%error, directory = %directory.display(), "cannot tell the size of the temporary directory");
        LEAST
    });
    size.min(MOST) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_half_of_what_there_is_within_bounds() {
        let found = cache_bytes(&std::env::temp_dir());
        assert!(found > 0 && found <= MOST / 2, "{found}");
        assert_eq!(cache_bytes(Path::new("/no/such/directory")), LEAST / 2);
    }
}
