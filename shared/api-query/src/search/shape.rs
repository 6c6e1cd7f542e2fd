//! Scores and shapes of a search, from JSON: score, groups, context, combination, stored points, a second index.

use serde_json::Value;
use tarn_api::json::{JsonError, Reader, read_attributes, read_tree, read_vector};
use tarn_api::{ApiError, index_id};
use tarn_model::{
    Attributes, CheckedSearch, DataSource, Filter, Index, IndexId, ValidationError, WireAttribute, WireVector,
    check_wire_search, check_wire_vector, limits,
};
use tarn_search::{Beside, Combine, GroupScore, Grouping, Ranking, Shape};

use super::request::{Kind, read_beside};

/// What of a search says how it is ranked and shaped, as it came.
#[derive(Default)]
pub(super) struct ShapeFields {
    score: Option<String>,
    higher_is_better: Option<bool>,
    group_by: Option<String>,
    group_limit: Option<u32>,
    group_score: Option<String>,
    group_filter: Option<Value>,
    result_limit: Option<u32>,
    query_ids: Vec<Vec<WireAttribute>>,
    context: Vec<WireVector>,
    prioritize: bool,
    combine: Option<String>,
    beside: Option<Value>,
}

impl ShapeFields {
    /// Reads a field if it is one of these; says whether it is.
    pub(super) fn read(&mut self, name: &str, r: &mut Reader<'_>, kind: Kind) -> Result<bool, JsonError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let text = |r: &mut Reader<'_>, what: &str| r.optional(|r| r.string(what).map(|text| text.into_owned()));
        if is("score") {
            self.score = text(r, "score")?;
        } else if is("higherIsBetter") {
            self.higher_is_better = r.optional(|r| r.boolean("higherIsBetter"))?;
        } else if is("groupBy") {
            self.group_by = text(r, "groupBy")?;
        } else if is("groupLimit") {
            self.group_limit = r.optional(|r| r.integer("groupLimit"))?;
        } else if is("groupScore") {
            self.group_score = text(r, "groupScore")?;
        } else if is("groupFilter") {
            self.group_filter = r.optional(read_tree)?;
        } else if is("resultLimit") {
            self.result_limit = r.optional(|r| r.integer("resultLimit"))?;
        } else if is("queryIds") {
            self.query_ids.clear();
            if !r.null()? {
                // One too many is enough for the check to refuse them.
                r.array("queryIds", |r| match self.query_ids.len() > limits::QUERY_VECTORS {
                    true => r.skip(),
                    false => read_attributes(r).map(|id| self.query_ids.push(id)),
                })?;
            }
        } else if is("context") {
            self.context.clear();
            if !r.null()? {
                r.array("context", |r| match self.context.len() > limits::QUERY_VECTORS {
                    true => r.skip(),
                    false => read_vector(r, kind.dense, kind.dimension).map(|vector| self.context.push(vector)),
                })?;
            }
        } else if is("prioritize") {
            self.prioritize = r.optional(|r| r.boolean("prioritize"))?.unwrap_or_default();
        } else if is("combine") {
            self.combine = text(r, "combine")?;
        } else if is("beside") {
            self.beside = r.optional(read_tree)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether stored points bring query vectors.
    pub(super) fn has_ids(&self) -> bool {
        !self.query_ids.is_empty()
    }

    /// What to rank by.
    pub(super) fn ranking(&self) -> Result<Option<Ranking>, ValidationError> {
        let ranking = Ranking::new(self.score.as_deref().map(str::parse).transpose()?, self.higher_is_better);
        Ok((ranking != Ranking::default()).then_some(ranking))
    }

    /// The shape, and the search of the index beside, which is read once that index is known.
    pub(super) fn shape(self, source: &DataSource) -> Result<(Option<Box<Shape>>, Option<Value>), ApiError> {
        let combine = self.combine.as_deref().map(|text| match text.to_ascii_lowercase().as_str() {
            "best" => Ok(Combine::Best),
            "sum" => Ok(Combine::Sum),
            "reciprocalrank" => Ok(Combine::ReciprocalRank),
            _ => Err(ApiError::invalid("combine must be 'best', 'sum' or 'reciprocalRank'")),
        });
        let shape = Shape {
            query_ids: ids(&self.query_ids, source)?,
            context: self.context.into_iter().map(|v| check_wire_vector(source, v)).collect::<Result<_, _>>()?,
            prioritize: self.prioritize,
            combine: combine.transpose()?,
            grouping: grouping(self.group_by, self.group_limit, self.group_score, self.group_filter, source)?,
            result_limit: self.result_limit,
            beside: None,
        };
        let is_plain = shape == Shape::default() && self.beside.is_none();
        Ok(((!is_plain).then(|| Box::new(shape)), self.beside))
    }
}

fn grouping(
    by: Option<String>,
    limit: Option<u32>,
    score: Option<String>,
    filter: Option<Value>,
    source: &DataSource,
) -> Result<Option<Grouping>, ApiError> {
    let Some(by) = by else {
        if limit.is_some() || score.is_some() || filter.is_some() {
            return Err(ApiError::invalid(
                "groupLimit, groupScore and groupFilter want groupBy, the key of an attribute",
            ));
        }
        return Ok(None);
    };
    let score = match score.map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("best") => GroupScore::Best,
        Some("sum") => GroupScore::Sum,
        Some("sumoversquare") => GroupScore::SumOverSquare,
        Some(_) => return Err(ApiError::invalid("groupScore must be 'best', 'sum' or 'sumOverSquare'")),
    };
    let filter = filter.map(|json| Filter::from_json(&json, source)).transpose()?;
    Ok(Some(Grouping { by, limit: limit.unwrap_or(1), score, filter }))
}

/// Permanent attributes of points, typed. That none is missing is the engine's to check.
fn ids(ids: &[Vec<WireAttribute>], source: &DataSource) -> Result<Vec<Attributes>, ApiError> {
    let one = |(at, id): (usize, &Vec<WireAttribute>)| {
        let mut attributes = Attributes::new();
        for attribute in id {
            let key = attribute.key.as_deref().unwrap_or_default();
            let short: String = key.chars().take(80).collect();
            let Some(attribute_type) = source.attribute_types.get(key) else {
                return Err(ApiError::invalid(format!("queryIds[{at}]: attribute key is unknown: '{short}'")));
            };
            let Some(value) = attribute.value.typed(*attribute_type) else {
                return Err(ApiError::invalid(format!(
                    "queryIds[{at}]: attribute '{short}' has invalid value: '{}'",
                    attribute.value
                )));
            };
            if attributes.insert(key.to_owned(), value).is_some() {
                return Err(ApiError::invalid(format!("queryIds[{at}]: attribute '{short}' is there twice")));
            }
        }
        Ok(attributes)
    };
    ids.iter().enumerate().map(one).collect()
}

/// The index beside, by the tree that [`ShapeFields::shape`] gave.
pub(super) fn beside_index(tree: &Value) -> Result<IndexId, ApiError> {
    let fields = tree.as_object().into_iter().flatten();
    if let Some((name, _)) = fields.into_iter().find(|(name, _)| !BESIDE.iter().any(|f| name.eq_ignore_ascii_case(f))) {
        let short: String = name.chars().take(80).collect();
        return Err(ApiError::invalid(format!("beside has no '{short}', only {}", BESIDE.join(", "))));
    }
    let text = |name: &str| {
        let index = field(tree, "index").and_then(|index| field(index, name)).and_then(Value::as_str);
        index.map(str::to_owned).ok_or_else(|| {
            ApiError::invalid(
                "beside must name an index: {\"index\": {\"name\": …, \"version\": …}, \"queryVectors\": […]}",
            )
        })
    };
    index_id((text("name")?, text("version")?))
}

/// What a search of the index beside has of its own.
const BESIDE: [&str; 6] = ["index", "queryVectors", "splitFilter", "filter", "score", "higherIsBetter"];

fn field<'a>(tree: &'a Value, name: &str) -> Option<&'a Value> {
    tree.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The search of the index beside.
pub(super) fn beside(tree: &Value, index: &Index, source: &DataSource, k: u32) -> Result<Beside, ApiError> {
    let bytes = serde_json::to_vec(tree).map_err(|error| {
        tracing::error!(%error, "a tree cannot be written as JSON");
        ApiError::internal()
    })?;
    let said = |error: ValidationError| ValidationError {
        messages: error.messages.into_iter().map(|message| format!("beside: {message}")).collect(),
    };
    // Where in this text something is wrong says nothing: nobody has sent it.
    let (mut search, fields, filter) =
        read_beside(&bytes, source).map_err(|error| ApiError::invalid(format!("beside: {}", error.what)))?;
    search.k = k.into();
    let CheckedSearch { split_filter, queries, .. } = check_wire_search(source, index, search).map_err(said)?;
    let filter = filter.map(|json| Filter::from_json(&json, source)).transpose().map_err(said)?;
    let ranking = fields.ranking().map_err(said)?;
    Ok(Beside { index: index.id.clone(), queries, split_filter, filter, ranking })
}
