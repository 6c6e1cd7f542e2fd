//! The shapes of bodies, for the OpenAPI document and for clients written in Rust. Searches are read and answered without
//! these types (see `search`); tests hold the two together.

mod recall;
mod receipt;
mod statistics;

pub use recall::{ObservedRecallDto, RecallDto, RecallQueryDto};
pub use receipt::{
    Circumstances, DollarsDto, MillisecondsDto, PlanDto, RankingDto, ReceiptDto, RequestsDto, SegmentReceiptDto,
};
pub use statistics::{DistancesDto, DriftDto, SampleDto, SampleQueryDto, StatisticsDto};

use serde::{Deserialize, Serialize};
use tarn_api::{AttributeDto, AttributeValueDto, IndexDefinitionDto, NameVersionDto, VectorDto};
use tarn_search::{IndexDescription, Point, SegmentDescription, ShardDescription, SplitDescription};
use utoipa::ToSchema;

/// A search. All but `queryVectors` and `k` may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SearchQueryDto {
    /// Values of split attributes: points that have others are not searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_filter: Option<Vec<AttributeDto>>,
    /// At least one, unless `queryIds` names points.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub query_vectors: Vec<VectorDto>,
    /// How many neighbours of each.
    #[schema(minimum = 1, maximum = 10000)]
    pub k: i32,
    /// Whether found points carry their vectors; absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieve_vectors: Option<bool>,
    /// A boolean tree over attributes: `and or not eq ne lt lte gt gte in notIn exists startsWith`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<serde_json::Value>,
    /// `strong` (default): the answer includes every acknowledged write. `eventual`: it may be some seconds old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// The `Tarn-Version` of an upload: the answer includes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<String>,
    /// Brute force: recall 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
    /// The recall that an approximate search aims at, 0.95 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_recall: Option<f64>,
    /// Candidates that a search keeps in a graph; where there are cells and no graph, cells that it looks into. Overrides
    /// `targetRecall`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000)]
    pub ef_search: Option<u32>,
    /// Cells that a search looks into; where there is a graph and no cells, candidates that it keeps. Overrides `targetRecall`. With
    /// `efSearch` each is for its own kind, and where there are both, the cheaper is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub nprobe: Option<u32>,
    /// After so many milliseconds the best so far is the answer, with a coverage below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<f64>,
    /// Which attributes found points carry; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<String>>,
    /// Whether the first result carries a `receipt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<bool>,
    /// The state that an earlier generation shows, and nothing after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub as_of: Option<u64>,
    /// What to rank by instead of the index's own distance: `VectorDistance` (L2 with the root), `QuickVectorDistance` (L1),
    /// `VectorMultiplication` (inner product), `CosineSimilarity` or `AngularDistance` (1 − angle / π). An index serves those
    /// that follow from its metric; for any other every row is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<String>,
    /// Whether more of the score is better; absent: as is usual of it. In the other direction every row is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub higher_is_better: Option<bool>,
    /// Groups points by their value of an attribute, and answers the best groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<String>,
    /// Most points of a group; absent: 1. Times `resultLimit` at most 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000)]
    pub group_limit: Option<u32>,
    /// What a group's score is made of, from its points in the answer: `best` (default), `sum`, or `sumOverSquare`, the sum
    /// over the square of their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_score: Option<String>,
    /// Only groups whose value satisfies it: a filter that names no other attribute than `groupBy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub group_filter: Option<serde_json::Value>,
    /// Most points, or groups, of a result; absent: `k`. They are chosen from the `k` nearest; for groups, from more if need be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000)]
    pub result_limit: Option<u32>,
    /// Permanent attributes of stored points whose vectors are queries too. The points themselves are not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_ids: Option<Vec<Vec<AttributeDto>>>,
    /// A point counts by the best of its scores by the query vector and by these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Vec<VectorDto>>,
    /// `true`: by `context` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prioritize: Option<bool>,
    /// One result for all query vectors, each point once: by the `best` score, by the `sum` of all, or by `reciprocalRank`, the
    /// sum of 1 / (60 + place) over the lists of the `k` nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub combine: Option<String>,
    /// A second index that is searched too, with `combine`: for example a sparse one beside a dense one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<BesideDto>,
}

/// The search of a second index. Its data source has the same permanent attributes; points are the same where these are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BesideDto {
    /// The index.
    pub index: NameVersionDto,
    /// At least one.
    #[schema(min_items = 1, max_items = 1000)]
    pub query_vectors: Vec<VectorDto>,
    /// As in a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_filter: Option<Vec<AttributeDto>>,
    /// As in a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<serde_json::Value>,
    /// As in a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<String>,
    /// As in a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub higher_is_better: Option<bool>,
}

/// The neighbours of one query vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SearchResultDto {
    /// As it came.
    pub query_vector: VectorDto,
    /// Nearest first; equal distances by point id.
    pub nearest_data_points: Vec<FoundDataPointDto>,
    /// The groups, the best one first, if the search groups. The points are theirs, group after group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub groups: Option<Vec<GroupDto>>,
    /// `false`: there may be more groups, or more points in one, than were looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub groups_complete: Option<bool>,
    /// Of the whole search. In its first result, if `explain` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub receipt: Option<ReceiptDto>,
}

/// A group of found points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupDto {
    /// What its points have in common.
    pub value: AttributeValueDto,
    /// By `groupScore`.
    pub score: f64,
    /// How many of the result's points are its own.
    pub count: u64,
}

/// A found point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FoundDataPointDto {
    /// Unless the search said not to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub vector: Option<VectorDto>,
    /// Id attributes that are not split attributes, split attributes, the rest; each group by key.
    pub attributes: Vec<AttributeDto>,
    /// In the metric's own unit and direction; the score, if the search ranks by one.
    pub distance: f64,
}

/// What an index is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexInfoDto {
    /// As `FaissIndex.L2`.
    pub index_algorithm: String,
    /// `DenseVector` or `SparseVector`.
    pub vector_type: &'static str,
    /// Of the data source.
    pub vector_dimension: u32,
    /// Live points.
    pub data_points_count: u64,
}

/// The state of an index.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IndexDescriptionDto {
    /// Name and version.
    pub id: NameVersionDto,
    /// What was defined.
    pub definition: IndexDefinitionDto,
    /// How often it was built; 0: never, and the timeline alone answers.
    pub generation: u64,
    /// When the generation was published, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub published_ms: Option<i64>,
    /// The version that the segments include.
    pub watermark: String,
    /// The version that includes every upload so far.
    pub head: String,
    /// Uploads between the two; strong searches scan them.
    pub lag_deltas: u64,
    /// How long ago the oldest of them was stored, in milliseconds.
    pub lag_ms: u64,
    /// Live points.
    pub data_points_count: u64,
    /// Bytes of all segment files.
    pub segment_bytes: u64,
    /// By shard id.
    pub shards: Vec<ShardDescriptionDto>,
    /// At most as many as asked for.
    pub splits: Vec<SplitDescriptionDto>,
    /// All of them, also when the list is cut short.
    pub splits_count: u64,
    /// The recall of real searches, if this process compares a share of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recall: Vec<ObservedRecallDto>,
}

/// One shard of an index.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardDescriptionDto {
    /// Its id in the definition.
    pub shard: String,
    /// Live points.
    pub data_points_count: u64,
    /// Splits with rows in segments.
    pub splits_count: u64,
    /// Bytes of its segment files.
    pub segment_bytes: u64,
    /// Its segment files.
    pub segments: Vec<SegmentDescriptionDto>,
}

/// One segment file.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SegmentDescriptionDto {
    /// Its object's id.
    pub id: String,
    /// `flat`, `graph` or `sparse`.
    pub kind: String,
    /// Rows in it, dead ones included.
    pub rows: u64,
    /// Dead rows.
    pub deleted: u64,
    /// Its size.
    pub bytes: u64,
}

/// One split of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitDescriptionDto {
    /// The shard's id.
    pub shard: String,
    /// The values of the split attributes.
    pub attributes: Vec<AttributeDto>,
    /// Live points.
    pub data_points_count: u64,
    /// Its share of the segment files' bytes.
    pub bytes: u64,
}

/// A page of points.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PointsDto {
    /// In the order of their ids.
    pub points: Vec<PointDto>,
    /// Pass it as `after` to go on; absent when this is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next: Option<String>,
}

/// A live point.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PointDto {
    /// When asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub vector: Option<VectorDto>,
    /// In the order of a search's answer.
    pub attributes: Vec<AttributeDto>,
}

impl From<&Point> for PointDto {
    fn from(point: &Point) -> Self {
        let attributes = point.attributes.iter().map(|(key, value)| AttributeDto::new(key, value)).collect();
        Self { vector: point.vector.as_ref().map(VectorDto::from), attributes }
    }
}

impl From<IndexDescription> for IndexDescriptionDto {
    fn from(description: IndexDescription) -> Self {
        let index = description.index;
        Self {
            definition: IndexDefinitionDto::from(&index),
            id: NameVersionDto { name: index.id.name, version: index.id.version },
            generation: description.generation,
            published_ms: description.published_ms,
            watermark: description.watermark.to_string(),
            head: description.head.to_string(),
            lag_deltas: description.lag_deltas,
            lag_ms: description.lag_ms,
            data_points_count: description.points,
            segment_bytes: description.segment_bytes,
            shards: description.shards.into_iter().map(Into::into).collect(),
            splits: description.splits.into_iter().map(Into::into).collect(),
            splits_count: description.splits_total,
            recall: description.recall.iter().map(Into::into).collect(),
        }
    }
}

impl From<ShardDescription> for ShardDescriptionDto {
    fn from(shard: ShardDescription) -> Self {
        Self {
            shard: shard.shard,
            data_points_count: shard.points,
            splits_count: shard.splits,
            segment_bytes: shard.segment_bytes,
            segments: shard.segments.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<SegmentDescription> for SegmentDescriptionDto {
    fn from(segment: SegmentDescription) -> Self {
        let SegmentDescription { id, kind, rows, deleted, bytes } = segment;
        Self { id, kind, rows, deleted, bytes }
    }
}

impl From<SplitDescription> for SplitDescriptionDto {
    fn from(split: SplitDescription) -> Self {
        let attributes = AttributeDto::list(&split.attributes);
        Self { shard: split.shard, attributes, data_points_count: split.points, bytes: split.bytes }
    }
}
