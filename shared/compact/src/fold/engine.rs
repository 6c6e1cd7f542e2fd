//! Runs `max(rank) group by key` on DataFusion, under a memory limit, spilling to the builder's own directory.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext, col};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tarn_timeline::KEY_COLUMN;

use super::NewestWrites;
use crate::error::CompactError;
use crate::settings::BuilderSettings;

const RANK_COLUMN: &str = "_rank";
const DOING: &str = "folding";
/// Less is not enough for the engine's own buffers.
const LEAST_POOL_BYTES: u64 = 4 << 20;

/// The columns that the fold sees.
pub(crate) fn writes_schema() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, false);
    Arc::new(Schema::new(vec![field(KEY_COLUMN, DataType::Binary), field(RANK_COLUMN, DataType::UInt64)]))
}

/// A query under way: the newest write of each key, batch by batch, in no particular order.
pub(crate) struct Newest {
    batches: BoxStream<'static, Result<NewestWrites, CompactError>>,
    plan: Arc<dyn ExecutionPlan>,
}

impl Newest {
    pub(crate) async fn next(&mut self) -> Option<Result<NewestWrites, CompactError>> {
        self.batches.next().await
    }

    /// Bytes that did not fit into memory so far and went to disk, as the engine counts them.
    pub(crate) fn spilled_bytes(&self) -> u64 {
        spilled_bytes(&self.plan)
    }
}

fn spilled_bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let own = plan.metrics().and_then(|metrics| metrics.spilled_bytes()).unwrap_or(0);
    own as u64 + plan.children().into_iter().map(spilled_bytes).sum::<u64>()
}

/// The newest write of each key among `writes`, batches of [`writes_schema`].
pub(crate) async fn newest_writes(
    settings: &BuilderSettings,
    spill: &Path,
    writes: BoxStream<'static, Result<RecordBatch, CompactError>>,
) -> Result<Newest, CompactError> {
    let failure = Arc::new(Mutex::new(None));
    let table = StreamingTable::try_new(writes_schema(), vec![Arc::new(Once::new(writes, Arc::clone(&failure)))]);
    let failed = {
        let failure = Arc::clone(&failure);
        // An error of ours comes back as it went in, not as the engine's text of it.
        move |error: DataFusionError| failure.lock().take().unwrap_or_else(|| CompactError::engine(DOING, error))
    };
    let session = session(settings, spill).map_err(&failed)?;
    let newest = session
        .read_table(Arc::new(table.map_err(&failed)?))
        .and_then(|all| all.aggregate(vec![col(KEY_COLUMN)], vec![max(col(RANK_COLUMN)).alias(RANK_COLUMN)]))
        .map_err(&failed)?;
    let plan = newest.create_physical_plan().await.map_err(&failed)?;
    let stream = execute_stream(Arc::clone(&plan), Arc::new(newest.task_ctx())).map_err(&failed)?;
    let wrong = || CompactError::engine(DOING, "the engine returned other columns than it was asked for");
    let convert = move |batch: RecordBatch| {
        let keys = batch.column(0).as_binary_opt::<i32>().ok_or_else(wrong)?.clone();
        let ranks = batch.column(1).as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?.clone();
        Ok(NewestWrites { keys, ranks })
    };
    let batches = stream.map_err(failed).and_then(move |batch| std::future::ready(convert(batch))).boxed();
    Ok(Newest { batches, plan })
}

fn session(settings: &BuilderSettings, spill: &Path) -> Result<SessionContext, DataFusionError> {
    let pool = usize::try_from((settings.memory_limit_bytes / 2).max(LEAST_POOL_BYTES)).unwrap_or(usize::MAX);
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill.to_path_buf()]));
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(pool)))
        .with_disk_manager_builder(disk)
        .build_arc()?;
    let config = SessionConfig::new().with_target_partitions(settings.threads).with_batch_size(8192);
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

type Writes = BoxStream<'static, Result<RecordBatch, CompactError>>;
type Failure = Arc<Mutex<Option<CompactError>>>;

/// A table that can be read once.
struct Once {
    schema: SchemaRef,
    writes: Mutex<Option<Writes>>,
    failure: Failure,
}

impl Once {
    fn new(writes: Writes, failure: Failure) -> Self {
        Self { schema: writes_schema(), writes: Mutex::new(Some(writes)), failure }
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the writes of a run of deltas")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let failure = Arc::clone(&self.failure);
        let writes = self.writes.lock().take().unwrap_or_else(|| {
            futures::stream::iter([Err(CompactError::engine(DOING, "the deltas were read twice"))]).boxed()
        });
        let writes = writes.map_err(move |error| {
            let text = error.to_string();
            *failure.lock() = Some(error);
            DataFusionError::Execution(text)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), writes))
    }
}
