//! Files of every format version that was ever written still decode to what they were written from.
//!
//! Only the newest version is written. `TARN_WRITE_GOLDEN=1` writes the files that do not exist yet; it never replaces one.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tarn_model::{DataSource, Update};
use tarn_timeline::{BatchInfo, decode_delta, encode_delta};

use crate::common::{batch, delete, dense_source, id, sparse_source, upsert};

const SEQUENCE: u64 = 42;

fn kinds() -> [(&'static str, Arc<DataSource>); 2] {
    [("delta-v1-dense.parquet", dense_source()), ("delta-v1-sparse.parquet", sparse_source())]
}

fn content(source: &DataSource) -> Vec<Update> {
    vec![upsert(source, 1, 0.25), delete(7), upsert(source, -2, -3.0), upsert(source, 1, 8.0)]
}

fn batches() -> [BatchInfo; 2] {
    [BatchInfo { id: id(0x0190_0000_0000_0000_0000_0000_0000_0001), rows: 3 }, BatchInfo { id: id(2), rows: 1 }]
}

#[test]
fn old_deltas_still_decode() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, source) in kinds() {
        let expected = batch(&source, &content(&source));
        let file = directory.join(name);
        if std::env::var_os("TARN_WRITE_GOLDEN").is_some() && !file.exists() {
            let bytes = encode_delta(0, SEQUENCE, &batches(), &expected).expect("encodes");
            std::fs::write(&file, bytes).expect("written");
        }
        let bytes = Bytes::from(std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
        let delta = decode_delta(name, &source, 0, SEQUENCE, &bytes).expect("decodes");
        assert_eq!(delta.data, *expected.record_batch(), "{name}");
        assert_eq!(delta.batches, batches(), "{name}");
    }
}
