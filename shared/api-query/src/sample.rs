//! Samples of an index's points, and exports of them.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use tarn_api::json::{JsonError, Kind, Reader, read_attributes, read_tree};
use tarn_api::{
    ApiError, Caller, ErrorDto, FileDto, MediaType, Resource, Scope, Streaming, index_id, pairs, wants_stream,
};
use tarn_model::{DataSource, Filter, Index, IndexId, check_wire_split_filter, limits};
use tarn_search::{ExportRequest, Sample, SampleRequest};

use crate::dto::{PointDto, SampleDto, SampleQueryDto};
use crate::error::to_api;
use crate::parameters::{Points, consistency};
use crate::search::{check_coordinates, show_state};
use crate::state::QueryState;

/// Draws points, each as likely as any other, none twice; the same ones for the same seed.
///
/// As JSON when they fit an answer. With `Accept` NDJSON, Arrow or Parquet a stream of any length, in no particular order.
#[utoipa::path(post, path = "/api/v1/indices/{name}/{version}/sample", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds, such as 2.500")),
    request_body = SampleQueryDto,
    responses((status = 200, description = "The points", content(
            (SampleDto = "application/json"), (String = "application/x-ndjson"),
            (FileDto = "application/vnd.apache.arrow.stream"), (FileDto = "application/vnd.apache.parquet")),
            headers(("Tarn-Version" = String, description = "The version that the answer shows"),
                ("Tarn-Generation" = u64, description = "The build that it rests on"))),
        (status = 400, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 404, body = ErrorDto), (status = 406, body = ErrorDto),
        (status = 409, description = "The generation is not there yet", body = ErrorDto),
        (status = 410, description = "The generation is gone", body = ErrorDto),
        (status = 413, body = ErrorDto), (status = 415, body = ErrorDto), (status = 429, body = ErrorDto),
        (status = 503, body = ErrorDto)))]
pub(crate) async fn sample(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    MediaType::require_json(&headers)?;
    let (index, source) = state.engine().index(&id).await.map_err(to_api)?;
    let body = state.app().read_body(body).await?;
    let asked = parse(body.bytes(), &index, &source)?;
    drop(body);
    let Asked { sample, points, retrieve_vectors } = asked;
    let Points { split_filter, filter, consistency, as_of } = points;
    if wants_stream(&headers) {
        let sample = Some(sample);
        let request = ExportRequest { split_filter, filter, sample, consistency, as_of };
        return stream(&state, &id, request, &headers).await;
    }
    if sample.n <= u64::from(limits::K) {
        check_coordinates(sample.n, retrieve_vectors, &source)?;
    }
    let request = SampleRequest { sample, split_filter, filter, retrieve_vectors, consistency, as_of };
    let _permit = state.app().admit_reading()?;
    let drawn = state.engine().sample(&id, request).await.map_err(to_api)?;
    let mut headers = HeaderMap::new();
    show_state(&mut headers, &drawn.version, drawn.generation)?;
    let points = drawn.points.iter().map(PointDto::from).collect();
    Ok((headers, Json(SampleDto { points, population: drawn.population, seed: sample.seed })).into_response())
}

/// Streams the points of an index, or a part of them.
///
/// What was exported can be uploaded again. The format is chosen by `Accept`; NDJSON unless it says otherwise.
#[utoipa::path(get, path = "/api/v1/indices/{name}/{version}/export", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path),
        ("splitFilter" = Option<String>, Query, description = "As in a search, as JSON"),
        ("filter" = Option<String>, Query, description = "As in a search, as JSON"),
        ("consistency" = Option<String>, Query, description = "strong (unless given) or eventual"),
        ("asOf" = Option<u64>, Query, description = "The state that an earlier generation shows", minimum = 1),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds until the first points go out, such as 2.500")),
    responses((status = 200, description = "The points, in no particular order", content(
            (String = "application/x-ndjson"), (FileDto = "application/vnd.apache.arrow.stream"),
            (FileDto = "application/vnd.apache.parquet")),
            headers(("Tarn-Version" = String, description = "The version that the points are the state of"),
                ("Tarn-Generation" = u64, description = "The build that it rests on"))),
        (status = 400, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 404, body = ErrorDto), (status = 406, body = ErrorDto),
        (status = 409, description = "The generation is not there yet", body = ErrorDto),
        (status = 410, description = "The generation is gone", body = ErrorDto), (status = 429, body = ErrorDto),
        (status = 503, body = ErrorDto)))]
pub(crate) async fn export(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    let (index, source) = state.engine().index(&id).await.map_err(to_api)?;
    let mut points = Points::default();
    for (name, value) in pairs(query.as_deref()) {
        points.take(&name, &value, &index, &source)?;
    }
    let Points { split_filter, filter, consistency, as_of } = points;
    let request = ExportRequest { split_filter, filter, sample: None, consistency, as_of };
    stream(&state, &id, request, &headers).await
}

async fn stream(
    state: &QueryState,
    id: &IndexId,
    request: ExportRequest,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let streaming = Streaming::begin(state.app(), headers)?;
    let (_, source) = state.engine().index(id).await.map_err(to_api)?;
    let export = state.engine().export(id, request).await.map_err(to_api)?;
    let mut response = streaming.respond(source, &export.schema, export.batches, to_api).await?;
    show_state(response.headers_mut(), &export.version, export.generation)?;
    Ok(response)
}

struct Asked {
    sample: Sample,
    points: Points,
    retrieve_vectors: bool,
}

fn parse(bytes: &[u8], index: &Index, source: &DataSource) -> Result<Asked, ApiError> {
    let mut reader = Reader::new(bytes)?;
    let mut asked = Asked { sample: Sample::default(), points: Points::default(), retrieve_vectors: true };
    let (mut splits, mut tree, mut fresh) = (Vec::new(), None, None);
    reader.object::<JsonError>("a sample", |r, name| {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("n") {
            asked.sample.n = r.integer("n")?;
        } else if is("seed") {
            if !r.null()? {
                asked.sample.seed = r.integer("seed")?;
            }
        } else if is("splitFilter") {
            splits = read_attributes(r)?;
        } else if is("filter") {
            tree = if r.null()? { None } else { Some(read_tree(r)?) };
        } else if is("retrieveVectors") {
            if !r.null()? {
                asked.retrieve_vectors = r.boolean("retrieveVectors")?;
            }
        } else if is("consistency") {
            fresh = if r.null()? { None } else { Some(r.string("consistency")?.into_owned()) };
        } else if is("asOf") {
            asked.points.as_of = read_generation(r)?;
        } else {
            r.skip()?;
        }
        Ok(())
    })?;
    reader.end()?;
    if asked.sample.n == 0 {
        return Err(ApiError::invalid("n must be a number from 1: how many points to draw"));
    }
    asked.points.split_filter = check_wire_split_filter(source, index, &splits)?;
    asked.points.filter = tree.map(|tree| Filter::from_json(&tree, source)).transpose()?;
    if let Some(text) = fresh {
        asked.points.consistency = consistency(&text)?;
    }
    Ok(asked)
}

/// The number of a generation, or null.
pub(crate) fn read_generation(reader: &mut Reader<'_>) -> Result<Option<u64>, JsonError> {
    if reader.null()? {
        return Ok(None);
    }
    let start = reader.position();
    let number: Option<u64> = match reader.peek()? {
        Kind::Number => reader.number("asOf")?.parse().ok(),
        _ => reader.string("asOf")?.parse().ok(),
    };
    let number = number.filter(|&number| number > 0);
    number.map(Some).ok_or_else(|| reader.error_at(start, "asOf must be the number of a generation, from 1"))
}
