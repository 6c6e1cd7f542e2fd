//! Every limit on what a request or a definition may ask for, in one place.
//!
//! They are checked before anything of the named size is allocated or written.

/// Longest name or version of a data source or an index, in bytes of UTF-8.
pub const NAME_BYTES: usize = 128;
/// Longest name or version once percent-encoded, in bytes: it is a directory's name on disk stores.
pub const NAME_ENCODED_BYTES: usize = 240;
/// Longest attribute key, in bytes of UTF-8.
pub const ATTRIBUTE_KEY_BYTES: usize = 128;
/// Longest string attribute value, in bytes of UTF-8.
pub const STRING_VALUE_BYTES: usize = 64 * 1024;
/// Longest encoded point key, in bytes; it bounds the permanent attributes of a point together.
pub const POINT_KEY_BYTES: usize = 4 * 1024;
/// Most attributes that a data source may define.
pub const ATTRIBUTES: usize = 128;
/// Largest dimension of a dense vector.
pub const DENSE_DIMENSION: u32 = 16_384;
/// Largest dimension of a sparse vector; indices are below it.
pub const SPARSE_DIMENSION: u32 = i32::MAX as u32;
/// Most stored coordinates of one sparse vector.
pub const SPARSE_COORDINATES: usize = 65_536;
/// Largest magnitude of a dense coordinate: squares of differences summed over [`DENSE_DIMENSION`] stay finite in f32.
pub const DENSE_COORDINATE: f32 = 1.0e16;
/// Largest magnitude of a sparse coordinate.
pub const SPARSE_COORDINATE: f64 = 1.0e100;
/// Most points in one upload.
pub const BATCH_POINTS: usize = 100_000;
/// Largest request body, in bytes, after decompression.
pub const BODY_BYTES: usize = 256 * 1024 * 1024;
/// Most bytes that the columns of one upload, and so of the delta that holds it alone, take in memory: as many as the
/// coordinates of the largest JSON body. A tombstone counts like a point: a column of dense vectors has a place for it too.
/// Compression, dictionaries and tombstones make small bodies of large columns.
pub const BATCH_BYTES: usize = 2 * BODY_BYTES;
/// Largest `k` of a search.
pub const K: u32 = 10_000;
/// Most query vectors in one search.
pub const QUERY_VECTORS: usize = 1_000;
/// Most points that one search finds for all of its query vectors together: `k`, or what groups may have, for each.
pub const RESULTS: u64 = 1_000_000;
/// Most nodes of a filter tree.
pub const FILTER_NODES: usize = 1_000;
/// Deepest nesting of a filter tree.
pub const FILTER_DEPTH: usize = 32;
/// Most values in one `in` or `notIn`.
pub const FILTER_VALUES: usize = 10_000;
/// Most shards of an index.
pub const SHARDS: usize = 1_024;
/// Most values or residues that the conditions of an index, or one sharder of a data source, may list.
pub const SHARD_VALUES: usize = 65_536;
/// Largest modulus of sharding by hash, as in Vektonn.
pub const HASH_SHARDS: u32 = 65_535;
/// Most indices that uploads to one data source may create.
pub const AUTO_INDICES: usize = 16;
/// Versions of a data source beyond which an upload creates no more. Those count that are deleted and not yet collected.
pub const AUTO_VERSIONS: usize = 100;
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES: usize = 256;
/// Largest `Hnsw_M`.
pub const HNSW_M: u32 = 128;
/// Largest `Hnsw_EfConstruction` and `Hnsw_EfSearch`.
pub const HNSW_EF: u32 = 10_000;
/// Largest hint beside the manifests of an index, in bytes. A larger one is neither written nor read.
pub const HINT_BYTES: usize = 512 * 1024;
/// Most bytes of the catalogs in a hint, together. A hint has all of an index's catalogs, or none.
pub const HINT_CATALOG_BYTES: u64 = 128 * 1024;
/// Lanes of a timeline. One, so that an upload is one atomic object; the formats carry a list.
pub const LANES: u16 = 1;
/// Largest sequence of a lane: a row's version packs sequence and row into 64 bits.
pub const SEQUENCE: u64 = (1 << 40) - 1;
/// Longest `Request-Timeout`, in milliseconds, and the default.
pub const REQUEST_TIMEOUT_MS: u64 = 60_000;
/// Longest path of a dropped file below its data source's folder, in bytes.
pub const DROP_PATH_BYTES: usize = 480;
/// Longest part of the path of a dropped file, in bytes: it is a name in a directory on disk stores.
pub const DROP_NAME_BYTES: usize = 240;
/// Longest line or record of a dropped file of text, in bytes: the largest point fits several times over.
pub const DROP_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Most bytes that one byte of a compressed dropped file may grow to, once [`DROP_UNCOMPRESSED_FLOOR`] is exceeded.
pub const DROP_COMPRESSION_RATIO: u64 = 200;
/// A compressed dropped file may grow to this many bytes whatever its ratio.
pub const DROP_UNCOMPRESSED_FLOOR: u64 = 64 * 1024 * 1024;
/// Most chunks of one dropped file.
pub const DROP_CHUNKS: u32 = 100_000;
/// Most columns of a file of text: a coordinate each, and more than enough that feed nothing.
pub const ROW_COLUMNS: usize = 100_000;
/// Largest mapping beside a dropped file, in bytes.
pub const DROP_MAPPING_BYTES: u64 = 1024 * 1024;
/// Largest file that a presigned URL takes in one request, in bytes; S3's own limit.
pub const PRESIGNED_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// How long a presigned URL is valid, in seconds.
pub const PRESIGNED_SECONDS: u64 = 900;

#[cfg(test)]
mod tests {
    /// Constants of the table, several to a row, against what it says they are.
    macro_rules! documented {
        ($page:expr, $([$($name:ident),+]),+ $(,)?) => {
            $({
                let names = [$(concat!("`", stringify!($name), "`")),+].join(", ");
                let values = [$(super::$name.to_string()),+].join(", ");
                assert!($page.contains(&format!("| {names} | {values} |")), "docs/security.md: {names} must be {values}");
            })+
        };
    }

    #[test]
    fn the_page_on_security_says_what_the_limits_are() {
        let page = include_str!("../../../docs/security.md");
        documented!(
            page,
            [BODY_BYTES],
            [BATCH_BYTES],
            [BATCH_POINTS],
            [DENSE_DIMENSION],
            [SPARSE_COORDINATES],
            [STRING_VALUE_BYTES],
            [K],
            [QUERY_VECTORS],
            [FILTER_NODES, FILTER_DEPTH],
            [AUTO_INDICES, AUTO_VERSIONS],
            [REQUEST_TIMEOUT_MS],
            [DROP_LINE_BYTES],
            [DROP_COMPRESSION_RATIO, DROP_UNCOMPRESSED_FLOOR],
            [DROP_CHUNKS],
            [DROP_MAPPING_BYTES],
            [PRESIGNED_BYTES],
            [PRESIGNED_SECONDS],
        );
    }
}
