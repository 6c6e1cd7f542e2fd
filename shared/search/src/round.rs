//! What one round of a search in several adds to it.

use serde::{Deserialize, Serialize};
use tarn_model::{AttributeValue, CompareOp, DataSource, Filter, PointKey, limits};

use crate::validate::check_filter;
use crate::wire;

/// What a round wants of points beside what the search wants. The engine makes it; nobody else can.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Round {
    /// Only points that satisfy it too. No other search has it: what is found out about it is not kept.
    #[serde(default, with = "wire::filter", skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<Filter>,
    /// Only these points, by key.
    #[serde(default, with = "wire::keys", skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<Vec<Vec<u8>>>,
}

/// Most points that are looked for by their attributes in a file that stays where it is.
const COLD_KEYS: usize = 16;

impl Round {
    /// Whether files can be asked where they are.
    pub(crate) fn may_be_cold(&self) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.len() <= COLD_KEYS)
    }

    /// As filters of attributes: what a file knows that is not open.
    pub(crate) fn filters(&self, source: &DataSource) -> Vec<Filter> {
        let equal =
            |(attribute, value): (String, AttributeValue)| Filter::Compare { attribute, op: CompareOp::Eq, value };
        let one = |key: &Vec<u8>| {
            let attributes = PointKey::decode(source, key)?;
            Some(Filter::And(attributes.into_iter().map(equal).collect()))
        };
        let keys = self.keys.as_ref().map(|keys| Filter::Or(keys.iter().filter_map(one).collect()));
        self.filter.clone().into_iter().chain(keys).collect()
    }

    /// Whether it fits the data source: a leaf asks for what it is told.
    pub(crate) fn check(&self, source: &DataSource, messages: &mut Vec<String>) {
        if let Some(filter) = &self.filter {
            check_filter(filter, source, messages);
        }
        let keys = self.keys.as_deref().unwrap_or_default();
        if keys.len() > limits::QUERY_VECTORS || keys.iter().any(|key| PointKey::decode(source, key).is_none()) {
            messages.push("a round names points that the data source cannot have, or too many".to_owned());
        }
    }
}
