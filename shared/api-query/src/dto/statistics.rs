//! Statistics and samples.

use serde::{Deserialize, Serialize};
use tarn_api::AttributeDto;
use tarn_search::{Drift, IndexStatistics, MeasuredFrom};
use utoipa::ToSchema;

use super::PointDto;

/// What the points of an index, or a part of it, are like together.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatisticsDto {
    /// Live points.
    pub data_points_count: u64,
    /// The mean vector. Absent without points, and for sparse vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub centre: Option<Vec<f64>>,
    /// The root of the mean squared distance to the centre; for sparse vectors to the origin. Absent without points.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub spread: Option<f64>,
    /// How far the points lie away.
    pub distances: DistancesDto,
    /// Points whose vectors were read for this answer; the others the builder had counted.
    pub points_read: u64,
    /// Against an earlier generation, when `since` names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub drift: Option<DriftDto>,
}

/// Euclidean distances, whatever the index's own are.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DistancesDto {
    /// What they are measured from: `centre`; `reference`, a point near it that builds keep; `origin`, for sparse vectors.
    pub from: String,
    /// The reference, when that is it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reference: Option<Vec<f32>>,
    /// From there to the centre: by so much at most is each distance other than that to the centre. Absent without points, and
    /// for sparse vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub offset: Option<f64>,
    /// The farthest point's; 0 without points.
    pub max: f64,
    /// Of each bin: a power of two.
    pub bin_width: f64,
    /// Points by distance, 64 bins: the first has those below one width, the next those below two.
    #[schema(min_items = 64, max_items = 64)]
    pub bins: Vec<u64>,
}

/// How the points differ from those of an earlier generation.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftDto {
    /// The earlier generation.
    pub since: u64,
    /// The version that it showed.
    pub version: String,
    /// Points that it had.
    pub data_points_count: u64,
    /// How far the centre moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub centre_shift: Option<f64>,
    /// The same, in spreads of the earlier points.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub centre_shift_in_spreads: Option<f64>,
    /// The share of points that would have to change bins to make one histogram of the other, both measured from one point:
    /// 0 when they are equal, 1 when they have nothing in common.
    pub distances_moved: f64,
}

/// What to draw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SampleQueryDto {
    /// How many points; at most 10000 as JSON, any number as a stream.
    #[schema(minimum = 1)]
    pub n: u64,
    /// Another seed draws other points; 0 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Values of split attributes: only points that have them are drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_filter: Option<Vec<AttributeDto>>,
    /// As in a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<serde_json::Value>,
    /// Whether the points of a JSON answer carry their vectors; absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieve_vectors: Option<bool>,
    /// `strong` (default) or `eventual`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistency: Option<String>,
    /// The state that an earlier generation shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub as_of: Option<u64>,
}

/// What was drawn.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SampleDto {
    /// In the order in which they were drawn: the first m of them are the sample of m.
    pub points: Vec<PointDto>,
    /// How many points they were drawn from.
    pub population: u64,
    /// The seed.
    pub seed: u64,
}

impl From<IndexStatistics> for StatisticsDto {
    fn from(found: IndexStatistics) -> Self {
        let distances = found.statistics.distances();
        let from = match found.from {
            MeasuredFrom::Centre => "centre",
            MeasuredFrom::Reference => "reference",
            MeasuredFrom::Origin => "origin",
        };
        let reference = found.statistics.reference();
        Self {
            data_points_count: found.statistics.rows(),
            centre: found.statistics.centre(),
            spread: found.spread(),
            distances: DistancesDto {
                from: from.to_owned(),
                reference: (found.from == MeasuredFrom::Reference).then(|| reference.to_vec()),
                offset: found.offset(),
                max: distances.max(),
                bin_width: distances.width(),
                bins: distances.bins().to_vec(),
            },
            points_read: found.rows_read,
            drift: found.drift.map(Into::into),
        }
    }
}

impl From<Drift> for DriftDto {
    fn from(drift: Drift) -> Self {
        Self {
            since: drift.since,
            version: drift.version.to_string(),
            data_points_count: drift.points,
            centre_shift: drift.shift,
            centre_shift_in_spreads: drift.shift_in_spreads,
            distances_moved: drift.moved,
        }
    }
}
