//! Hints of indices. What is accepted must come out of its own bytes unchanged, and agree with itself.

use tarn_model::{Hint, Manifest, ObjectRef, ReadToken, ShardEntry, VectorKind};

use crate::{catalog, seeds};

pub(crate) fn run(data: &[u8]) {
    let index = seeds::index(&seeds::source(VectorKind::Dense)).id;
    match Hint::parse("hostile", data, &index) {
        Ok(hint) => {
            let _ = (hint.key(), hint.is_of(&hint.manifest.key(), Some("e")), hint.data_source.validate());
            for named in hint.manifest.shards.iter().filter_map(|entry| entry.catalog.as_ref()) {
                if let Some(bytes) = hint.catalog(named) {
                    assert_eq!((bytes.len() as u64, crc32c::crc32c(bytes)), (named.bytes, named.crc32c));
                }
            }
            if let Some(bytes) = hint.encode() {
                assert_eq!(Hint::parse("again", &bytes, &index).unwrap_or_else(|error| panic!("{error}")), hint);
            }
        }
        Err(corrupt) => assert!(corrupt.object == "hostile" && !corrupt.part.is_empty()),
    }
}

pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let data_source = seeds::source(VectorKind::Dense);
    let index = seeds::index(&data_source).id;
    let catalog = catalog::seeds().swap_remove(0).1;
    let named = ObjectRef { id: 3.into(), bytes: catalog.len() as u64, crc32c: crc32c::crc32c(&catalog) };
    let shard = |shard: &str, rows: u64, catalog: Option<ObjectRef>| ShardEntry {
        shard: shard.to_owned(),
        rows,
        splits: rows.min(2),
        segments: rows.min(1),
        segment_bytes: rows * 100,
        catalog,
    };
    let manifest = |rows, entry| Manifest {
        format: tarn_model::FORMAT,
        index: index.clone(),
        generation: 7,
        commit_id: 9.into(),
        watermark: ReadToken::single(12),
        created_ms: 1,
        rows,
        shards: vec![entry],
    };
    let hint = |manifest, catalogs| Hint {
        manifest,
        manifest_e_tag: "\"e\"".to_owned(),
        data_source: (*data_source).clone(),
        catalogs,
    };
    let empty = hint(manifest(0, shard("0", 0, None)), [].into());
    let without = hint(manifest(5, shard("0", 5, Some(named.clone()))), [].into());
    let full = hint(manifest(5, shard("0", 5, Some(named))), [(3.into(), catalog)].into());
    let seeds = [("empty", empty), ("without-catalogs", without), ("full", full)];
    let bytes = |hint: Hint| hint.encode().unwrap_or_else(|| panic!("a hint that is too large"));
    seeds.into_iter().map(|(name, hint)| (name.to_owned(), bytes(hint))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_valid() {
        let index = seeds::index(&seeds::source(VectorKind::Dense)).id;
        for (name, seed) in seeds() {
            let hint = Hint::parse(&name, &seed, &index).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(hint.catalogs.len(), usize::from(name == "full"));
        }
    }
}
