//! Statistics of an index.

use axum::Json;
use axum::extract::{Extension, Path, RawQuery};
use axum::http::header::HeaderMap;
use tarn_api::{ApiError, Caller, ErrorDto, Resource, Scope, index_id, pairs};
use tarn_model::{DataSource, Index};
use tarn_search::StatisticsRequest;

use crate::dto::StatisticsDto;
use crate::error::to_api;
use crate::parameters::{Points, flag, generation};
use crate::search::show_state;
use crate::state::QueryState;

/// Says how many points there are, where their centre is, how far they lie from it, and how that has moved.
///
/// Of a whole index, or a shard, from what the builder has counted; of splits and filters by reading the points.
#[utoipa::path(get, path = "/api/v1/indices/{name}/{version}/statistics", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path),
        ("splitFilter" = Option<String>, Query, description = "As in a search, as JSON"),
        ("filter" = Option<String>, Query, description = "As in a search, as JSON"),
        ("shard" = Option<String>, Query, description = "Only this shard's points"),
        ("tail" = Option<bool>, Query, description = "true: include what no build has taken in; false unless given"),
        ("exact" = Option<bool>, Query,
            description = "true: read every point, and measure distances from the centre itself; false unless given"),
        ("consistency" = Option<String>, Query, description = "strong (unless given) or eventual"),
        ("asOf" = Option<u64>, Query, description = "The state that an earlier generation shows", minimum = 1),
        ("since" = Option<u64>, Query, description = "An earlier generation to compare with", minimum = 1),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds, such as 2.500")),
    responses((status = 200, body = StatisticsDto,
            headers(("Tarn-Version" = String, description = "The version that the answer shows"),
                ("Tarn-Generation" = u64, description = "The build that it rests on"))),
        (status = 400, body = ErrorDto), (status = 404, body = ErrorDto),
        (status = 409, description = "The generation is not there yet", body = ErrorDto),
        (status = 410, description = "The generation is gone", body = ErrorDto), (status = 429, body = ErrorDto),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn statistics(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<(HeaderMap, Json<StatisticsDto>), ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    let (index, source) = state.engine().index(&id).await.map_err(to_api)?;
    let request = parse(query.as_deref(), &index, &source)?;
    // What expires is counted anew each time.
    let reads_points = request.reads_points() || source.policy.retention.is_some();
    let _permit = reads_points.then(|| state.app().admit_reading()).transpose()?;
    let statistics = state.engine().statistics(&id, request).await.map_err(to_api)?;
    let mut headers = HeaderMap::new();
    show_state(&mut headers, &statistics.version, statistics.generation)?;
    Ok((headers, Json(statistics.into())))
}

fn parse(query: Option<&str>, index: &Index, source: &DataSource) -> Result<StatisticsRequest, ApiError> {
    let mut points = Points::default();
    let mut request = StatisticsRequest::default();
    for (name, value) in pairs(query) {
        match name.as_str() {
            "shard" => request.shard = Some(value),
            "tail" => request.tail = flag(&name, &value)?,
            "exact" => request.exact = flag(&name, &value)?,
            "since" => request.since = Some(generation(&name, &value)?),
            _ => {
                points.take(&name, &value, index, source)?;
            }
        }
    }
    let Points { split_filter, filter, consistency, as_of } = points;
    Ok(StatisticsRequest { split_filter, filter, consistency, as_of, ..request })
}
