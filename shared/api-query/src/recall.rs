//! The recall of an index, measured on demand.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path};
use axum::http::header::HeaderMap;
use tarn_api::json::{JsonError, Reader, read_attributes, read_tree};
use tarn_api::{ApiError, Caller, ErrorDto, MediaType, Resource, Scope, index_id, request_timeout};
use tarn_model::{DataSource, Filter, Index, check_wire_split_filter, limits};
use tarn_search::RecallRequest;

use crate::dto::{RecallDto, RecallQueryDto};
use crate::error::to_api;
use crate::search::{deadline, show_state, within};
use crate::state::QueryState;

/// Measures recall@k: searches for a sample of the index's points, as every search does and exactly, and compares.
///
/// A point does not count among its own neighbours. It takes as long as so many exact searches do, one after the other; `deadlineMs` has
/// it end with what is measured by then.
#[utoipa::path(post, path = "/api/v1/indices/{name}/{version}/recall", tag = "Search",
    params(("name" = String, Path), ("version" = String, Path),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds, such as 2.500")),
    request_body = RecallQueryDto,
    responses((status = 200, body = RecallDto,
            headers(("Tarn-Version" = String, description = "The version that was searched"),
                ("Tarn-Generation" = u64, description = "The build that was searched"))),
        (status = 400, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 404, body = ErrorDto), (status = 413, body = ErrorDto), (status = 415, body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn recall(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<(HeaderMap, Json<RecallDto>), ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    MediaType::require_json(&headers)?;
    let (index, source) = state.engine().index(&id).await.map_err(to_api)?;
    let body = state.app().read_body(body).await?;
    let mut request = parse(body.bytes(), &index, &source)?;
    request.deadline = within(request.deadline, request_timeout(&headers)?);
    let _permit = state.app().admit_reading()?;
    let report = state.engine().recall(&id, request).await.map_err(to_api)?;
    let mut headers = HeaderMap::new();
    show_state(&mut headers, &report.version, report.generation)?;
    Ok((headers, Json(report.into())))
}

fn parse(bytes: &[u8], index: &Index, source: &DataSource) -> Result<RecallRequest, ApiError> {
    let mut request = RecallRequest::default();
    let (mut filter, mut split, mut target, mut deadline_ms) = (None, None, None, None);
    let mut reader = Reader::new(bytes)?;
    reader.object::<JsonError>("what to measure", |r, name| {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("k") {
            request.k = r.optional(|r| r.integer("k"))?.unwrap_or(request.k);
        } else if is("queries") {
            request.queries = r.optional(|r| r.integer("queries"))?.unwrap_or(request.queries);
        } else if is("seed") {
            request.seed = r.optional(|r| r.integer("seed"))?.unwrap_or(request.seed);
        } else if is("splitFilter") {
            split = r.optional(read_attributes)?;
        } else if is("filter") {
            filter = r.optional(read_tree)?;
        } else if is("targetRecall") {
            target = r.optional(|r| r.f64("targetRecall"))?;
        } else if is("efSearch") {
            request.ef_search = r.optional(|r| r.integer("efSearch"))?;
        } else if is("nprobe") {
            request.nprobe = r.optional(|r| r.integer("nprobe"))?;
        } else if is("deadlineMs") {
            deadline_ms = r.optional(|r| r.f64("deadlineMs"))?;
        } else {
            r.skip()?;
        }
        Ok(())
    })?;
    reader.end()?;
    request.target_recall = match target {
        None => None,
        #[allow(clippy::cast_possible_truncation)]
        Some(recall) if recall > 0.0 && recall <= 1.0 => Some(recall as f32),
        Some(_) => return Err(ApiError::invalid("targetRecall must be above 0 and at most 1")),
    };
    if request.ef_search.is_some_and(|ef| !(1..=limits::HNSW_EF).contains(&ef)) {
        return Err(ApiError::invalid(format!("efSearch must be from 1 to {}", limits::HNSW_EF)));
    }
    if request.nprobe == Some(0) {
        return Err(ApiError::invalid("nprobe must be at least 1"));
    }
    request.deadline = deadline(deadline_ms)?;
    request.filter = filter.map(|json| Filter::from_json(&json, source)).transpose()?;
    if let Some(attributes) = split {
        request.split_filter = check_wire_split_filter(source, index, &attributes)?;
    }
    Ok(request)
}
