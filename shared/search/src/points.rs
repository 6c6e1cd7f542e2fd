//! Reading points by key: pages of an index in id order.

use tarn_model::{AttributeValue, Attributes, Filter, PointKey, ReadToken, Vector};

use crate::request::Consistency;

/// A page of an index's live points, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct PointsRequest {
    /// Values of some, all or none of the index's split attributes.
    pub split_filter: Attributes,
    /// Only points that satisfy it.
    pub filter: Option<Filter>,
    /// Begin after this key; `None` begins at the first.
    pub after: Option<PointKey>,
    /// Most points in the page; 1 to [`tarn_model::limits::K`].
    pub limit: u32,
    /// Whether the points carry their vectors.
    pub retrieve_vectors: bool,
    /// How fresh.
    pub consistency: Consistency,
}

/// Points, and where the next page begins.
#[derive(Clone, Debug)]
pub struct PointsPage {
    /// In key order.
    pub points: Vec<Point>,
    /// Pass it as [`PointsRequest::after`]; `None` when this page is the last.
    pub next: Option<PointKey>,
    /// The version that the page shows.
    pub version: ReadToken,
}

/// A live point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The canonical bytes of its permanent attributes.
    pub key: PointKey,
    /// In wire order.
    pub attributes: Vec<(String, AttributeValue)>,
    /// The vector, when the request wanted it.
    pub vector: Option<Vector>,
}
