//! Whether a request fits its index. Checked before anything of a size that the request names is allocated.
//!
//! `tarn_model::check_search` checks what Vektonn's searches have, with its texts; here is what Tarn adds.

use tarn_model::{AttributeType, AttributeValue, Attributes, CompareOp, DataSource, Filter, ValidationError, limits};

use crate::definition::Definition;
use crate::points::PointsRequest;
use crate::ranking;
use crate::request::SearchRequest;
use crate::sample::SampleRequest;

/// Everything about a search that does not depend on the data.
///
/// # Errors
/// Every message that applies.
pub(crate) fn check_search(request: &SearchRequest, definition: &Definition) -> Result<(), ValidationError> {
    let source = &definition.source;
    let basics =
        tarn_model::check_search(source, &definition.index, &request.split_filter, &request.queries, request.k);
    let mut messages = basics.err().map_or_else(Vec::new, |error| error.messages);
    if let Some(filter) = &request.filter {
        check_filter(filter, source, &mut messages);
    }
    ranking::check(request, definition, &mut messages);
    if let Some(round) = &request.round {
        round.check(source, &mut messages);
    }
    check_effort(request.target_recall, request.ef_search, request.nprobe, &mut messages);
    for name in request.attributes.iter().flatten() {
        if !source.attribute_types.contains_key(name) {
            messages.push(format!("attributes names '{}', which the data source does not have", shorten(name)));
        }
    }
    ValidationError::from_messages(messages)
}

/// Everything about a page that does not depend on the data.
///
/// # Errors
/// Every message that applies.
pub(crate) fn check_points(request: &PointsRequest, definition: &Definition) -> Result<(), ValidationError> {
    let source = &definition.source;
    let mut messages = Vec::new();
    if request.limit == 0 || request.limit > limits::K {
        messages.push(format!("limit must be 1 to {}", limits::K));
    }
    check_split_filter(&request.split_filter, definition, &mut messages);
    if let Some(filter) = &request.filter {
        check_filter(filter, source, &mut messages);
    }
    ValidationError::from_messages(messages)
}

/// Which points are read.
///
/// # Errors
/// Every message that applies.
pub(crate) fn check_scope(
    split_filter: &Attributes,
    filter: Option<&Filter>,
    shard: Option<&str>,
    definition: &Definition,
) -> Result<(), ValidationError> {
    let mut messages = Vec::new();
    check_split_filter(split_filter, definition, &mut messages);
    if let Some(filter) = filter {
        check_filter(filter, &definition.source, &mut messages);
    }
    if let Some(shard) = shard.filter(|shard| definition.shard_position(shard).is_none()) {
        messages.push(format!("the index has no shard '{}'", shorten(shard)));
    }
    ValidationError::from_messages(messages)
}

/// A sample that is answered as a whole.
///
/// # Errors
/// [`ValidationError`] when it is empty or too large.
pub(crate) fn check_sample(request: &SampleRequest) -> Result<(), ValidationError> {
    if request.sample.n == 0 || request.sample.n > u64::from(limits::K) {
        return Err(ValidationError::one(format!(
            "n must be 1 to {}; a larger sample is streamed: ask for NDJSON, Arrow or Parquet",
            limits::K
        )));
    }
    Ok(())
}

fn check_split_filter(filter: &Attributes, definition: &Definition, messages: &mut Vec<String>) {
    if let Err(error) = tarn_model::check_split_filter(&definition.source, &definition.index, filter) {
        messages.extend(error.messages);
    }
}

/// How hard an approximate index is searched.
pub(crate) fn check_effort(
    target_recall: Option<f32>,
    ef_search: Option<u32>,
    nprobe: Option<u32>,
    messages: &mut Vec<String>,
) {
    if target_recall.is_some_and(|recall| !(recall > 0.0 && recall <= 1.0)) {
        messages.push("targetRecall must be above 0 and at most 1".to_owned());
    }
    if ef_search.is_some_and(|ef| ef == 0 || ef > limits::HNSW_EF) {
        messages.push(format!("efSearch must be 1 to {}", limits::HNSW_EF));
    }
    if nprobe == Some(0) {
        messages.push("nprobe must be at least 1".to_owned());
    }
}

/// `Filter::from_json` builds no other; a filter built in code may be anything.
pub(crate) fn check_filter(filter: &Filter, source: &DataSource, messages: &mut Vec<String>) {
    let mut nodes = vec![(filter, 1)];
    let mut seen = 0;
    while let Some((node, depth)) = nodes.pop() {
        seen += 1;
        if seen > limits::FILTER_NODES || depth > limits::FILTER_DEPTH {
            messages.push(format!(
                "filter has more than {} nodes or {} levels",
                limits::FILTER_NODES,
                limits::FILTER_DEPTH
            ));
            return;
        }
        match node {
            Filter::And(parts) | Filter::Or(parts) => nodes.extend(parts.iter().map(|part| (part, depth + 1))),
            Filter::Not(part) => nodes.push((part, depth + 1)),
            Filter::Compare { attribute, op, value } => {
                check_typed(attribute, source, std::slice::from_ref(value), messages);
                let ordering = !matches!(op, CompareOp::Eq | CompareOp::Ne);
                if ordering && matches!(value, AttributeValue::Bool(_)) {
                    messages.push(format!("filter: '{}' is a bool and has no order", shorten(attribute)));
                }
            }
            Filter::In { attribute, values } => {
                if values.len() > limits::FILTER_VALUES {
                    messages.push(format!("filter: more than {} values of one attribute", limits::FILTER_VALUES));
                } else {
                    check_typed(attribute, source, values, messages);
                }
            }
            Filter::Exists { attribute } => check_typed(attribute, source, &[], messages),
            Filter::StartsWith { attribute, .. } => {
                check_typed(attribute, source, &[], messages);
                if source.attribute_types.get(attribute).is_some_and(|t| *t != AttributeType::String) {
                    messages.push(format!("filter: startsWith wants a string, '{}' is none", shorten(attribute)));
                }
            }
        }
    }
}

fn check_typed(attribute: &str, source: &DataSource, values: &[AttributeValue], messages: &mut Vec<String>) {
    match source.attribute_types.get(attribute) {
        None => messages.push(format!("filter: attribute key is unknown: '{}'", shorten(attribute))),
        Some(expected) => {
            if let Some(value) = values.iter().find(|value| value.attribute_type() != *expected) {
                let text = shorten(&value.to_string());
                messages.push(format!("filter: attribute '{attribute}' has invalid value: '{text}'"));
            }
        }
    }
}

/// Enough of a user's text to recognise it.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}
