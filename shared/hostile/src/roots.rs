//! Everything that is stored as JSON: definitions, checkpoints, manifests, boundaries. An input goes to every parser: each
//! refuses the others' documents. What is accepted must come out of its own bytes unchanged.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tarn_model::{
    Boundary, Checkpoint, CheckpointFile, Corrupt, DataSource, FORMAT, Index, Manifest, Metric, ObjectRef, ReadToken,
    ShardEntry, VectorKind,
};

use crate::seeds;

/// All roots are of this number.
const NUMBER: u64 = 7;

pub(crate) fn run(data: &[u8]) {
    let source = seeds::source(VectorKind::Dense);
    let index = seeds::index(&source);
    if let Some(manifest) = accepted(data, |bytes| Manifest::parse("hostile", bytes, &index.id, NUMBER)) {
        let _ = (manifest.check_successor(None), manifest.check_successor(Some(&manifest)), manifest.key().render());
    }
    if let Some(checkpoint) = accepted(data, |bytes| Checkpoint::parse("hostile", bytes, &source.id, NUMBER)) {
        let _ = (checkpoint.check_successor(None), checkpoint.check_successor(Some(&checkpoint)));
    }
    if let Some(boundary) = accepted(data, |bytes| Boundary::parse("hostile", bytes, NUMBER)) {
        let _ = (boundary.check_successor("next", None), boundary.check_successor("next", Some(&boundary)));
    }
    if let Some(found) = accepted(data, definition::<DataSource>) {
        let _ = found.validate();
        let _ = index.validate(&found);
    }
    if let Some(found) = accepted(data, definition::<Index>) {
        let _ = found.validate(&source);
    }
}

/// What a parser takes. It writes the same again.
fn accepted<T: Debug + PartialEq + Serialize>(data: &[u8], parse: impl Fn(&[u8]) -> Result<T, Corrupt>) -> Option<T> {
    let found = parse(data).inspect_err(|corrupt| assert_eq!(corrupt.object, "hostile")).ok()?;
    let again = serde_json::to_vec(&found).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(parse(&again).unwrap_or_else(|error| panic!("{error}")), found);
    Some(found)
}

fn definition<T: DeserializeOwned>(data: &[u8]) -> Result<T, Corrupt> {
    serde_json::from_slice(data).map_err(|error| Corrupt {
        object: "hostile".to_owned(),
        part: "definition".to_owned(),
        expected: "a definition".to_owned(),
        found: error.to_string(),
    })
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let source = seeds::source(VectorKind::Dense);
    let index = seeds::index(&source);
    let object = |id: u128| ObjectRef { id: id.into(), bytes: 4096, crc32c: 0xdead_beef };
    let shard = |shard: &str, rows: u64| ShardEntry {
        shard: shard.to_owned(),
        rows,
        splits: rows.min(2),
        segments: rows.min(1),
        segment_bytes: rows * 100,
        catalog: (rows > 0).then(|| object(3)),
    };
    let manifest = Manifest {
        format: FORMAT,
        index: index.id.clone(),
        generation: NUMBER,
        commit_id: 9.into(),
        watermark: ReadToken::single(12),
        created_ms: 1,
        rows: 25,
        shards: vec![shard("0", 20), shard("1", 0), shard("2", 5)],
    };
    let checkpoint = Checkpoint {
        format: FORMAT,
        source: source.id.clone(),
        generation: NUMBER,
        commit_id: 9.into(),
        watermark: ReadToken::single(12),
        created_ms: 1,
        rows: 12,
        files: vec![
            CheckpointFile { data: object(1), rows: 10, deleted: Some(object(2)), deleted_rows: 3 },
            CheckpointFile { data: object(4), rows: 5, deleted: None, deleted_rows: 0 },
        ],
    };
    let boundary =
        Boundary { format: FORMAT, number: NUMBER, commit_id: 9.into(), timeline: ReadToken::single(5), generation: 3 };
    let mut sharded = index.clone();
    sharded.algorithm.metric = Metric::Cosine;
    sharded.algorithm.hnsw = Some(tarn_model::HnswParams { m: 16, ef_construction: 100, ef_search: 16 });
    sharded.shards = serde_json::from_str(SHARDS).unwrap_or_else(|error| panic!("{error}"));
    vec![
        ("manifest".to_owned(), json(&manifest)),
        ("checkpoint".to_owned(), json(&checkpoint)),
        ("boundary".to_owned(), json(&boundary)),
        ("source".to_owned(), json(&*source)),
        ("source-sparse".to_owned(), json(&*seeds::source(VectorKind::Sparse))),
        ("index".to_owned(), json(&index)),
        ("index-sharded".to_owned(), json(&sharded)),
    ]
}

/// One shard by the hash of an attribute, others by its values.
const SHARDS: &str = r#"{
    "a": {"conditions": {"id": {"hash": {"numberOfShards": 3, "residues": [0, 2]}}}},
    "b": {"conditions": {"text": {"values": [{"string": "x"}]}}},
    "c": {"conditions": {"text": {"complement": [{"string": "x"}, {"string": ""}]}}}
}"#;

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| panic!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_valid() {
        let source = seeds::source(VectorKind::Dense);
        let index = seeds::index(&source).id;
        for (name, seed) in seeds() {
            let valid = match name.as_str() {
                "manifest" => Manifest::parse(&name, &seed, &index, NUMBER).is_ok(),
                "checkpoint" => Checkpoint::parse(&name, &seed, &source.id, NUMBER).is_ok(),
                "boundary" => Boundary::parse(&name, &seed, NUMBER).is_ok(),
                "source" | "source-sparse" => {
                    definition::<DataSource>(&seed).is_ok_and(|found| found.validate().is_ok())
                }
                _ => definition::<Index>(&seed).is_ok(),
            };
            assert!(valid, "{name}");
        }
    }
}
