//! Requests and answers of leaves as data: what the model's types lack to travel between processes.
//!
//! Owns `leaves-answer-bit-for-bit`: floats travel as their bits, in base64 or as integers, so that a text format in between
//! rounds nothing. Compact, for what carries them has a size limit. Not kept: both ends are of one release.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tarn_model::{AttributeValue, CompareOp, Filter, SparseVector, Vector};
use tarn_store::Spent;
use uuid::Uuid;

use crate::leaf::{LeafAnswer, LeafHit, LeafWork};
use crate::receipt::SegmentReceipt;
use crate::request::{Found, Timings};

/// Bytes, as text.
struct Base64(Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD_NO_PAD.decode(text.as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

impl Base64 {
    /// Little-endian numbers, one after the other; `None` when the length is no multiple of theirs.
    fn numbers<const N: usize, T>(&self, number: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (numbers, rest) = self.0.as_chunks::<N>();
        rest.is_empty().then(|| numbers.iter().map(|bytes| number(*bytes)).collect())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WireVector {
    Dense(Base64),
    Sparse { indices: Base64, values: Base64 },
}

impl From<&Vector> for WireVector {
    fn from(vector: &Vector) -> Self {
        match vector {
            Vector::Dense(values) => Self::Dense(Base64(values.iter().flat_map(|v| v.to_le_bytes()).collect())),
            Vector::Sparse(sparse) => Self::Sparse {
                indices: Base64(sparse.indices.iter().flat_map(|v| v.to_le_bytes()).collect()),
                values: Base64(sparse.values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            },
        }
    }
}

impl WireVector {
    fn vector(&self) -> Option<Vector> {
        match self {
            Self::Dense(values) => Some(Vector::Dense(values.numbers(f32::from_le_bytes)?)),
            Self::Sparse { indices, values } => {
                let (indices, values) = (indices.numbers(u32::from_le_bytes)?, values.numbers(f64::from_le_bytes)?);
                (indices.len() == values.len()).then_some(Vector::Sparse(SparseVector { indices, values }))
            }
        }
    }
}

const NO_VECTOR: &str = "bytes that are no vector";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WireValue {
    Bool(bool),
    Int64(i64),
    /// The bits.
    Float64(u64),
    String(String),
    Uuid(Uuid),
    DateTime(i64),
}

impl From<&AttributeValue> for WireValue {
    fn from(value: &AttributeValue) -> Self {
        match value {
            AttributeValue::Bool(value) => Self::Bool(*value),
            AttributeValue::Int64(value) => Self::Int64(*value),
            AttributeValue::Float64(value) => Self::Float64(value.to_bits()),
            AttributeValue::String(value) => Self::String(value.clone()),
            AttributeValue::Uuid(value) => Self::Uuid(*value),
            AttributeValue::DateTime(value) => Self::DateTime(*value),
        }
    }
}

impl From<WireValue> for AttributeValue {
    fn from(value: WireValue) -> Self {
        match value {
            WireValue::Bool(value) => Self::Bool(value),
            WireValue::Int64(value) => Self::Int64(value),
            WireValue::Float64(bits) => Self::Float64(f64::from_bits(bits)),
            WireValue::String(value) => Self::String(value),
            WireValue::Uuid(value) => Self::Uuid(value),
            WireValue::DateTime(value) => Self::DateTime(value),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WireOp {
    Eq,
    Ne,
    Lt,
    Lte,
    Gt,
    Gte,
}

impl From<CompareOp> for WireOp {
    fn from(op: CompareOp) -> Self {
        match op {
            CompareOp::Eq => Self::Eq,
            CompareOp::Ne => Self::Ne,
            CompareOp::Lt => Self::Lt,
            CompareOp::Lte => Self::Lte,
            CompareOp::Gt => Self::Gt,
            CompareOp::Gte => Self::Gte,
        }
    }
}

impl From<WireOp> for CompareOp {
    fn from(op: WireOp) -> Self {
        match op {
            WireOp::Eq => Self::Eq,
            WireOp::Ne => Self::Ne,
            WireOp::Lt => Self::Lt,
            WireOp::Lte => Self::Lte,
            WireOp::Gt => Self::Gt,
            WireOp::Gte => Self::Gte,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum WireFilter {
    And(Vec<WireFilter>),
    Or(Vec<WireFilter>),
    Not(Box<WireFilter>),
    Compare { attribute: String, op: WireOp, value: WireValue },
    In { attribute: String, values: Vec<WireValue> },
    Exists { attribute: String },
    StartsWith { attribute: String, prefix: String },
}

impl From<&Filter> for WireFilter {
    fn from(filter: &Filter) -> Self {
        match filter {
            Filter::And(parts) => Self::And(parts.iter().map(Self::from).collect()),
            Filter::Or(parts) => Self::Or(parts.iter().map(Self::from).collect()),
            Filter::Not(part) => Self::Not(Box::new(Self::from(&**part))),
            Filter::Compare { attribute, op, value } => {
                Self::Compare { attribute: attribute.clone(), op: (*op).into(), value: value.into() }
            }
            Filter::In { attribute, values } => {
                Self::In { attribute: attribute.clone(), values: values.iter().map(WireValue::from).collect() }
            }
            Filter::Exists { attribute } => Self::Exists { attribute: attribute.clone() },
            Filter::StartsWith { attribute, prefix } => {
                Self::StartsWith { attribute: attribute.clone(), prefix: prefix.clone() }
            }
        }
    }
}

impl From<WireFilter> for Filter {
    fn from(filter: WireFilter) -> Self {
        match filter {
            WireFilter::And(parts) => Self::And(parts.into_iter().map(Self::from).collect()),
            WireFilter::Or(parts) => Self::Or(parts.into_iter().map(Self::from).collect()),
            WireFilter::Not(part) => Self::Not(Box::new(Self::from(*part))),
            WireFilter::Compare { attribute, op, value } => {
                Self::Compare { attribute, op: op.into(), value: value.into() }
            }
            WireFilter::In { attribute, values } => {
                Self::In { attribute, values: values.into_iter().map(AttributeValue::from).collect() }
            }
            WireFilter::Exists { attribute } => Self::Exists { attribute },
            WireFilter::StartsWith { attribute, prefix } => Self::StartsWith { attribute, prefix },
        }
    }
}

/// For `serde(with)`: some vectors.
pub(crate) mod vectors {
    use super::{Deserialize, Deserializer, NO_VECTOR, Serialize, Serializer, Vector, WireVector};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(vectors: &[Vector], serializer: S) -> Result<S::Ok, S::Error> {
        vectors.iter().map(WireVector::from).collect::<Vec<_>>().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vector>, D::Error> {
        let vectors = Vec::<WireVector>::deserialize(deserializer)?;
        let vectors: Option<Vec<Vector>> = vectors.iter().map(WireVector::vector).collect();
        vectors.ok_or_else(|| D::Error::custom(NO_VECTOR))
    }
}

/// For `serde(with)`: a filter or none.
pub(crate) mod filter {
    use super::{Deserialize, Deserializer, Filter, Serialize, Serializer, WireFilter};

    pub(crate) fn serialize<S: Serializer>(filter: &Option<Filter>, serializer: S) -> Result<S::Ok, S::Error> {
        filter.as_ref().map(WireFilter::from).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Filter>, D::Error> {
        Ok(Option::<WireFilter>::deserialize(deserializer)?.map(Filter::from))
    }
}

/// For `serde(with)`: keys of points, if any.
pub(crate) mod keys {
    use super::{Base64, Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(keys: &Option<Vec<Vec<u8>>>, serializer: S) -> Result<S::Ok, S::Error> {
        let keys = keys.as_ref().map(|keys| keys.iter().cloned().map(Base64).collect::<Vec<_>>());
        keys.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Vec<u8>>>, D::Error> {
        let keys = Option::<Vec<Base64>>::deserialize(deserializer)?;
        Ok(keys.map(|keys| keys.into_iter().map(|key| key.0).collect()))
    }
}

/// For `serde(with)`: values of attributes.
pub(crate) mod attributes {
    use std::collections::BTreeMap;

    use super::{AttributeValue, Deserialize, Deserializer, Serialize, Serializer, WireValue};
    use tarn_model::Attributes;

    pub(crate) fn serialize<S: Serializer>(attributes: &Attributes, serializer: S) -> Result<S::Ok, S::Error> {
        let attributes: BTreeMap<&str, WireValue> =
            attributes.iter().map(|(name, value)| (name.as_str(), value.into())).collect();
        attributes.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Attributes, D::Error> {
        let attributes = BTreeMap::<String, WireValue>::deserialize(deserializer)?;
        Ok(attributes.into_iter().map(|(name, value)| (name, AttributeValue::from(value))).collect())
    }
}

/// An answer with the names of the attributes said once.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireAnswer {
    names: Vec<String>,
    results: Vec<Vec<WireHit>>,
    allowed: u64,
    considered: u64,
    timings: Timings,
    #[serde(default)]
    spent: Spent,
    #[serde(default)]
    leaves: LeafWork,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    segments: Vec<SegmentReceipt>,
}

#[derive(Serialize, Deserialize)]
struct WireHit {
    #[serde(rename = "k")]
    key: Base64,
    /// The bits.
    #[serde(rename = "d")]
    distance: u64,
    #[serde(rename = "a")]
    values: Vec<WireValue>,
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    vector: Option<WireVector>,
}

impl Serialize for LeafAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first = self.results.iter().flatten().next();
        let names = first.map_or_else(Vec::new, |hit| hit.found.attributes.iter().map(|(n, _)| n.clone()).collect());
        let hit = |hit: &LeafHit| WireHit {
            key: Base64(hit.key.clone()),
            distance: hit.found.distance.to_bits(),
            values: hit.found.attributes.iter().map(|(_, value)| value.into()).collect(),
            vector: hit.found.vector.as_ref().map(WireVector::from),
        };
        let results = self.results.iter().map(|hits| hits.iter().map(hit).collect()).collect();
        let Self { allowed, considered, timings, spent, leaves, .. } = *self;
        let segments = self.segments.clone();
        WireAnswer { names, results, allowed, considered, timings, spent, leaves, segments }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LeafAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let answer = WireAnswer::deserialize(deserializer)?;
        let WireAnswer { names, results, allowed, considered, timings, spent, leaves, segments } = answer;
        let hit = |hit: WireHit| {
            if hit.values.len() != names.len() {
                return Err(D::Error::custom(format!("{} values of {} attributes", hit.values.len(), names.len())));
            }
            let vector = match hit.vector {
                None => None,
                Some(vector) => Some(vector.vector().ok_or_else(|| D::Error::custom(NO_VECTOR))?),
            };
            let attributes = names.iter().cloned().zip(hit.values.into_iter().map(AttributeValue::from)).collect();
            let found = Found { attributes, vector, distance: f64::from_bits(hit.distance) };
            Ok(LeafHit { key: hit.key.0, found })
        };
        let results = results.into_iter().map(|hits| hits.into_iter().map(hit).collect::<Result<_, _>>());
        let results = results.collect::<Result<_, _>>()?;
        Ok(Self { results, allowed, considered, timings, spent, leaves, segments })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tarn_model::Attributes;

    use super::*;
    use crate::ranking::Ranking;
    use crate::receipt::{CacheState, ColdPlan, SegmentPlan};
    use crate::request::SearchRequest;

    /// A value whose decimal form many parsers get wrong in the last bit.
    const AWKWARD: f64 = 0.1 + 0.2;

    fn again<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
    }

    #[test]
    fn leaves_answer_bit_for_bit() {
        let found = |vector| Found {
            attributes: vec![
                ("f".to_owned(), AttributeValue::Float64(5e-324)),
                ("t".to_owned(), AttributeValue::DateTime(-1)),
                ("u".to_owned(), AttributeValue::Uuid(Uuid::from_u128(7))),
            ],
            vector,
            distance: AWKWARD,
        };
        let sparse = SparseVector { indices: vec![0, u32::MAX], values: vec![f64::MIN_POSITIVE, AWKWARD] };
        let vectors = [None, Some(Vector::Dense(vec![f32::MIN_POSITIVE, -0.0, 0.1])), Some(Vector::Sparse(sparse))];
        let hits: Vec<LeafHit> =
            vectors.into_iter().map(|vector| LeafHit { key: vec![0, 255], found: found(vector) }).collect();
        let timings = Timings { search: Duration::from_nanos(1), ..Timings::default() };
        let plans = [
            SegmentPlan::None,
            SegmentPlan::Exact,
            SegmentPlan::Graph { ef: 1 },
            SegmentPlan::Cells { nprobe: 2, rescored: 3 },
            SegmentPlan::Postings,
            SegmentPlan::Cold(ColdPlan { cells: 7, ..ColdPlan::default() }),
        ];
        let segment = |plan| SegmentReceipt {
            shard: Some("0".to_owned()),
            segment: Some(ulid::Ulid(9)),
            rows: u64::MAX,
            state: CacheState::Cold,
            plan,
        };
        let mut spent = Spent::default();
        spent.round_trips = 3;
        let answer = LeafAnswer {
            results: vec![Vec::new(), hits],
            allowed: u64::MAX,
            considered: 1,
            timings,
            spent,
            leaves: LeafWork { answers: 2, time: Duration::from_nanos(7) },
            segments: plans.into_iter().map(segment).collect(),
        };
        assert_eq!(again(&answer), answer);
    }

    #[test]
    fn a_request_with_everything_in_it_comes_back() {
        let compare = |op| Filter::Compare { attribute: "f".into(), op, value: AttributeValue::Float64(AWKWARD) };
        let ops = [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Lte, CompareOp::Gt, CompareOp::Gte];
        let filter = Filter::And(vec![
            Filter::Or(ops.map(compare).into()),
            Filter::Not(Box::new(Filter::In { attribute: "b".into(), values: vec![AttributeValue::Bool(true)] })),
            Filter::Exists { attribute: "é".into() },
            Filter::StartsWith { attribute: "s".into(), prefix: "\"\\".into() },
        ]);
        let request = SearchRequest {
            split_filter: Attributes::from([("split".to_owned(), AttributeValue::Float64(AWKWARD))]),
            filter: Some(filter),
            target_recall: Some(0.1),
            deadline: Some(Duration::from_nanos(1_000_000_001)),
            explain: true,
            attributes: Some(vec!["f".into()]),
            ranking: Some(Ranking {
                score: Some(tarn_model::Score::QuickVectorDistance),
                higher_is_better: Some(true),
                sum: Some(vec![vec![0], vec![0, 0]]),
            }),
            round: Some(Box::new(crate::round::Round {
                filter: Some(Filter::Exists { attribute: "a".into() }),
                keys: Some(vec![vec![0, 255], Vec::new()]),
            })),
            ..SearchRequest::new(vec![Vector::Dense(vec![0.1, f32::MAX])], 3)
        };
        assert_eq!(again(&request), request);
    }

    #[test]
    fn the_deepest_filter_that_is_allowed_comes_back() {
        let depth = tarn_model::limits::FILTER_DEPTH;
        let leaf = Filter::Exists { attribute: "a".into() };
        let filter = (1..depth).fold(leaf, |inner, _| Filter::And(vec![Filter::Not(Box::new(inner))]));
        let request = SearchRequest { filter: Some(filter), ..SearchRequest::new(Vec::new(), 1) };
        assert_eq!(again(&request), request);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let vector = |text: &str| serde_json::from_str::<WireVector>(text).unwrap().vector();
        assert_eq!(vector(r#"{"dense": "AAAA"}"#), None, "three bytes");
        assert_eq!(vector(r#"{"sparse": {"indices": "AAAAAA", "values": ""}}"#), None, "an index without a value");
        let answer = r#"{"names": ["a"], "results": [[{"k": "", "d": 0, "a": []}]], "allowed": 0, "considered": 0,
            "timings": {"snapshot": {"secs": 0, "nanos": 0}, "search": {"secs": 0, "nanos": 0}, "fetch": {"secs": 0, "nanos": 0}}}"#;
        let refused = serde_json::from_str::<LeafAnswer>(answer).unwrap_err();
        assert!(refused.to_string().contains("0 values of 1 attributes"), "{refused}");
    }
}
