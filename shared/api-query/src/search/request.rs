//! A search, from JSON.

use tarn_api::ApiError;
use tarn_api::json::{JsonError, Reader, read_attributes, read_tree, read_vector};
use tarn_model::{
    CheckedSearch, DataSource, Filter, Index, ReadToken, VectorKind, WireSearch, WireVector, check_wire_search, limits,
};
use tarn_search::{Consistency, SearchRequest};

use super::shape::ShapeFields;
use crate::sample::read_generation;

/// A search that fits its index.
pub(super) struct Parsed {
    /// For the engine.
    pub(super) request: SearchRequest,
    /// The query vectors as they came.
    pub(super) echo: Vec<WireVector>,
    /// The search of another index beside this one, if there is to be one.
    pub(super) beside: Option<serde_json::Value>,
}

/// What the vectors of a data source are.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) dense: bool,
    /// Of dense ones.
    pub(super) dimension: usize,
}

#[derive(Default)]
struct Extras {
    filter: Option<serde_json::Value>,
    consistency: Option<String>,
    min_version: Option<String>,
    exact: bool,
    target_recall: Option<f64>,
    ef_search: Option<u32>,
    nprobe: Option<u32>,
    deadline_ms: Option<f64>,
    attributes: Option<Vec<String>>,
    retrieve_vectors: Option<bool>,
    explain: bool,
    as_of: Option<u64>,
    shape: ShapeFields,
}

/// Parses and checks a search.
pub(super) fn parse(bytes: &[u8], index: &Index, source: &DataSource) -> Result<Parsed, ApiError> {
    let (mut search, extras) = read(bytes, source)?;
    let mut echo = search.query_vectors.clone();
    let by_ids = echo.is_empty() && extras.shape.has_ids();
    if by_ids {
        // The check wants a vector; the stored points bring theirs.
        search.query_vectors.push(super::wire_vector(&source.zero_vector()));
    }
    let CheckedSearch { split_filter, mut queries, k } = check_wire_search(source, index, search)?;
    if by_ids {
        queries.clear();
        echo.clear();
    }
    let mut request = SearchRequest::new(queries, k);
    request.ranking = extras.shape.ranking()?;
    let (shape, beside) = extras.shape.shape(source)?;
    request.shape = shape;
    request.split_filter = split_filter;
    request.filter = extras.filter.map(|json| Filter::from_json(&json, source)).transpose()?;
    // Absent means true: Vektonn's own client leaves it out when it is true.
    request.retrieve_vectors = extras.retrieve_vectors.unwrap_or(true);
    super::check_size(&request, source)?;
    request.consistency = match extras.consistency {
        None => Consistency::Strong,
        Some(text) if text.eq_ignore_ascii_case("strong") => Consistency::Strong,
        Some(text) if text.eq_ignore_ascii_case("eventual") => Consistency::Eventual,
        Some(_) => return Err(ApiError::invalid("consistency must be 'strong' or 'eventual'")),
    };
    request.min_version = extras.min_version.map(|text| text.parse::<ReadToken>()).transpose()?;
    request.exact = extras.exact;
    request.target_recall = match extras.target_recall {
        None => None,
        #[allow(clippy::cast_possible_truncation)]
        Some(recall) if recall > 0.0 && recall <= 1.0 => Some(recall as f32),
        Some(_) => return Err(ApiError::invalid("targetRecall must be above 0 and at most 1")),
    };
    request.ef_search = match extras.ef_search {
        Some(ef) if !(1..=limits::HNSW_EF).contains(&ef) => {
            return Err(ApiError::invalid(format!("efSearch must be from 1 to {}", limits::HNSW_EF)));
        }
        ef => ef,
    };
    request.nprobe = match extras.nprobe {
        Some(0) => return Err(ApiError::invalid("nprobe must be at least 1")),
        nprobe => nprobe,
    };
    request.deadline = super::deadline(extras.deadline_ms)?;
    let mut keys = extras.attributes.iter().flatten();
    if let Some(key) = keys.find(|key| !source.attribute_types.contains_key(*key)) {
        let key: String = key.chars().take(80).collect();
        return Err(ApiError::invalid(format!("attributes: '{key}' is not an attribute of the data source")));
    }
    request.attributes = extras.attributes;
    request.explain = extras.explain;
    request.as_of = extras.as_of;
    Ok(Parsed { request, echo, beside })
}

fn read(bytes: &[u8], source: &DataSource) -> Result<(WireSearch, Extras), JsonError> {
    let dense = source.vector_kind == VectorKind::Dense;
    let dimension = if dense { source.vector_dimension as usize } else { 0 };
    let kind = Kind { dense, dimension };
    let mut reader = Reader::new(bytes)?;
    let (mut search, mut extras) = (WireSearch::default(), Extras::default());
    reader.object::<JsonError>("a search", |r, name| {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("splitFilter") {
            search.split_filter = read_attributes(r)?;
        } else if is("queryVectors") {
            search.query_vectors.clear();
            if !r.null()? {
                r.array("queryVectors", |r| {
                    if search.query_vectors.len() > limits::QUERY_VECTORS {
                        // One too many is enough for the check to refuse them.
                        return r.skip();
                    }
                    read_vector(r, dense, dimension).map(|vector| search.query_vectors.push(vector))
                })?;
            }
        } else if is("k") {
            search.k = r.optional(|r| r.integer::<i32>("k"))?.unwrap_or_default().into();
        } else if is("retrieveVectors") {
            extras.retrieve_vectors = r.optional(|r| r.boolean("retrieveVectors"))?;
        } else if is("filter") {
            extras.filter = r.optional(read_tree)?;
        } else if is("consistency") {
            extras.consistency = r.optional(|r| r.string("consistency").map(|text| text.into_owned()))?;
        } else if is("minVersion") {
            extras.min_version = r.optional(read_version)?;
        } else if is("exact") {
            extras.exact = r.optional(|r| r.boolean("exact"))?.unwrap_or_default();
        } else if is("targetRecall") {
            extras.target_recall = r.optional(|r| r.f64("targetRecall"))?;
        } else if is("efSearch") {
            extras.ef_search = r.optional(|r| r.integer("efSearch"))?;
        } else if is("nprobe") {
            extras.nprobe = r.optional(|r| r.integer("nprobe"))?;
        } else if is("deadlineMs") {
            extras.deadline_ms = r.optional(|r| r.f64("deadlineMs"))?;
        } else if is("attributes") {
            extras.attributes = r.optional(read_keys)?;
        } else if is("explain") {
            extras.explain = r.optional(|r| r.boolean("explain"))?.unwrap_or_default();
        } else if is("asOf") {
            extras.as_of = read_generation(r)?;
        } else if !extras.shape.read(name, r, kind)? {
            r.skip()?;
        }
        Ok(())
    })?;
    reader.end()?;
    Ok((search, extras))
}

/// Reads the search of an index beside: what it has of vectors and filters, and what it is ranked by.
pub(super) fn read_beside(
    bytes: &[u8],
    source: &DataSource,
) -> Result<(WireSearch, ShapeFields, Option<serde_json::Value>), JsonError> {
    let (search, extras) = read(bytes, source)?;
    Ok((search, extras.shape, extras.filter))
}

/// A version is text, and looks like a number as long as there is one lane.
fn read_version(reader: &mut Reader<'_>) -> Result<String, JsonError> {
    match reader.peek()? {
        tarn_api::json::Kind::Number => reader.number("minVersion").map(|text| text.into_owned()),
        _ => reader.string("minVersion").map(|text| text.into_owned()),
    }
}

fn read_keys(reader: &mut Reader<'_>) -> Result<Vec<String>, JsonError> {
    let mut keys = Vec::new();
    reader.array("attributes", |r| r.string("an attribute's key").map(|key| keys.push(key.into_owned())))?;
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}
