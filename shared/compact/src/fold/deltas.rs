//! The deltas of a fold: read and validated once for their keys, then once more for the rows that won.
//!
//! Between the two readings the bytes are local: the object itself on a store in a local directory, else a spooled copy; those
//! beyond `spool_bytes_max` are read from the store again. The second reading checks that they are still the bytes that were
//! validated.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};
use roaring::RoaringBitmap;
use tarn_model::{Corrupt, DataSource, ObjectKey, ReadToken};
use tarn_timeline::{DELETED_COLUMN, checkpoint_schema, decode_delta, pack_version};
use tempfile::TempDir;

use super::Rank;
use super::engine::writes_schema;
use crate::context::{Context, blocking};
use crate::error::CompactError;
use crate::progress::Stage;
use crate::rows::{ranges_of, unreadable};

/// Deltas that are downloaded and decoded at once; bounds memory.
const READ_AHEAD: usize = 2;

/// The deltas of one lane between two watermarks.
pub(crate) struct DeltaSpool {
    context: Arc<Context>,
    source: Arc<DataSource>,
    subject: String,
    directory: TempDir,
    after: u64,
    up_to: u64,
    validated: Mutex<BTreeMap<u64, Validated>>,
    /// Bytes of what was spooled, and of what was not because there was no more room.
    spooled: AtomicU64,
    /// The last delta whose writes were given.
    reached: AtomicU64,
}

struct Validated {
    /// `None`: no copy was kept.
    path: Option<PathBuf>,
    crc32c: u32,
}

impl DeltaSpool {
    /// The deltas after one watermark, up to another.
    pub(crate) fn new(
        context: &Arc<Context>,
        source: &Arc<DataSource>,
        subject: &str,
        after: &ReadToken,
        up_to: &ReadToken,
    ) -> Result<Arc<Self>, CompactError> {
        // A source has one lane (limits::LANES).
        Ok(Arc::new(Self {
            context: Arc::clone(context),
            source: Arc::clone(source),
            subject: subject.to_owned(),
            directory: context.scratch()?,
            after: after.sequence(0),
            up_to: up_to.sequence(0),
            validated: Mutex::default(),
            spooled: AtomicU64::new(0),
            reached: AtomicU64::new(after.sequence(0)),
        }))
    }

    /// How many there are.
    fn deltas(&self) -> u64 {
        self.up_to.saturating_sub(self.after)
    }

    /// The last delta whose writes [`Self::writes`] has given.
    pub(crate) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }

    fn key(&self, sequence: u64) -> ObjectKey {
        ObjectKey::Delta { source: self.source.id.clone(), lane: 0, sequence }
    }

    /// The writes, as keys and ranks, of whole deltas from the first on, until `bytes_max` are spooled; at least of one.
    pub(crate) fn writes(self: &Arc<Self>, bytes_max: u64) -> BoxStream<'static, Result<RecordBatch, CompactError>> {
        let (spool, reader) = (Arc::clone(self), Arc::clone(self));
        futures::stream::iter(self.after + 1..=self.up_to)
            .map(move |sequence| {
                let reader = Arc::clone(&reader);
                async move { reader.read_keys(sequence).await }
            })
            .buffered(READ_AHEAD)
            .scan(0_u64, move |bytes, read| {
                let given = if *bytes >= bytes_max && spool.reached() > spool.after {
                    None
                } else {
                    Some(read.map(|(batch, spooled)| {
                        *bytes = bytes.saturating_add(spooled);
                        spool.reached.fetch_add(1, Ordering::Relaxed);
                        batch
                    }))
                };
                std::future::ready(given)
            })
            .boxed()
    }

    /// The keys and ranks of a delta, and its bytes unless the store has them in a local directory.
    async fn read_keys(self: &Arc<Self>, sequence: u64) -> Result<(RecordBatch, u64), CompactError> {
        let key = self.key(sequence);
        let bytes = self.context.store.get(&key).await?.ok_or_else(|| missing(&key))?;
        let spooled = if self.context.store.local_file(&key).is_some() { 0 } else { bytes.len() as u64 };
        let spool = Arc::clone(self);
        let batch = blocking(move || {
            let key = spool.key(sequence);
            let delta = decode_delta(&key.render(), &spool.source, 0, sequence, &bytes)?;
            let path = match spool.context.store.local_file(&key) {
                Some(path) => Some(path),
                None => spool.keep(sequence, &bytes)?,
            };
            let crc32c = crc32c::crc32c(&bytes);
            spool.validated.lock().insert(sequence, Validated { path, crc32c });
            let ranks = (0..delta.rows()).map(|row| {
                let number = u32::try_from(row).ok()?;
                Some(Rank::new(sequence, number, delta.is_deleted(row))?.0)
            });
            let ranks: Option<Vec<u64>> = ranks.collect();
            let ranks = ranks.ok_or_else(|| CompactError::engine("folding", "the timeline has too many deltas"))?;
            let keys: ArrayRef = Arc::clone(delta.data.column(0));
            RecordBatch::try_new(writes_schema(), vec![keys, Arc::new(UInt64Array::from(ranks))])
                .map_err(|error| CompactError::engine("folding", error))
        })
        .await?;
        let done = self.validated.lock().len() as u64;
        self.context.report(&self.subject, Stage::Fold, done, self.deltas());
        Ok((batch, spooled))
    }

    /// A copy, while there is room.
    fn keep(&self, sequence: u64, bytes: &Bytes) -> Result<Option<PathBuf>, CompactError> {
        let length = bytes.len() as u64;
        let before = self.spooled.fetch_add(length, Ordering::Relaxed);
        if before.saturating_add(length) > self.context.settings.spool_bytes_max {
            return Ok(None);
        }
        let path = self.directory.path().join(format!("{sequence:020}.parquet"));
        std::fs::write(&path, bytes).map_err(|e| CompactError::local("write", &path, e))?;
        Ok(Some(path))
    }

    /// Some rows of a delta that [`Self::writes`] has read, in their order, with the columns of a checkpoint file.
    pub(crate) async fn rows(
        self: &Arc<Self>,
        sequence: u64,
        rows: RoaringBitmap,
    ) -> Result<RecordBatch, CompactError> {
        let (path, crc) = {
            let validated = self.validated.lock();
            let found = validated.get(&sequence);
            let found = found.ok_or_else(|| CompactError::engine("folding", "rows of a delta that was not read"))?;
            (found.path.clone(), found.crc32c)
        };
        let spool = Arc::clone(self);
        let Some(path) = path else {
            let key = self.key(sequence);
            let bytes = self.context.store.get(&key).await?.ok_or_else(|| missing(&key))?;
            return blocking(move || spool.rows_of(sequence, &rows, bytes, crc)).await;
        };
        blocking(move || {
            let bytes = std::fs::read(&path).map_err(|e| CompactError::local("read", &path, e))?;
            spool.rows_of(sequence, &rows, bytes.into(), crc)
        })
        .await
    }

    fn rows_of(
        &self,
        sequence: u64,
        rows: &RoaringBitmap,
        bytes: Bytes,
        crc: u32,
    ) -> Result<RecordBatch, CompactError> {
        let name = self.key(sequence).render();
        let found = crc32c::crc32c(&bytes);
        if found != crc {
            let part = "CRC-32C".to_owned();
            let (expected, found) = (format!("{crc:08x}, as when it was validated"), format!("{found:08x}"));
            return Err(Corrupt { object: name, part, expected, found }.into());
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| unreadable(&name, e))?;
        let total = usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(usize::MAX);
        let batches = reader
            .with_row_selection(RowSelection::from_consecutive_ranges(ranges_of(rows).into_iter(), total))
            .with_batch_size(usize::try_from(rows.len()).unwrap_or(usize::MAX).max(1))
            .build()
            .map_err(|e| unreadable(&name, e))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| unreadable(&name, e))?;
        let schema = checkpoint_schema(&self.source);
        let mut parts = Vec::with_capacity(batches.len());
        let mut versions = rows.iter().map(|row| pack_version(sequence, row));
        for batch in batches {
            let version: UInt64Array = versions.by_ref().take(batch.num_rows()).collect::<Vec<_>>().into();
            let tombstones =
                batch.column_by_name(DELETED_COLUMN).and_then(|c| c.as_any().downcast_ref::<BooleanArray>());
            if tombstones.is_none_or(|column| column.true_count() > 0) {
                return Err(unreadable(&name, "a tombstone where a point was expected").into());
            }
            let mut columns = batch.columns().to_vec();
            // `_deleted` and `_version` have the same place in their schemas.
            columns[1] = Arc::new(version);
            parts.push(RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|e| unreadable(&name, e))?);
        }
        arrow::compute::concat_batches(&schema, &parts).map_err(|e| unreadable(&name, e).into())
    }
}

fn missing(key: &ObjectKey) -> CompactError {
    tarn_store::StoreError::Missing { object: key.render() }.into()
}

/// The rows that won, delta by delta, with the columns of a checkpoint file.
pub(crate) fn winning_rows(
    spool: &Arc<DeltaSpool>,
    winners: super::Winners,
) -> BoxStream<'static, Result<RecordBatch, CompactError>> {
    let spool = Arc::clone(spool);
    futures::stream::iter(winners.by_delta.into_iter().map(Ok::<_, CompactError>))
        .and_then(move |(sequence, rows)| {
            let spool = Arc::clone(&spool);
            async move { spool.rows(sequence, rows).await }
        })
        .boxed()
}
