//! The checks on uploads and searches, with Vektonn's messages to the letter.
//!
//! Two ways in, one set of rules: `WirePoint` and `WireSearch` become domain values or messages; domain values, which come
//! from columns or from code, get the same messages. Messages come in the order in which Vektonn's rules run. What Vektonn
//! accepts and Tarn cannot store (a string beyond the limit, a coordinate too large to square) has messages of its own.
//!
//! Not here: the length of a point key, which [`crate::PointKey::encode`] checks.

use std::collections::{BTreeMap, BTreeSet};

use crate::attribute::{AttributeType, AttributeValue, Attributes};
use crate::error::ValidationError;
use crate::index::Index;
use crate::limits;
use crate::point::{DataPoint, Update};
use crate::source::DataSource;
use crate::vector::{SparseVector, Vector, VectorKind};
use crate::wire::{WireAttribute, WirePoint, WireSearch, WireVector};

const POINT: &str = "InputDataPoint";
const SPLIT_FILTER: &str = "SplitFilter";
const NOT_UNIQUE: &str = "Attribute keys must be unique";
const NOT_ALL: &str = "All attributes defined for data source (and no other ones) must be specified";
const MUST_BE_DENSE: &str = "Vector must be dense";
const MUST_BE_SPARSE: &str = "Vector must be sparse";

/// A search whose parts are known to fit the index.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedSearch {
    /// Values for some of the index's split attributes.
    pub split_filter: Attributes,
    /// At least one.
    pub queries: Vec<Vector>,
    /// 1 to [`limits::K`].
    pub k: u32,
}

/// Checks one point of an upload. An upload is refused with the messages of its first bad point.
///
/// # Errors
/// Every message that applies to the point.
pub fn check_wire_point(source: &DataSource, point: WirePoint) -> Result<Update, ValidationError> {
    let mut messages = Vec::new();
    let keys: BTreeSet<Option<&str>> = point.attributes.iter().map(|attribute| attribute.key.as_deref()).collect();
    if keys.len() != point.attributes.len() {
        messages.push(NOT_UNIQUE.to_owned());
    }
    let named: Option<BTreeSet<&str>> = keys.into_iter().collect();
    if !named.is_some_and(|named| is_complete(source, &named, point.is_deleted)) {
        messages.push(NOT_ALL.to_owned());
    }
    let mut attributes = Attributes::new();
    // More than that are not unique or not defined, and refused already; the messages stay few.
    for attribute in point.attributes.iter().take(limits::ATTRIBUTES) {
        if let Some((key, value)) = check_wire_attribute(POINT, &source.attribute_types, attribute, &mut messages) {
            check_sharder(POINT, source, key, &value, &mut messages);
            attributes.insert(key.to_owned(), value);
        }
    }
    if point.is_deleted == point.vector.is_some() {
        messages.push("IsDeleted is inconsistent with Vector".to_owned());
    }
    let vector = match point.vector.map(|vector| check_wire_vector(source, vector)) {
        Some(Ok(vector)) => Some(vector),
        Some(Err(error)) => {
            messages.extend(error.messages);
            None
        }
        None => None,
    };
    ValidationError::from_messages(messages)?;
    Ok(match vector {
        Some(vector) => Update::Upsert(DataPoint { attributes, vector }),
        None => Update::Delete(attributes),
    })
}

/// Checks a search.
///
/// # Errors
/// Every message that applies; of several bad query vectors, the first one's.
pub fn check_wire_search(
    source: &DataSource,
    index: &Index,
    search: WireSearch,
) -> Result<CheckedSearch, ValidationError> {
    let mut messages = Vec::new();
    let k = check_k_and_count(search.k, search.query_vectors.len(), &mut messages);
    let split_filter = wire_split_filter(source, index, &search.split_filter, &mut messages);
    let queries: Result<Vec<_>, _> =
        search.query_vectors.into_iter().map(|vector| check_wire_vector(source, vector)).collect();
    match queries {
        Ok(queries) if messages.is_empty() => Ok(CheckedSearch { split_filter, queries, k }),
        Ok(_) => Err(ValidationError { messages }),
        Err(error) => {
            messages.extend(error.messages);
            Err(ValidationError { messages })
        }
    }
}

/// Checks a split filter that no search comes with.
///
/// # Errors
/// Every message that applies.
pub fn check_wire_split_filter(
    source: &DataSource,
    index: &Index,
    filter: &[WireAttribute],
) -> Result<Attributes, ValidationError> {
    let mut messages = Vec::new();
    let checked = wire_split_filter(source, index, filter, &mut messages);
    ValidationError::from_messages(messages)?;
    Ok(checked)
}

/// Checks a vector and sorts it when it is sparse.
///
/// # Errors
/// The first message that applies.
pub fn check_wire_vector(source: &DataSource, vector: WireVector) -> Result<Vector, ValidationError> {
    match (source.vector_kind, vector) {
        (VectorKind::Dense, WireVector::Dense(coordinates)) => {
            check_dense(source.vector_dimension, &coordinates)?;
            Ok(Vector::Dense(coordinates))
        }
        (VectorKind::Sparse, WireVector::Sparse { coordinates, indices }) => {
            check_sparse(source.vector_dimension, &indices, &coordinates)?;
            // All are in range now, so that none is lost.
            let indices = indices.into_iter().filter_map(|index| u32::try_from(index).ok());
            Ok(Vector::Sparse(SparseVector::from_pairs(indices.zip(coordinates))))
        }
        (VectorKind::Dense, WireVector::Sparse { .. }) => Err(ValidationError::one(MUST_BE_DENSE)),
        (VectorKind::Sparse, WireVector::Dense(_)) => Err(ValidationError::one(MUST_BE_SPARSE)),
    }
}

/// Checks an update that did not come over the wire.
///
/// # Errors
/// Every message that applies.
pub fn check_update(source: &DataSource, update: &Update) -> Result<(), ValidationError> {
    let (attributes, vector) = match update {
        Update::Upsert(point) => (&point.attributes, Some(&point.vector)),
        Update::Delete(attributes) => (attributes, None),
    };
    let mut messages = Vec::new();
    if let Err(error) = check_attributes(source, attributes, vector.is_none()) {
        messages.extend(error.messages);
    }
    if let Some(Err(error)) = vector.map(|vector| check_vector(source, vector)) {
        messages.extend(error.messages);
    }
    ValidationError::from_messages(messages)
}

/// Checks the attributes of an upsert or of a tombstone (`is_deleted`).
///
/// # Errors
/// Every message that applies.
pub fn check_attributes(source: &DataSource, attributes: &Attributes, is_deleted: bool) -> Result<(), ValidationError> {
    let mut messages = Vec::new();
    if !is_complete(source, &attributes.keys().map(String::as_str).collect(), is_deleted) {
        messages.push(NOT_ALL.to_owned());
    }
    for (key, value) in attributes {
        if check_attribute(POINT, &source.attribute_types, key, value, &mut messages) {
            check_sharder(POINT, source, key, value, &mut messages);
        }
    }
    ValidationError::from_messages(messages)
}

/// Checks a vector, of a point or of a query, against the data source.
///
/// # Errors
/// The first message that applies. Indices that are not ascending are a duplicate or a caller's mistake; both are refused.
pub fn check_vector(source: &DataSource, vector: &Vector) -> Result<(), ValidationError> {
    match (source.vector_kind, vector) {
        (VectorKind::Dense, Vector::Dense(coordinates)) => check_dense(source.vector_dimension, coordinates),
        (VectorKind::Sparse, Vector::Sparse(sparse)) => {
            check_sparse(source.vector_dimension, &sparse.indices, &sparse.values)?;
            if !sparse.indices.is_sorted() {
                return Err(ValidationError::one("Vector coordinate indices must be ascending"));
            }
            Ok(())
        }
        (VectorKind::Dense, Vector::Sparse(_)) => Err(ValidationError::one(MUST_BE_DENSE)),
        (VectorKind::Sparse, Vector::Dense(_)) => Err(ValidationError::one(MUST_BE_SPARSE)),
    }
}

/// Checks the domain values of a search.
///
/// # Errors
/// Every message that applies; of several bad query vectors, the first one's.
pub fn check_search(
    source: &DataSource,
    index: &Index,
    split_filter: &Attributes,
    queries: &[Vector],
    k: u32,
) -> Result<(), ValidationError> {
    let mut messages = Vec::new();
    check_k_and_count(i64::from(k), queries.len(), &mut messages);
    if let Err(error) = check_split_filter(source, index, split_filter) {
        messages.extend(error.messages);
    }
    if let Some(error) = queries.iter().find_map(|query| check_vector(source, query).err()) {
        messages.extend(error.messages);
    }
    ValidationError::from_messages(messages)
}

/// Checks the domain values of a split filter that no search comes with.
///
/// # Errors
/// Every message that applies.
pub fn check_split_filter(source: &DataSource, index: &Index, filter: &Attributes) -> Result<(), ValidationError> {
    if !filter.keys().all(|key| index.split_attributes.contains(key)) {
        return Err(ValidationError::one(not_in_split_attributes(index)));
    }
    let mut messages = Vec::new();
    let types = split_types(source, index);
    for (key, value) in filter {
        if check_attribute(SPLIT_FILTER, &types, key, value, &mut messages) {
            check_sharder(SPLIT_FILTER, source, key, value, &mut messages);
        }
    }
    ValidationError::from_messages(messages)
}

/// Checks the coordinates of a dense vector.
///
/// # Errors
/// The first message that applies.
pub fn check_dense(dimension: u32, coordinates: &[f32]) -> Result<(), ValidationError> {
    if u32::try_from(coordinates.len()) != Ok(dimension) {
        return Err(wrong_dimension(dimension));
    }
    let bad = |value: &f32| value.is_nan() || value.abs() > limits::DENSE_COORDINATE;
    match coordinates.iter().position(bad) {
        Some(at) => Err(bad_coordinate(at, f64::from(coordinates[at]), f64::from(limits::DENSE_COORDINATE))),
        None => Ok(()),
    }
}

/// Checks the coordinates of a sparse vector, whose indices may be in any order.
///
/// # Errors
/// The first message that applies.
pub fn check_sparse<I: Copy + Ord + Into<i64>>(
    dimension: u32,
    indices: &[I],
    values: &[f64],
) -> Result<(), ValidationError> {
    if values.is_empty() {
        return Err(ValidationError::one("Vector must have coordinates"));
    }
    if values.len() > limits::SPARSE_COORDINATES {
        return Err(ValidationError::one(format!(
            "Vector has {} coordinates; at most {} are allowed",
            values.len(),
            limits::SPARSE_COORDINATES
        )));
    }
    if indices.len() != values.len() || !is_unique(indices) {
        return Err(ValidationError::one("Each vector coordinate value must have unique corresponding index"));
    }
    if !indices.iter().all(|&index| (0..i64::from(dimension)).contains(&index.into())) {
        return Err(wrong_dimension(dimension));
    }
    let bad = |value: &f64| value.is_nan() || value.abs() > limits::SPARSE_COORDINATE;
    match values.iter().position(bad) {
        Some(at) => Err(bad_coordinate(at, values[at], limits::SPARSE_COORDINATE)),
        None => Ok(()),
    }
}

fn is_unique<I: Copy + Ord>(indices: &[I]) -> bool {
    if indices.is_sorted_by(|a, b| a < b) {
        return true;
    }
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    sorted.is_sorted_by(|a, b| a < b)
}

fn wrong_dimension(dimension: u32) -> ValidationError {
    ValidationError::one(format!("Vector coordinates must have dimension: {dimension}"))
}

fn bad_coordinate(at: usize, value: f64, most: f64) -> ValidationError {
    ValidationError::one(if value.is_nan() {
        format!("Vector coordinate {at} is not a number")
    } else {
        format!("Vector coordinate {at} is {value:e}; magnitudes up to {most:e} are allowed")
    })
}

/// Whether an upsert names all attributes and no other, or a tombstone at least the permanent ones and no unknown one.
fn is_complete(source: &DataSource, named: &BTreeSet<&str>, is_deleted: bool) -> bool {
    let unknown = named.iter().any(|key| !source.attribute_types.contains_key(*key));
    let enough = if is_deleted {
        source.permanent_attributes.iter().all(|key| named.contains(key.as_str()))
    } else {
        source.attribute_types.keys().all(|key| named.contains(key.as_str()))
    };
    enough && !unknown
}

fn check_wire_attribute<'a>(
    prefix: &str,
    known: &BTreeMap<String, AttributeType>,
    attribute: &'a WireAttribute,
    messages: &mut Vec<String>,
) -> Option<(&'a str, AttributeValue)> {
    let key = attribute.key.as_deref().unwrap_or_default();
    let attribute_type = known_type(prefix, known, key, messages)?;
    match attribute.value.typed(attribute_type) {
        None => {
            messages.push(invalid(prefix, key, &attribute.value.to_string()));
            None
        }
        Some(value) => check_value(prefix, key, &value, messages).then_some((key, value)),
    }
}

fn check_attribute(
    prefix: &str,
    known: &BTreeMap<String, AttributeType>,
    key: &str,
    value: &AttributeValue,
    messages: &mut Vec<String>,
) -> bool {
    match known_type(prefix, known, key, messages) {
        None => false,
        Some(attribute_type) if attribute_type != value.attribute_type() => {
            messages.push(invalid(prefix, key, &value.to_string()));
            false
        }
        Some(_) => check_value(prefix, key, value, messages),
    }
}

fn known_type(
    prefix: &str,
    known: &BTreeMap<String, AttributeType>,
    key: &str,
    messages: &mut Vec<String>,
) -> Option<AttributeType> {
    if key.trim().is_empty() {
        messages.push(format!("{prefix} attribute key is null or whitespace"));
        return None;
    }
    let attribute_type = known.get(key).copied();
    if attribute_type.is_none() {
        messages.push(format!("{prefix} attribute key is unknown: '{}'", shown(key)));
    }
    attribute_type
}

fn check_value(prefix: &str, key: &str, value: &AttributeValue, messages: &mut Vec<String>) -> bool {
    let problem = value.problem();
    let good = problem.is_none();
    messages.extend(problem.map(|problem| format!("{prefix} attribute '{key}' has invalid value: {problem}")));
    good
}

fn check_sharder(prefix: &str, source: &DataSource, key: &str, value: &AttributeValue, messages: &mut Vec<String>) {
    if source.sharders.get(key).is_some_and(|sharder| !sharder.accepts(value)) {
        messages.push(format!(
            "{prefix} attribute '{key}' has unacceptable value '{}' for corresponding sharder",
            shown(&value.to_string())
        ));
    }
}

fn invalid(prefix: &str, key: &str, value: &str) -> String {
    format!("{prefix} attribute '{key}' has invalid value: '{}'", shown(value))
}

/// A message quotes what it refuses, but not megabytes of it.
fn shown(text: &str) -> String {
    const MOST: usize = 1_000;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

fn check_k_and_count(k: i64, queries: usize, messages: &mut Vec<String>) -> u32 {
    if k <= 0 {
        messages.push("K must be positive".to_owned());
    } else if k > i64::from(limits::K) {
        messages.push(format!("K must be at most {}", limits::K));
    }
    if queries == 0 {
        messages.push("At least one query vector is required".to_owned());
    } else if queries > limits::QUERY_VECTORS {
        messages.push(format!("{queries} query vectors are given; at most {} are allowed", limits::QUERY_VECTORS));
    }
    u32::try_from(k).unwrap_or_default()
}

fn wire_split_filter(
    source: &DataSource,
    index: &Index,
    filter: &[WireAttribute],
    messages: &mut Vec<String>,
) -> Attributes {
    let known =
        |attribute: &WireAttribute| attribute.key.as_ref().is_some_and(|key| index.split_attributes.contains(key));
    if !filter.iter().all(known) {
        messages.push(not_in_split_attributes(index));
        return Attributes::new();
    }
    let keys: BTreeSet<_> = filter.iter().map(|attribute| &attribute.key).collect();
    if keys.len() != filter.len() {
        messages.push("SplitFilter attribute keys must be unique".to_owned());
        return Attributes::new();
    }
    let types = split_types(source, index);
    let mut checked = Attributes::new();
    for attribute in filter {
        if let Some((key, value)) = check_wire_attribute(SPLIT_FILTER, &types, attribute, messages) {
            check_sharder(SPLIT_FILTER, source, key, &value, messages);
            checked.insert(key.to_owned(), value);
        }
    }
    checked
}

fn split_types(source: &DataSource, index: &Index) -> BTreeMap<String, AttributeType> {
    let types = source.attribute_types.iter().filter(|(key, _)| index.split_attributes.contains(*key));
    types.map(|(key, &attribute_type)| (key.clone(), attribute_type)).collect()
}

fn not_in_split_attributes(index: &Index) -> String {
    let keys: Vec<&str> = index.split_attributes.iter().map(String::as_str).collect();
    format!("SplitFilter attribute keys must be in SplitAttributes: {{{}}}", keys.join(", "))
}

#[cfg(test)]
mod tests;
