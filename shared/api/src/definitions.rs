//! Data sources and indices: list, create, describe, delete.
//!
//! Definitions are immutable. A PUT creates one, or finds that the same is there; it never changes one. A DELETE writes a
//! marker; garbage collection removes the objects later.

mod differences;
mod listing;
mod parse;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tarn_model::vektonn::AutoCreateDefinition;
use tarn_model::{DataSource, DataSourceId, IndexId};
use tarn_store::{
    Defined, StoreError, create_index, create_source, latest_checkpoint, list_indices as stored_indices, list_sources,
    load_index, load_source,
};
use utoipa::ToSchema;

use crate::auth::{Caller, Resource, Scope};
use crate::body::{HeldBody, MediaType};
use crate::dto::{DataSourceDefinitionDto, IndexDefinitionDto, NameVersionDto};
use crate::error::{ApiError, ErrorDto};
use crate::sources::source_not_found;
use crate::state::AppState;

use differences::differences;
use listing::Page;

/// A data source, as lists and PUT show it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DataSourceDto {
    /// Name and version.
    pub id: NameVersionDto,
    /// What was defined.
    pub definition: DataSourceDefinitionDto,
}

/// Data sources, by name and version.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataSourcesDto {
    /// At most `limit`.
    pub data_sources: Vec<DataSourceDto>,
    /// Pass it as `after` to go on; absent when this is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The state of a data source.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataSourceDescriptionDto {
    /// Name and version.
    pub id: NameVersionDto,
    /// What was defined.
    pub definition: DataSourceDefinitionDto,
    /// The version that includes every upload so far.
    pub head: String,
    /// The newest checkpoint, if one was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointDto>,
    /// The indices over it.
    pub indices: Vec<NameVersionDto>,
}

/// The compacted live set of a data source.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointDto {
    /// How many there have been.
    pub generation: u64,
    /// What it includes.
    pub watermark: String,
    /// Live points in it.
    pub data_points_count: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// An index, as lists and PUT show it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct IndexDto {
    /// Name and version.
    pub id: NameVersionDto,
    /// What was defined.
    pub definition: IndexDefinitionDto,
}

/// Indices, by name and version.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct IndicesDto {
    /// At most `limit`.
    pub indices: Vec<IndexDto>,
    /// Pass it as `after` to go on; absent when this is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The id in a path; what cannot be an id does not exist.
pub(crate) fn source_id((name, version): (String, String)) -> Result<DataSourceId, ApiError> {
    let id = DataSourceId { name, version };
    if id.validate().is_err() { Err(source_not_found(&id)) } else { Ok(id) }
}

/// The id in a path; what cannot be an id does not exist.
///
/// # Errors
/// 404.
pub fn index_id((name, version): (String, String)) -> Result<IndexId, ApiError> {
    let id = IndexId { name, version };
    if id.validate().is_err() { Err(index_not_found(&id)) } else { Ok(id) }
}

/// 404 for an index.
pub fn index_not_found(id: &IndexId) -> ApiError {
    ApiError::not_found(format!("Index {id} does not exist"))
}

/// Lists the data sources that the caller may read.
#[utoipa::path(get, path = "/api/v1/data-sources", tag = "Data sources", params(
        ("limit" = Option<u32>, Query, description = "Most entries, 100 unless given", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = DataSourcesDto), (status = 400, body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto), (status = 401, body = ErrorDto)))]
pub(crate) async fn list_data_sources(
    State(state): State<AppState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<DataSourcesDto>, ApiError> {
    let page = Page::parse(query.as_deref())?;
    let sources = list_sources(state.store()).await?;
    let readable = sources.iter().filter(|source| caller.may(Scope::Read, Resource::DataSource(&source.id)));
    let (data_sources, next) = page.cut(readable, |source| (&source.id.name, &source.id.version));
    let data_sources = data_sources.into_iter().map(|source| source_dto(source)).collect();
    Ok(Json(DataSourcesDto { data_sources, next }))
}

/// Creates a data source.
///
/// Repeating the request is harmless. Definitions do not change: use a new version.
#[utoipa::path(put, path = "/api/v1/data-sources/{name}/{version}", tag = "Data sources",
    params(("name" = String, Path, min_length = 1), ("version" = String, Path, min_length = 1)),
    request_body = DataSourceDefinitionDto,
    responses((status = 201, description = "Created", body = DataSourceDto),
        (status = 200, description = "The same was there", body = DataSourceDto),
        (status = 409, description = "Another definition has this name and version", body = ErrorDto),
        (status = 400, body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 413, body = ErrorDto), (status = 415, body = ErrorDto)))]
pub(crate) async fn put_data_source(
    State(state): State<AppState>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let id = DataSourceId::new(name, version)?;
    caller.require(Scope::Admin, Resource::DataSource(&id))?;
    let body = definition_body(&state, &headers, body).await?;
    let source = parse::data_source(body.bytes())?.into_data_source(id)?;
    require_auto_create(&caller, &source)?;
    let defined = create_source(state.store(), &source).await?;
    let stored = async { Ok(load_source(state.store(), &source.id).await?.map(|stored| source_dto(&stored))) };
    let what = format!("Data source {}", source.id);
    put_answer(&what, defined, source_dto(&source), |dto| &dto.definition, stored).await
}

/// Reads `autoCreate` of a data source's definition, by itself.
///
/// # Errors
/// It is no JSON, or has a property that there is not.
pub fn auto_create_definition(json: &[u8]) -> Result<AutoCreateDefinition, ApiError> {
    Ok(parse::auto_create_alone(json)?)
}

/// Demands that the caller may create what uploads are to create: whoever carries it out needs no such right.
fn require_auto_create(caller: &Caller, source: &DataSource) -> Result<(), ApiError> {
    let Some(auto_create) = &source.policy.auto_create else { return Ok(()) };
    if auto_create.versions {
        caller.require(Scope::Admin, Resource::DataSourceVersions(&source.id.name))?;
    }
    for template in &auto_create.indices {
        match auto_create.versions {
            // Each version of the data source has them in its own version.
            true => caller.require(Scope::Admin, Resource::IndexVersions(&template.name))?,
            false => caller.require(Scope::Admin, Resource::Index(&template.index(&source.id)?.id))?,
        }
    }
    Ok(())
}

/// Describes a data source.
#[utoipa::path(get, path = "/api/v1/data-sources/{name}/{version}", tag = "Data sources",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = DataSourceDescriptionDto), (status = 404, body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto)))]
pub(crate) async fn describe_data_source(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Result<Json<DataSourceDescriptionDto>, ApiError> {
    let id = source_id(path)?;
    caller.require(Scope::Read, Resource::DataSource(&id))?;
    let source = load_source(state.store(), &id).await?.ok_or_else(|| source_not_found(&id))?;
    let timeline = tarn_timeline::Timeline::open(state.store().clone(), source.clone());
    let head = timeline.head().await?;
    let checkpoint = latest_checkpoint(state.store(), &id, None).await?.map(|checkpoint| CheckpointDto {
        generation: checkpoint.generation,
        watermark: checkpoint.watermark.to_string(),
        data_points_count: checkpoint.rows,
        bytes: checkpoint.files.iter().map(|file| file.data.bytes).sum(),
    });
    let indices = indices_over(&state, &id).await?;
    let readable = indices.into_iter().filter(|index| caller.may(Scope::Read, Resource::Index(index)));
    let DataSourceDto { id, definition } = source_dto(&source);
    let indices = readable.map(|id| NameVersionDto { name: id.name, version: id.version }).collect();
    Ok(Json(DataSourceDescriptionDto { id, definition, head: head.to_string(), checkpoint, indices }))
}

/// Deletes a data source that has no indices.
#[utoipa::path(delete, path = "/api/v1/data-sources/{name}/{version}", tag = "Data sources",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = 404, body = ErrorDto),
        (status = 409, description = "Indices are built from it", body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto)))]
pub(crate) async fn delete_data_source(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id = source_id(path)?;
    caller.require(Scope::Admin, Resource::DataSource(&id))?;
    if load_source(state.store(), &id).await?.is_none() {
        return Err(source_not_found(&id));
    }
    let indices = indices_over(&state, &id).await?;
    if !indices.is_empty() {
        // Whoever may delete the data source need not know every index over it.
        let may_read = |index: &&IndexId| caller.may(Scope::Read, Resource::Index(index));
        let mut names: Vec<String> = indices.iter().filter(may_read).map(ToString::to_string).collect();
        match indices.len() - names.len() {
            0 => {}
            hidden => names.push(format!("{hidden} that the API key may not read")),
        }
        return Err(ApiError::conflict(vec![format!(
            "Data source {id} has indices; delete them first: {}",
            names.join(", ")
        )]));
    }
    state.sources().forget(&id);
    match tarn_store::delete_source(state.store(), &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(source_not_found(&id)),
    }
}

/// Lists the indices that the caller may read.
#[utoipa::path(get, path = "/api/v1/indices", tag = "Indices", params(
        ("limit" = Option<u32>, Query, description = "Most entries, 100 unless given", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = IndicesDto), (status = 400, body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto), (status = 401, body = ErrorDto)))]
pub(crate) async fn list_indices(
    State(state): State<AppState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<IndicesDto>, ApiError> {
    let page = Page::parse(query.as_deref())?;
    let indices = stored_indices(state.store()).await?;
    let readable = indices.iter().filter(|index| caller.may(Scope::Read, Resource::Index(&index.id)));
    let (indices, next) = page.cut(readable, |index| (&index.id.name, &index.id.version));
    Ok(Json(IndicesDto { indices: indices.into_iter().map(|index| index_dto(index)).collect(), next }))
}

/// Creates an index over a data source.
///
/// Repeating the request is harmless. Definitions do not change: use a new version. Points are found at once, and faster
/// after the next build.
#[utoipa::path(put, path = "/api/v1/indices/{name}/{version}", tag = "Indices",
    params(("name" = String, Path, min_length = 1), ("version" = String, Path, min_length = 1)),
    request_body = IndexDefinitionDto,
    responses((status = 201, description = "Created", body = IndexDto),
        (status = 200, description = "The same was there", body = IndexDto),
        (status = 404, description = "The data source does not exist", body = ErrorDto),
        (status = 409, description = "Another definition has this name and version", body = ErrorDto),
        (status = 400, body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto), (status = 401, body = ErrorDto), (status = 403, body = ErrorDto),
        (status = 413, body = ErrorDto), (status = 415, body = ErrorDto)))]
pub(crate) async fn put_index(
    State(state): State<AppState>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let id = IndexId::new(name, version)?;
    caller.require(Scope::Admin, Resource::Index(&id))?;
    let body = definition_body(&state, &headers, body).await?;
    let definition = parse::index(body.bytes())?;
    let source_id = definition.data_source()?;
    // An index shows what is in its data source: whoever makes one must be allowed to read that.
    caller.require(Scope::Read, Resource::DataSource(&source_id))?;
    let source = load_source(state.store(), &source_id).await?.ok_or_else(|| source_not_found(&source_id))?;
    let index = definition.into_index(id, &source)?;
    let defined = create_index(state.store(), &index).await?;
    let stored = async { Ok(load_index(state.store(), &index.id).await?.map(|stored| index_dto(&stored))) };
    let what = format!("Index {}", index.id);
    put_answer(&what, defined, index_dto(&index), |dto| &dto.definition, stored).await
}

/// Deletes an index. Its data source keeps its points.
#[utoipa::path(delete, path = "/api/v1/indices/{name}/{version}", tag = "Indices",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = 404, body = ErrorDto),
        (status = 429, body = ErrorDto), (status = 503, body = ErrorDto),
        (status = 401, body = ErrorDto), (status = 403, body = ErrorDto)))]
pub(crate) async fn delete_index(
    State(state): State<AppState>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let id = index_id(path)?;
    caller.require(Scope::Admin, Resource::Index(&id))?;
    match tarn_store::delete_index(state.store(), &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(index_not_found(&id)),
    }
}

async fn indices_over(state: &AppState, id: &DataSourceId) -> Result<Vec<IndexId>, ApiError> {
    let indices = stored_indices(state.store()).await?;
    Ok(indices.iter().filter(|index| index.data_source == *id).map(|index| index.id.clone()).collect())
}

fn source_dto(source: &DataSource) -> DataSourceDto {
    let id = NameVersionDto { name: source.id.name.clone(), version: source.id.version.clone() };
    DataSourceDto { id, definition: source.into() }
}

fn index_dto(index: &tarn_model::Index) -> IndexDto {
    let id = NameVersionDto { name: index.id.name.clone(), version: index.id.version.clone() };
    IndexDto { id, definition: index.into() }
}

/// The body of a PUT.
async fn definition_body(state: &AppState, headers: &HeaderMap, body: Body) -> Result<HeldBody, ApiError> {
    MediaType::require_json(headers)?;
    state.read_body(body).await
}

/// The answer to a PUT. `stored` looks up what is there when it is something else than was sent.
async fn put_answer<T: Serialize, D: Serialize>(
    what: &str,
    defined: Defined,
    sent: T,
    definition: impl Fn(&T) -> &D,
    stored: impl Future<Output = Result<Option<T>, StoreError>>,
) -> Result<Response, ApiError> {
    let status = match defined {
        Defined::Created => StatusCode::CREATED,
        Defined::Same => StatusCode::OK,
        Defined::Deleted => {
            return Err(ApiError::conflict(vec![format!(
                "{what} was deleted, and its name and version are free again only after garbage collection; use a new \
                 version"
            )]));
        }
        Defined::Differs => {
            let stored = stored.await?;
            let mut messages =
                vec![format!("{what} exists with another definition; definitions do not change, use a new version")];
            messages.extend(differences(stored.as_ref().map(&definition), definition(&sent)));
            return Err(ApiError::conflict(messages));
        }
    };
    Ok((status, Json(sent)).into_response())
}
