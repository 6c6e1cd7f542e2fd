//! Pages of an index's points, by id.

use axum::Json;
use axum::extract::{Extension, Path, RawQuery};
use axum::http::header::HeaderMap;
use tarn_api::{ApiError, Caller, ErrorDto, Resource, Scope, index_id, pairs};
use tarn_model::{DataSource, Index, PointKey, limits};
use tarn_search::PointsRequest;

use crate::dto::{PointDto, PointsDto};
use crate::error::to_api;
use crate::parameters::{Points, flag};
use crate::search::show_state;
use crate::state::QueryState;

/// Points in a page unless the request says otherwise.
const DEFAULT_LIMIT: u32 = 100;

/// Pages through the points of an index in the order of their ids.
#[utoipa::path(get, path = "/api/v1/indices/{name}/{version}/points", tag = "Points",
    params(("name" = String, Path), ("version" = String, Path),
        ("limit" = Option<u32>, Query, description = "Most points, 100 unless given", minimum = 1, maximum = 10000),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("splitFilter" = Option<String>, Query, description = "As in a search, as JSON"),
        ("filter" = Option<String>, Query, description = "As in a search, as JSON"),
        ("retrieveVectors" = Option<bool>, Query, description = "false unless given"),
        ("consistency" = Option<String>, Query, description = "strong (unless given) or eventual"),
        ("asOf" = Option<u64>, Query, description = "The state that an earlier generation shows", minimum = 1),
        ("Request-Timeout" = Option<String>, Header, description = "Seconds, such as 2.500")),
    responses((status = 200, body = PointsDto,
            headers(("Tarn-Version" = String, description = "The version that the page shows"),
                ("Tarn-Generation" = u64, description = "The build that it rests on"))),
        (status = 400, body = ErrorDto), (status = 404, body = ErrorDto),
        (status = 409, description = "The generation is not there yet", body = ErrorDto),
        (status = 410, description = "The generation is gone", body = ErrorDto),
        (status = 429, body = ErrorDto),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto), (status = 503, body = ErrorDto)))]
pub(crate) async fn points(
    Extension(state): Extension<QueryState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<(HeaderMap, Json<PointsDto>), ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Read, Resource::Index(&id))?;
    let (index, source) = state.engine().index(&id).await.map_err(to_api)?;
    let request = parse(query.as_deref(), &index, &source)?;
    crate::search::check_coordinates(request.limit.into(), request.retrieve_vectors, &source)?;
    let page = state.engine().points(&id, request).await.map_err(to_api)?;
    let mut headers = HeaderMap::new();
    show_state(&mut headers, &page.version, page.generation)?;
    let points = page.points.iter().map(PointDto::from).collect();
    Ok((headers, Json(PointsDto { points, next: page.next.map(|key| hex(&key.0)) })))
}

fn parse(query: Option<&str>, index: &Index, source: &DataSource) -> Result<PointsRequest, ApiError> {
    let mut points = Points::default();
    let mut request = PointsRequest { limit: DEFAULT_LIMIT, ..PointsRequest::default() };
    for (name, value) in pairs(query) {
        match name.as_str() {
            "limit" => {
                let asked = value.parse().ok().filter(|asked| (1..=limits::K).contains(asked));
                let wrong = || ApiError::invalid(format!("limit must be a number from 1 to {}", limits::K));
                request.limit = asked.ok_or_else(wrong)?;
            }
            "after" => {
                let key = unhex(&value).filter(|key| key.len() <= limits::POINT_KEY_BYTES);
                let wrong = || ApiError::invalid("after must be the 'next' of the page before");
                request.after = Some(PointKey(key.ok_or_else(wrong)?));
            }
            "retrieveVectors" => request.retrieve_vectors = flag(&name, &value)?,
            _ => {
                points.take(&name, &value, index, source)?;
            }
        }
    }
    let Points { split_filter, filter, consistency, as_of } = points;
    Ok(PointsRequest { split_filter, filter, consistency, as_of, ..request })
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks(2);
    pairs.map(|pair| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{hex, unhex};

    #[test]
    fn keys_go_round_as_hexadecimal_digits() {
        assert_eq!(unhex(&hex(&[0, 1, 254, 255])), Some(vec![0, 1, 254, 255]));
        assert_eq!(unhex(""), Some(vec![]));
        assert_eq!(unhex("abc"), None);
        assert_eq!(unhex("zz"), None);
    }
}
