//! A store with indices of a data set, built as `tarn build` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::Data;
use tarn_compact::{Builder, BuilderSettings, Silent};
use tarn_model::{
    AttributeType, AttributeValue, Attributes, DataPoint, DataSource, DataSourceId, HnswParams, Index, IndexAlgorithm,
    IndexId, Shard, ShardCondition, Update, Vector, VectorKind,
};
use tarn_store::{Store, create_index, create_source, latest_manifest};
use tarn_timeline::{AppendOptions, PointBatch, Timeline};

use crate::Result;

/// Points of one delta.
const BATCH: usize = 20_000;

/// The index of a data set: approximate, one shard.
///
/// # Errors
/// None.
pub fn index(data: &Data) -> Result<Index> {
    index_of(data, "bench", 1)
}

/// An index of so many shards, by hash.
///
/// # Errors
/// A name that is none.
pub fn index_of(data: &Data, name: &str, shards: u32) -> Result<Index> {
    let shard = |residue: u32| {
        let condition = ShardCondition::Hash { number_of_shards: shards, residues: BTreeSet::from([residue]) };
        (residue.to_string(), Shard { conditions: BTreeMap::from([("id".to_owned(), condition)]) })
    };
    let hnsw = Some(HnswParams { m: 16, ef_construction: 128, ef_search: 64 });
    Ok(Index {
        id: IndexId::new(name, "1")?,
        data_source: DataSourceId::new("bench", "1")?,
        algorithm: IndexAlgorithm { metric: data.metric, hnsw },
        id_attributes: BTreeSet::from(["id".to_owned()]),
        split_attributes: BTreeSet::new(),
        shards: if shards == 1 { Index::single_shard() } else { (0..shards).map(shard).collect() },
    })
}

/// Uploads the rows and builds the indices, unless they have been built.
///
/// # Errors
/// The store's, the builder's.
pub async fn fill(store: &Store, data: &Data, indices: &[Index], temporary: &Path) -> Result<()> {
    let Some(index) = indices.first() else { return Ok(()) };
    if latest_manifest(store, &index.id, None).await?.is_some() {
        return Ok(());
    }
    let source = Arc::new(DataSource {
        id: index.data_source.clone(),
        vector_dimension: u32::try_from(data.base.columns)?,
        vector_kind: VectorKind::Dense,
        attribute_types: BTreeMap::from([
            ("id".to_owned(), AttributeType::Int64),
            ("u".to_owned(), AttributeType::Int64),
        ]),
        permanent_attributes: BTreeSet::from(["id".to_owned()]),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    });
    create_source(store, &source).await?;
    for index in indices {
        create_index(store, index).await?;
    }
    let began = Instant::now();
    let u = data.integers("u")?;
    let timeline = Timeline::open(store.clone(), Arc::clone(&source));
    for first in (0..data.base.rows()).step_by(BATCH) {
        let rows = first..data.base.rows().min(first + BATCH);
        let updates = rows.map(|row| {
            let attributes = Attributes::from([
                ("id".to_owned(), AttributeValue::Int64(row as i64)),
                ("u".to_owned(), AttributeValue::Int64(u.get(row).copied().map_or(0, i64::from))),
            ]);
            Update::Upsert(DataPoint { attributes, vector: Vector::Dense(data.base.row(row).to_vec()) })
        });
        let batch = PointBatch::from_updates(Arc::clone(&source), &updates.collect::<Vec<_>>())?;
        timeline.append(batch, AppendOptions::default()).await?;
    }
    let mut settings = BuilderSettings::default();
    settings.temp_dir = Some(temporary.join("builder"));
    Builder::new(store.clone(), settings, Arc::new(Silent))?.run().await?;
    println!("filled in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
