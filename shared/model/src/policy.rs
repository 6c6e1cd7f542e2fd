//! What a data source does with its points by itself: which go, and what an upload may create.
//!
//! Whether a point has expired is a function of the point and the time: one of its own attributes says from when its life counts. So
//! everybody who holds the point can tell, in whatever object it is, and nothing about it needs to be kept elsewhere.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::attribute::{AttributeType, AttributeValue};
use crate::error::ValidationError;
use crate::filter::{CompareOp, Filter};
use crate::ids::{DataSourceId, IndexId};
use crate::index::{Index, IndexAlgorithm};
use crate::limits;
use crate::source::DataSource;

const MICROS: i64 = 1_000_000;

/// What a data source does by itself. Nothing, unless its definition says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcePolicy {
    /// Which points go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// What an upload may create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_create: Option<AutoCreate>,
}

/// Which points go, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// A date-time that every point has.
    pub attribute: String,
    /// A point expires this long after its date-time: 0 when the date-time says when it expires. `None`: points do not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_seconds: Option<u64>,
    /// Builders keep about this many points, those with the latest date-times. A soft cap: until the next build there may be more.
    #[serde(default, rename = "targetN", skip_serializing_if = "Option::is_none")]
    pub target_points: Option<u64>,
}

/// What an upload creates when it is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoCreate {
    /// Whether an upload to another version of the data source creates that version, with this definition.
    #[serde(default)]
    pub versions: bool,
    /// Indices that the first upload to the data source creates, in the data source's version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indices: Vec<IndexTemplate>,
}

/// An index to be created: one shard that takes every point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexTemplate {
    /// Its name.
    pub name: String,
    /// Metric, and exact or approximate.
    pub algorithm: IndexAlgorithm,
    /// See [`Index::id_attributes`].
    pub id_attributes: BTreeSet<String>,
    /// See [`Index::split_attributes`].
    #[serde(default)]
    pub split_attributes: BTreeSet<String>,
}

impl SourcePolicy {
    /// Nothing out of the ordinary.
    pub fn is_empty(&self) -> bool {
        self.retention.is_none() && self.auto_create.is_none()
    }

    /// Adds a message for everything wrong with the policy.
    pub(crate) fn check(&self, source: &DataSource, messages: &mut Vec<String>) {
        if let Some(retention) = &self.retention {
            retention.check(source, messages);
        }
        let Some(auto_create) = &self.auto_create else { return };
        if !auto_create.versions && auto_create.indices.is_empty() {
            messages
                .push("autoCreate creates nothing: name indices, or set versions to true; or leave it out".to_owned());
        }
        if auto_create.indices.len() > limits::AUTO_INDICES {
            let (found, most) = (auto_create.indices.len(), limits::AUTO_INDICES);
            messages.push(format!("autoCreate names {found} indices; at most {most} are allowed"));
        }
        let mut names = BTreeSet::new();
        for template in &auto_create.indices {
            let of = |message: String| format!("autoCreate, index '{}': {message}", template.name);
            if !names.insert(&template.name) {
                messages.push(of("is named twice".to_owned()));
            }
            match template.index(&source.id) {
                Err(error) => messages.extend(error.messages.into_iter().map(of)),
                Ok(index) => {
                    // Only what is of the index: the source's own faults have their own messages.
                    let found = index.validate(source).err().map(|error| error.messages).unwrap_or_default();
                    messages.extend(found.into_iter().map(of));
                }
            }
        }
    }
}

impl Retention {
    /// Points whose date-time is at or before this, in microseconds since 1970, have expired at `now`, in the same. `None`: none has.
    pub fn gone_up_to(&self, now: i64) -> Option<i64> {
        let keep = i64::try_from(self.keep_seconds?).unwrap_or(i64::MAX).saturating_mul(MICROS);
        Some(now.saturating_sub(keep))
    }

    /// What is true of the points that are alive at `now`. `None`: all are.
    pub fn alive_at(&self, now: i64) -> Option<Filter> {
        let value = AttributeValue::DateTime(self.gone_up_to(now)?);
        Some(Filter::Compare { attribute: self.attribute.clone(), op: CompareOp::Gt, value })
    }

    fn check(&self, source: &DataSource, messages: &mut Vec<String>) {
        match source.attribute_types.get(&self.attribute) {
            Some(AttributeType::DateTime) => {}
            Some(other) => messages
                .push(format!("retention is by attribute '{}' of type {other}; it must be a DateTime", self.attribute)),
            None => messages
                .push(format!("retention is by attribute '{}', which the data source gives no type", self.attribute)),
        }
        if self.keep_seconds.is_none() && self.target_points.is_none() {
            messages.push("retention needs keepSeconds (0: the attribute says when a point expires) or targetN".into());
        }
        if self.target_points == Some(0) {
            messages.push("retention has targetN 0; it must be at least 1".to_owned());
        }
    }
}

impl IndexTemplate {
    /// The index over a data source.
    ///
    /// # Errors
    /// A name that cannot be one.
    pub fn index(&self, source: &DataSourceId) -> Result<Index, ValidationError> {
        Ok(Index {
            id: IndexId::new(self.name.clone(), source.version.clone())?,
            data_source: source.clone(),
            algorithm: self.algorithm,
            id_attributes: self.id_attributes.clone(),
            split_attributes: self.split_attributes.clone(),
            shards: Index::single_shard(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::index::Metric;

    fn source() -> DataSource {
        fixtures::source(&[("id", AttributeType::Int64), ("until", AttributeType::DateTime)], &["id"])
    }

    fn retention(keep_seconds: Option<u64>, target_points: Option<u64>) -> Retention {
        Retention { attribute: "until".into(), keep_seconds, target_points }
    }

    fn messages(policy: SourcePolicy) -> Vec<String> {
        let source = DataSource { policy, ..source() };
        source.validate().err().map(|error| error.messages).unwrap_or_default()
    }

    fn template(name: &str) -> IndexTemplate {
        IndexTemplate {
            name: name.into(),
            algorithm: IndexAlgorithm { metric: Metric::L2, hnsw: None },
            id_attributes: ["id".to_owned()].into(),
            split_attributes: BTreeSet::new(),
        }
    }

    #[test]
    fn a_point_is_gone_from_the_moment_it_expires() {
        let alive = |keep, at: i64, now| {
            let filter = retention(Some(keep), None).alive_at(now).expect("points expire");
            filter.matches(&[("until".to_owned(), AttributeValue::DateTime(at))].into())
        };
        assert!(alive(0, 1_000, 999));
        assert!(!alive(0, 1_000, 1_000));
        assert!(alive(2, 1_000, 2_000_999));
        assert!(!alive(2, 1_000, 2_001_000));
        assert!(alive(u64::MAX, crate::datetime::MIN, crate::datetime::MAX), "longer than there is time");
        assert_eq!(retention(None, Some(5)).alive_at(i64::MAX), None);
    }

    #[test]
    fn a_policy_that_cannot_be_is_refused() {
        let with = |retention| messages(SourcePolicy { retention: Some(retention), auto_create: None });
        assert_eq!(with(retention(Some(0), None)), [""; 0]);
        assert!(with(retention(None, None))[0].contains("needs keepSeconds"));
        assert!(with(retention(None, Some(0)))[0].contains("targetN 0"));
        assert!(
            with(Retention { attribute: "id".into(), ..retention(Some(0), None) })[0].contains("must be a DateTime")
        );
        assert!(with(Retention { attribute: "x".into(), ..retention(Some(0), None) })[0].contains("no type"));
        let create = |indices| {
            messages(SourcePolicy { retention: None, auto_create: Some(AutoCreate { versions: false, indices }) })
        };
        assert_eq!(create(vec![template("a"), template("b")]), [""; 0]);
        assert!(create(vec![template("a"), template("a")])[0].contains("named twice"));
        assert!(!create(vec![template("")]).is_empty());
        assert!(create(Vec::new())[0].contains("creates nothing"));
        let unknown = IndexTemplate { id_attributes: ["x".to_owned()].into(), ..template("a") };
        assert!(create(vec![unknown])[0].starts_with("autoCreate, index 'a'"));
    }

    #[test]
    fn a_definition_without_a_policy_is_written_as_ever() {
        let plain = serde_json::to_value(source()).expect("serializes");
        assert_eq!(plain.get("policy"), None);
        let policy = SourcePolicy {
            retention: Some(retention(Some(7), Some(9))),
            auto_create: Some(AutoCreate { versions: true, indices: vec![template("a")] }),
        };
        let source = DataSource { policy, ..source() };
        let json = serde_json::to_value(&source).expect("serializes");
        assert_eq!(json["policy"]["retention"]["targetN"], 9);
        assert_eq!(serde_json::from_value::<DataSource>(json).expect("parses"), source);
    }
}
