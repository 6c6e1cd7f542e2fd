//! Search, and the two small requests that Vektonn has beside it: info and probe.

mod answer;
mod request;
mod shape;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use tarn_api::{ApiError, Caller, ErrorDto, MediaType, Resource, Scope, index_id, pairs, request_timeout};
use tarn_model::{DataSource, Index, IndexId, ReadToken, Vector, VectorKind, WireVector, limits};
use tarn_search::{Consistency, SearchRequest, SearchResponse};
use tarn_store::Meter;

use crate::dto::{Circumstances, IndexInfoDto, MillisecondsDto, ReceiptDto, SearchQueryDto, SearchResultDto};
use crate::error::to_api;
use crate::state::QueryState;

const COVERAGE: HeaderName = HeaderName::from_static("tarn-coverage");
const GENERATION: HeaderName = HeaderName::from_static("tarn-generation");
const REQUESTS: HeaderName = HeaderName::from_static("tarn-requests");
const BYTES: HeaderName = HeaderName::from_static("tarn-bytes");
/// What a search with a deadline leaves of the time that its request may take, for the answer.
const ON_THE_WAY_BACK: Duration = Duration::from_millis(50);
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Finds the nearest points to each query vector.
///
/// GET with a body does the same. Without layer 2's fields, a strong search at the index's own effort.
#[utoipa::path(post, path = "/api/v1/search/{name}/{version}", tag = "Search",
    params(("name" = String, Path), ("version" = String, Path),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds, such as 2.500")),
    request_body = SearchQueryDto,
    responses((status = 200, description = "One result per query vector", body = Vec<SearchResultDto>,
            headers(("Tarn-Coverage" = f64, description = "The fraction of the live rows that was considered"),
                ("Tarn-Version" = String, description = "The version of the data source that the answer shows"),
                ("Tarn-Generation" = u64, description = "Which build answered"),
                ("Tarn-Requests" = u64, description = "Requests to the object store for this search"),
                ("Tarn-Bytes" = u64, description = "Bytes that these brought"),
                ("Server-Timing" = String, description = "Milliseconds by phase"))),
        (status = 400, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 404, body = ErrorDto), (status = 409, description = "minVersion or asOf is ahead", body = ErrorDto),
        (status = 410, description = "The generation that asOf names is gone", body = ErrorDto),
        (status = 413, body = ErrorDto), (status = 415, body = ErrorDto), (status = 429, body = ErrorDto),
        (status = 503, body = ErrorDto)))]
pub(crate) async fn search(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    MediaType::require_json(&headers)?;
    let began = state.now();
    let searched = async {
        let (index, source) = state.engine().index(&id).await.map_err(to_api)?;
        let body = state.app().read_body(body).await?;
        let mut parsed = body.parse(true, move |body| request::parse(body.bytes(), &index, &source)).await?;
        // A search with a deadline answers with what it has; it does not run into the limit of the request, which is an error.
        parsed.request.deadline = within(parsed.request.deadline, request_timeout(&headers)?);
        if let Some(tree) = parsed.beside.take() {
            search_beside(&state, &caller, &tree, &mut parsed.request).await?;
        }
        run(&state, &id, parsed, began).await
    };
    Meter::new().scope(searched).await
}

/// A deadline, brought forward so that the answer goes out within the limit of its request.
pub(crate) fn within(deadline: Option<Duration>, limit: Duration) -> Option<Duration> {
    let latest = limit.saturating_sub(ON_THE_WAY_BACK.min(limit / 10));
    deadline.map(|deadline| deadline.min(latest))
}

/// `deadlineMs`, checked.
pub(crate) fn deadline(ms: Option<f64>) -> Result<Option<Duration>, ApiError> {
    match ms {
        None => Ok(None),
        Some(ms) if ms > 0.0 && ms.is_finite() => Ok(Some(Duration::from_secs_f64((ms / 1e3).min(LONGEST_DEADLINE)))),
        Some(_) => Err(ApiError::invalid("deadlineMs must be a positive number of milliseconds")),
    }
}

/// In seconds.
const LONGEST_DEADLINE: f64 = limits::REQUEST_TIMEOUT_MS as f64 / 1e3;

/// Adds the search of a second index to one, if the caller may read that too.
async fn search_beside(
    state: &QueryState,
    caller: &Caller,
    tree: &serde_json::Value,
    request: &mut SearchRequest,
) -> Result<(), ApiError> {
    let id = shape::beside_index(tree)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    let (index, source) = state.engine().index(&id).await.map_err(to_api)?;
    let beside = shape::beside(tree, &index, &source, request.k)?;
    request.shape.get_or_insert_default().beside = Some(beside);
    check_size(request, &source)
}

/// Says what an index is and how many points it holds.
#[utoipa::path(get, path = "/api/v1/info/{name}/{version}", tag = "Search",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = IndexInfoDto), (status = 404, body = ErrorDto),
        (status = 429, body = ErrorDto),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn info(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Result<Json<IndexInfoDto>, ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    let (index, source) = state.engine().index(&id).await.map_err(to_api)?;
    info_of(&state, &index, &source).await.map(Json)
}

/// As info of an index, when there is only one.
#[utoipa::path(get, path = "/api/v1/info", tag = "Search",
    responses((status = 200, body = IndexInfoDto), (status = 404, body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 401, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn info_of_the_only_index(
    Extension(state): Extension<QueryState>,
    caller: Caller,
) -> Result<Json<IndexInfoDto>, ApiError> {
    let indices = tarn_store::list_indices(state.app().store()).await?;
    let readable: Vec<_> = indices.iter().filter(|index| caller.may(Scope::Read, Resource::Index(&index.id))).collect();
    let [index] = readable.as_slice() else {
        return Err(ApiError::not_found(format!(
            "There are {} indices; ask for one: /api/v1/info/NAME/VERSION",
            readable.len()
        )));
    };
    let (index, source) = state.engine().index(&index.id).await.map_err(to_api)?;
    info_of(&state, &index, &source).await.map(Json)
}

/// Searches with a zero vector: shows some points of an index, vectors included.
#[utoipa::path(get, path = "/api/v1/probe/{name}/{version}", tag = "Search",
    params(("name" = String, Path), ("version" = String, Path),
        ("k" = Option<i32>, Query, description = "How many points, 1 unless given", minimum = 1, maximum = 10000)),
    responses((status = 200, body = Vec<SearchResultDto>), (status = 400, body = ErrorDto), (status = 404, body = ErrorDto),
        (status = 429, body = ErrorDto),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn probe(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    let mut k = 1_i64;
    for (_, value) in pairs(query.as_deref()).into_iter().filter(|(name, _)| name.eq_ignore_ascii_case("k")) {
        k = value.parse().map_err(|_| ApiError::invalid("k must be a whole number"))?;
    }
    let began = state.now();
    let searched = async {
        let (index, source) = state.engine().index(&id).await.map_err(to_api)?;
        let vector = source.zero_vector();
        let echo = wire_vector(&vector);
        let queries = vec![vector];
        let checked_k = u32::try_from(k.max(0)).unwrap_or(u32::MAX);
        tarn_model::check_search(&source, &index, &Default::default(), &queries, checked_k)?;
        let mut request = SearchRequest::new(queries, checked_k);
        request.retrieve_vectors = true;
        check_size(&request, &source)?;
        run(&state, &id, request::Parsed { request, echo: vec![echo], beside: None }, began).await
    };
    Meter::new().scope(searched).await
}

fn wire_vector(vector: &Vector) -> WireVector {
    match vector {
        Vector::Dense(values) => WireVector::Dense(values.clone()),
        Vector::Sparse(sparse) => WireVector::Sparse {
            coordinates: sparse.values.clone(),
            indices: sparse.indices.iter().map(|&index| index.into()).collect(),
        },
    }
}

async fn info_of(state: &QueryState, index: &Arc<Index>, source: &Arc<DataSource>) -> Result<IndexInfoDto, ApiError> {
    let count = state.engine().count(&index.id, Consistency::Strong).await.map_err(to_api)?;
    Ok(IndexInfoDto {
        index_algorithm: index.algorithm.metric.algorithm_type().to_owned(),
        vector_type: match source.vector_kind {
            VectorKind::Dense => "DenseVector",
            VectorKind::Sparse => "SparseVector",
        },
        vector_dimension: source.vector_dimension,
        data_points_count: count,
    })
}

/// Searches, under the meter that has noted what the request cost so far.
async fn run(state: &QueryState, id: &IndexId, parsed: request::Parsed, began: Duration) -> Result<Response, ApiError> {
    let request::Parsed { mut request, mut echo, .. } = parsed;
    let explain = request.explain;
    // It counts from when the request came.
    let spent = state.now().saturating_sub(began);
    request.deadline = request.deadline.map(|deadline| deadline.saturating_sub(spent));
    let response = state.engine().search(id, request).await.map_err(to_api)?;
    echo.extend(response.stored.iter().map(wire_vector));
    for failure in &response.failures {
        // The answer's coverage tells the client; why, is for whoever runs this.
        let (shards, rows, reason) = (&failure.shards, failure.rows, &failure.reason);
        tracing::warn!(index = %id, ?shards, rows, reason, "an answer leaves shards out");
    }
    state.app().metrics().search(echo.len() as u64);
    let took = state.now().saturating_sub(began);
    let (on_s3, function) = (state.engine().store().bucket().is_some(), state.function());
    let receipt = explain.then(|| ReceiptDto::new(&response, Circumstances { on_s3, function, took }));
    let counted = state.app().requests().is_some();
    let headers = headers(&response, took, counted)?;
    answer::respond(response, echo, receipt, headers).await
}

/// Says in headers which state an answer shows.
pub(crate) fn show_state(headers: &mut HeaderMap, version: &ReadToken, generation: u64) -> Result<(), ApiError> {
    headers.insert(tarn_api::TARN_VERSION, tarn_api::version_header(version)?);
    headers.insert(GENERATION, generation.into());
    Ok(())
}

/// The totals of a search. `counted`: whether the store counts what is asked of it.
fn headers(response: &SearchResponse, took: Duration, counted: bool) -> Result<HeaderMap, ApiError> {
    let milliseconds = MillisecondsDto::new(response, took);
    let phases: Vec<String> = milliseconds.phases().map(|(name, ms)| format!("{name};dur={ms:.3}")).collect();
    let mut headers = HeaderMap::new();
    show_state(&mut headers, &response.version, response.generation)?;
    for (name, text) in [(COVERAGE, response.coverage.to_string()), (SERVER_TIMING, phases.join(", "))] {
        let value = HeaderValue::from_str(&text).map_err(|error| {
            tracing::error!(%error, %name, "cannot be a header");
            ApiError::internal()
        })?;
        headers.insert(name, value);
    }
    if counted {
        headers.insert(REQUESTS, HeaderValue::from(response.spent.requests.total()));
        headers.insert(BYTES, HeaderValue::from(response.spent.requests.bytes_read));
    }
    Ok(headers)
}

/// Most coordinates in one answer that carries the found points' vectors: half a gigabyte, and twice as much as text.
const COORDINATES: u64 = 1 << 27;

fn check_size(request: &SearchRequest, source: &DataSource) -> Result<(), ApiError> {
    let (mut each, mut vectors) = (u64::from(request.k), request.queries.len());
    if let Some(shape) = request.shape.as_deref() {
        each = shape.points_of_each(request.k);
        vectors += shape.vectors();
    }
    let results = each.saturating_mul(vectors as u64);
    if results > limits::RESULTS {
        return Err(ApiError::invalid(format!(
            "k times the number of query vectors may be at most {} (k alone: {}), and with groupBy resultLimit times groupLimit times \
             these; ask in several searches",
            limits::RESULTS,
            limits::K
        )));
    }
    check_coordinates(results, request.retrieve_vectors, source)
}

/// Checks that so many points with their vectors are not too large for an answer. Dense ones: what sparse ones have is not
/// known before.
pub(crate) fn check_coordinates(points: u64, retrieve_vectors: bool, source: &DataSource) -> Result<(), ApiError> {
    let dense = source.vector_kind == VectorKind::Dense;
    if dense && retrieve_vectors && points * u64::from(source.vector_dimension) > COORDINATES {
        return Err(ApiError::invalid(format!(
            "{points} points of dimension {} are more than an answer holds with their vectors; ask for at most {}, or with \
             retrieveVectors false",
            source.vector_dimension,
            COORDINATES / u64::from(source.vector_dimension)
        )));
    }
    Ok(())
}
