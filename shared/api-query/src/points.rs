//! Pages of an index's points, by id.

use axum::Json;
use axum::extract::{Extension, Path, RawQuery};
use axum::http::header::HeaderMap;
use tarn_api::json::{Reader, read_attributes, read_tree};
use tarn_api::{ApiError, Caller, ErrorDto, Resource, Scope, index_id, pairs};
use tarn_model::{DataSource, Filter, Index, PointKey, WireSearch, WireVector, check_wire_search, limits};
use tarn_search::{Consistency, PointsRequest};

use crate::dto::{PointDto, PointsDto};
use crate::error::to_api;
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
        ("consistency" = Option<String>, Query, description = "strong (unless given) or eventual")),
    responses((status = 200, body = PointsDto), (status = 400, body = ErrorDto), (status = 404, body = ErrorDto),
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
    headers.insert(tarn_api::TARN_VERSION, tarn_api::version_header(&page.version)?);
    let points = page.points.iter().map(PointDto::from).collect();
    Ok((headers, Json(PointsDto { points, next: page.next.map(|key| hex(&key.0)) })))
}

fn parse(query: Option<&str>, index: &Index, source: &DataSource) -> Result<PointsRequest, ApiError> {
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
            "splitFilter" => {
                let mut reader = Reader::new(value.as_bytes())?;
                let split_filter = read_attributes(&mut reader)?;
                reader.end()?;
                // Checked as that of a search with one good query vector.
                let query_vectors = vec![good_vector(source)];
                let search = WireSearch { split_filter, query_vectors, k: 1 };
                request.split_filter = check_wire_search(source, index, search)?.split_filter;
            }
            "filter" => {
                let mut reader = Reader::new(value.as_bytes())?;
                let tree = read_tree(&mut reader)?;
                reader.end()?;
                request.filter = Some(Filter::from_json(&tree, source)?);
            }
            "retrieveVectors" => {
                let flag = value.to_ascii_lowercase().parse();
                request.retrieve_vectors =
                    flag.map_err(|_| ApiError::invalid("retrieveVectors must be true or false"))?;
            }
            "consistency" if value.eq_ignore_ascii_case("strong") => request.consistency = Consistency::Strong,
            "consistency" if value.eq_ignore_ascii_case("eventual") => request.consistency = Consistency::Eventual,
            "consistency" => return Err(ApiError::invalid("consistency must be 'strong' or 'eventual'")),
            _ => {}
        }
    }
    Ok(request)
}

fn good_vector(source: &DataSource) -> WireVector {
    match source.vector_kind {
        tarn_model::VectorKind::Dense => WireVector::Dense(vec![0.0; source.vector_dimension as usize]),
        tarn_model::VectorKind::Sparse => WireVector::Sparse { coordinates: vec![0.0], indices: vec![0] },
    }
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
