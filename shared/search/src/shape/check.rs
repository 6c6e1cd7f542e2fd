//! Whether a shape fits its index. Checked with the search, before anything is looked for.

use std::collections::BTreeSet;

use tarn_model::{Filter, PointKey, ValidationError, Vector, check_attributes, check_vector, limits};

use super::{Combine, Grouping, Shape};
use crate::definition::Definition;
use crate::ranking::same_keys;
use crate::request::SearchRequest;
use crate::validate::{check_filter, check_search, shorten};

/// The most rounds of one list: each gives a group at least, and longer lists with every one.
pub(crate) const ROUNDS: usize = 64;

/// A search with its shape.
///
/// # Errors
/// Every message that applies.
pub(crate) fn check_shape(
    request: &SearchRequest,
    shape: &Shape,
    definition: &Definition,
) -> Result<(), ValidationError> {
    let mut plain = SearchRequest { shape: None, ..request.clone() };
    if plain.queries.is_empty() && !shape.query_ids.is_empty() {
        // The stored points bring the vectors.
        plain.queries.push(definition.source.zero_vector());
    }
    let mut messages = check_search(&plain, definition).err().map_or_else(Vec::new, |error| error.messages);
    check_vectors(request, shape, definition, &mut messages);
    if shape.result_limit.is_some_and(|limit| limit == 0 || limit > limits::K) {
        messages.push(format!("resultLimit must be 1 to {}", limits::K));
    }
    if let Some(grouping) = &shape.grouping {
        check_grouping(request, shape, grouping, definition, &mut messages);
    }
    ValidationError::from_messages(messages)
}

fn check_vectors(request: &SearchRequest, shape: &Shape, definition: &Definition, messages: &mut Vec<String>) {
    let source = &definition.source;
    let vectors = request.queries.len() + shape.vectors();
    if vectors > limits::QUERY_VECTORS {
        messages.push(format!(
            "queryVectors, queryIds, context and beside have {vectors} vectors together; at most {} are allowed",
            limits::QUERY_VECTORS
        ));
        return;
    }
    let each = shape.points_of_each(request.k);
    if each.saturating_mul(vectors as u64) > limits::RESULTS {
        messages.push(format!(
            "{each} points (k, or resultLimit times groupLimit) for each of {vectors} vectors are more than one search finds; ask for \
             at most {} together, or in several searches",
            limits::RESULTS
        ));
    }
    if request.k as usize + shape.query_ids.len() > limits::K as usize {
        messages.push(format!(
            "k and the number of queryIds may be at most {} together, for these points are left out of the answer",
            limits::K
        ));
    }
    for (at, error) in context_errors(&shape.context, definition) {
        messages.extend(error.messages.into_iter().map(|message| format!("context[{at}]: {message}")));
    }
    for (at, id) in shape.query_ids.iter().enumerate() {
        let checked = check_attributes(source, id, true).and_then(|()| PointKey::encode(source, id).map(drop));
        if let Err(error) = checked {
            messages.extend(error.messages.into_iter().map(|message| format!("queryIds[{at}]: {message}")));
        }
    }
    if shape.prioritize && shape.context.is_empty() {
        messages.push("prioritize wants context: vectors that count instead of the query's".to_owned());
    }
}

fn context_errors<'a>(
    context: &'a [Vector],
    definition: &'a Definition,
) -> impl Iterator<Item = (usize, ValidationError)> + 'a {
    context
        .iter()
        .enumerate()
        .filter_map(move |(at, vector)| Some((at, check_vector(&definition.source, vector).err()?)))
}

fn check_grouping(
    request: &SearchRequest,
    shape: &Shape,
    grouping: &Grouping,
    definition: &Definition,
    messages: &mut Vec<String>,
) {
    let (by, limit) = (&grouping.by, grouping.limit);
    if !definition.source.attribute_types.contains_key(by) {
        messages.push(format!("groupBy names '{}', which the data source does not have", shorten(by)));
    }
    if limit == 0 || limit > limits::K {
        messages.push(format!("groupLimit must be 1 to {}", limits::K));
    }
    let groups = u64::from(shape.result_limit.unwrap_or(request.k));
    if groups * u64::from(limit) > u64::from(limits::K) {
        messages.push(format!(
            "resultLimit (k unless given) times groupLimit may be at most {}: so many points are answered",
            limits::K
        ));
    }
    if let Some(filter) = &grouping.filter {
        check_filter(filter, &definition.source, messages);
        if let Some(other) = names(filter).into_iter().find(|name| name != by) {
            let other = shorten(&other);
            messages
                .push(format!("groupFilter may name '{}' alone, not '{other}': use filter for points", shorten(by)));
        }
    }
    if messages.is_empty() {
        // Leaves are asked for both at once.
        let filter = and([request.filter.clone(), grouping.filter.clone()]);
        filter.iter().for_each(|filter| check_filter(filter, &definition.source, messages));
    }
}

/// All of them, in a tree that is no deeper than it must be.
pub(crate) fn and<const N: usize>(filters: [Option<Filter>; N]) -> Option<Filter> {
    let mut parts = Vec::new();
    for filter in filters.into_iter().flatten() {
        match filter {
            Filter::And(all) => parts.extend(all),
            one => parts.push(one),
        }
    }
    if parts.is_empty() { None } else { Some(Filter::And(parts)) }
}

/// The attributes that a filter names.
fn names(filter: &Filter) -> BTreeSet<String> {
    let (mut names, mut nodes) = (BTreeSet::new(), vec![filter]);
    while let Some(node) = nodes.pop() {
        match node {
            Filter::And(parts) | Filter::Or(parts) => nodes.extend(parts),
            Filter::Not(part) => nodes.push(part),
            Filter::Compare { attribute, .. }
            | Filter::In { attribute, .. }
            | Filter::Exists { attribute }
            | Filter::StartsWith { attribute, .. } => drop(names.insert(attribute.clone())),
        }
    }
    names
}

/// Whether two indices can be searched as one: `other` is the search of the second, which the shape names.
///
/// # Errors
/// Every message that applies.
pub(crate) fn check_beside(
    request: &SearchRequest,
    shape: &Shape,
    definition: &Definition,
    other: (&SearchRequest, &Definition),
) -> Result<(), ValidationError> {
    let (beside, theirs) = other;
    let mut messages = Vec::new();
    if let Err(error) = check_search(beside, theirs) {
        messages.extend(error.messages.into_iter().map(|message| format!("beside: {message}")));
    }
    if !same_keys(&definition.source, &theirs.source) {
        messages.push(format!(
            "beside: points of {} and {} are not known by the same permanent attributes, so that none can be said to be the \
             same; use an index over a data source with those of the first",
            definition.source.id, theirs.source.id
        ));
    }
    if request.as_of.is_some() {
        messages.push("asOf cannot be used with beside: generations are of one index".to_owned());
    }
    if !shape.context.is_empty() {
        messages.push("context cannot be used with beside: its vectors are of one index".to_owned());
    }
    if let Some(grouping) = &shape.grouping {
        if !theirs.source.permanent_attributes.contains(&grouping.by) {
            messages.push(format!(
                "beside: groupBy must name a permanent attribute, which a point has alike in both; '{}' is none, and the indices may \
                 give a point two values of it",
                shorten(&grouping.by)
            ));
        } else if let Some(filter) = and([beside.filter.clone(), grouping.filter.clone()]) {
            let mut both = Vec::new();
            check_filter(&filter, &theirs.source, &mut both);
            messages.extend(both.into_iter().map(|message| format!("beside: with groupFilter, {message}")));
        }
    }
    match shape.combine {
        Some(Combine::ReciprocalRank) => {}
        Some(Combine::Best) => {
            let (a, b) = (definition.index.algorithm.metric, theirs.index.algorithm.metric);
            let (ours, theirs) = (request.ranked(a), beside.ranked(b));
            let alike = ours.score == theirs.score && (ours.score.is_some() || a == b);
            if !alike || ours.higher_is_better != theirs.higher_is_better {
                messages.push(
                    "combine best wants scores of one kind from both indices: give both the same score, such as \
                     CosineSimilarity, or use reciprocalRank"
                        .to_owned(),
                );
            }
        }
        Some(Combine::Sum) => messages.push(
            "combine sum wants every score of every point, and two indices have no such list; use reciprocalRank, or best"
                .to_owned(),
        ),
        None => messages.push("beside wants combine: reciprocalRank, or best".to_owned()),
    }
    ValidationError::from_messages(messages)
}
