//! The answer to a search, as JSON.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use serde::ser::{Serialize, SerializeMap, Serializer};
use tarn_api::ApiError;
use tarn_api::json::Wire;
use tarn_model::WireVector;
use tarn_search::{Found, FoundGroup, FoundGroups, SearchResponse};

use crate::dto::ReceiptDto;

/// Answers with more found points than this are written on a thread where blocking is allowed.
const WRITE_INLINE_POINTS: usize = 2_000;

/// One per query vector.
struct ResultOf<'a> {
    query_vector: &'a WireVector,
    nearest: &'a [Found],
    groups: Option<&'a FoundGroups>,
    receipt: Option<&'a ReceiptDto>,
}

impl Serialize for ResultOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("queryVector", &Wire(self.query_vector))?;
        map.serialize_entry("nearestDataPoints", &Points(self.nearest))?;
        if let Some(FoundGroups { groups, complete }) = self.groups {
            map.serialize_entry("groups", &Groups(groups))?;
            map.serialize_entry("groupsComplete", complete)?;
        }
        if let Some(receipt) = self.receipt {
            map.serialize_entry("receipt", receipt)?;
        }
        map.end()
    }
}

struct Groups<'a>(&'a [FoundGroup]);

impl Serialize for Groups<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Group))
    }
}

struct Group<'a>(&'a FoundGroup);

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("value", &Wire(&self.0.value))?;
        map.serialize_entry("score", &self.0.score)?;
        map.serialize_entry("count", &self.0.points)?;
        map.end()
    }
}

struct Points<'a>(&'a [Found]);

impl Serialize for Points<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Point))
    }
}

struct Point<'a>(&'a Found);

impl Serialize for Point<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(vector) = &self.0.vector {
            map.serialize_entry("vector", &Wire(vector))?;
        }
        map.serialize_entry("attributes", &Wire(&self.0.attributes))?;
        map.serialize_entry("distance", &self.0.distance)?;
        map.end()
    }
}

/// Writes the answer.
///
/// # Errors
/// 500 when a distance is no number: it would become `null`, which no client of layer 1 takes.
pub(super) async fn respond(
    response: SearchResponse,
    echo: Vec<WireVector>,
    receipt: Option<ReceiptDto>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let points: usize = response.results.iter().map(Vec::len).sum();
    let write = move || write(&response, &echo, receipt.as_ref());
    let body = if points <= WRITE_INLINE_POINTS {
        write()?
    } else {
        tokio::task::spawn_blocking(write).await.map_err(|error| {
            tracing::error!(%error, "writing an answer did not end");
            ApiError::internal()
        })??
    };
    let mut answer = Response::new(Body::from(body));
    *answer.headers_mut() = headers;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

fn write(response: &SearchResponse, echo: &[WireVector], receipt: Option<&ReceiptDto>) -> Result<Vec<u8>, ApiError> {
    if response.results.iter().flatten().any(|found| !found.distance.is_finite()) {
        tracing::error!("a distance is not finite");
        return Err(ApiError::internal());
    }
    // The receipt is of all results; the first one carries it, so that the answer stays a list of results.
    let receipts = std::iter::once(receipt).chain(std::iter::repeat(None));
    let groups = response.groups.iter().flatten().map(Some).chain(std::iter::repeat(None));
    let results = echo.iter().zip(&response.results).zip(groups).zip(receipts);
    let result = |(((query_vector, nearest), groups), receipt)| {
        let nearest: &Vec<Found> = nearest;
        ResultOf { query_vector, nearest, groups, receipt }
    };
    let results: Vec<ResultOf<'_>> = results.map(result).collect();
    serde_json::to_vec(&results).map_err(|error| {
        tracing::error!(%error, "cannot write an answer as JSON");
        ApiError::internal()
    })
}
