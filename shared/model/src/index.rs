//! The definition of an index.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::attribute::AttributeValue;
use crate::error::ValidationError;
use crate::ids::{DataSourceId, IndexId};
use crate::limits;
use crate::sharding;
use crate::source::DataSource;
use crate::vector::VectorKind;

/// A definition over one data source. Immutable; the content is a function of the live set at a watermark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Name and version.
    pub id: IndexId,
    /// The data source it is built from.
    pub data_source: DataSourceId,
    /// Metric, and exact or HNSW.
    pub algorithm: IndexAlgorithm,
    /// The attributes that identify a point; non-empty after the split attributes are taken away.
    pub id_attributes: BTreeSet<String>,
    /// The attributes whose values partition a shard into splits; a subset of the permanent attributes.
    #[serde(default)]
    pub split_attributes: BTreeSet<String>,
    /// Shards by id. Never empty: an index without sharding has one shard `"0"` without conditions. Conditions of
    /// different shards must not overlap; a point that satisfies none is not in the index.
    pub shards: BTreeMap<String, Shard>,
}

/// The conditions that a point of a shard satisfies, by attribute; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shard {
    /// Keys are permanent attributes.
    #[serde(default)]
    pub conditions: BTreeMap<String, ShardCondition>,
}

/// A condition on one attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ShardCondition {
    /// `farmhash64(bytes) mod number_of_shards` is one of `residues`.
    #[serde(rename_all = "camelCase")]
    Hash {
        /// At least 1.
        number_of_shards: u32,
        /// Each below `number_of_shards`.
        residues: BTreeSet<u32>,
    },
    /// The value is one of these.
    Values(Vec<AttributeValue>),
    /// The value is none of these.
    Complement(Vec<AttributeValue>),
}

/// What an index measures, and how it finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexAlgorithm {
    /// The distance.
    pub metric: Metric,
    /// `None`: exact. `Some`: approximate, and these are the parameters where builders make graphs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hnsw: Option<HnswParams>,
}

impl IndexAlgorithm {
    /// Whether every search finds the nearest of all rows, whatever recall it asks for.
    pub fn is_exact(&self) -> bool {
        self.hnsw.is_none() || self.metric.is_sparse()
    }
}

/// The distances, with the algorithm type that names each on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// `FaissIndex.L2`: squared Euclidean, ascending.
    L2,
    /// `FaissIndex.IP`: inner product, descending.
    InnerProduct,
    /// `Tarn.Cosine`: 1 − cos in [0, 2], ascending; 1 when either vector is zero.
    Cosine,
    /// `SparnnIndex.Cosine`: as [`Metric::Cosine`], over sparse vectors, in f64.
    SparseCosine,
    /// `SparnnIndex.JaccardBinary`: 1 − |A∩B| / |A∪B| over the non-zero indices, ascending; 1 when both are empty.
    SparseJaccard,
}

/// Parameters of the graph (Malkov and Yashunin, 2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HnswParams {
    /// Links per node and level; level 0 has twice as many. 2 to [`crate::limits::HNSW_M`].
    pub m: u32,
    /// Candidates kept while building. 1 to [`crate::limits::HNSW_EF`].
    pub ef_construction: u32,
    /// Candidates kept while searching, at least; the planner raises it to reach the recall asked for.
    pub ef_search: u32,
}

impl Metric {
    /// The metric's algorithm type on the wire, as `FaissIndex.L2`.
    pub fn algorithm_type(self) -> &'static str {
        match self {
            Self::L2 => "FaissIndex.L2",
            Self::InnerProduct => "FaissIndex.IP",
            Self::Cosine => "Tarn.Cosine",
            Self::SparseCosine => "SparnnIndex.Cosine",
            Self::SparseJaccard => "SparnnIndex.JaccardBinary",
        }
    }

    /// Whether it compares sparse vectors.
    pub fn is_sparse(self) -> bool {
        matches!(self, Self::SparseCosine | Self::SparseJaccard)
    }

    /// Whether a larger value is nearer. True for the inner product alone.
    pub fn higher_is_nearer(self) -> bool {
        matches!(self, Self::InnerProduct)
    }
}

/// The parameters of a graph, by their names on the wire.
const HNSW_M: &str = "Hnsw_M";
const HNSW_EF_CONSTRUCTION: &str = "Hnsw_EfConstruction";
const HNSW_EF_SEARCH: &str = "Hnsw_EfSearch";

const METRICS: [Metric; 5] =
    [Metric::L2, Metric::InnerProduct, Metric::Cosine, Metric::SparseCosine, Metric::SparseJaccard];

impl HnswParams {
    fn check(&self, messages: &mut Vec<String>) {
        for (name, value, least, most) in [
            (HNSW_M, self.m, 2, limits::HNSW_M),
            (HNSW_EF_CONSTRUCTION, self.ef_construction, 1, limits::HNSW_EF),
            (HNSW_EF_SEARCH, self.ef_search, 1, limits::HNSW_EF),
        ] {
            if !(least..=most).contains(&value) {
                messages.push(format!("index algorithm parameter {name} is {value}; it must be {least} to {most}"));
            }
        }
    }
}

impl IndexAlgorithm {
    /// From the wire: a type such as `FaissIndex.L2` and parameters: none, or all three of `Hnsw_M`,
    /// `Hnsw_EfConstruction`, `Hnsw_EfSearch`. Names are matched without regard to case.
    ///
    /// # Errors
    /// An unknown type or parameter, a parameter missing, not a number or out of range, a graph for a sparse metric.
    pub fn from_wire(algorithm_type: &str, params: &BTreeMap<String, String>) -> Result<Self, ValidationError> {
        let metric = METRICS.into_iter().find(|metric| metric.algorithm_type().eq_ignore_ascii_case(algorithm_type));
        let Some(metric) = metric else {
            let known = METRICS.map(Metric::algorithm_type).join(", ");
            return Err(ValidationError::one(format!(
                "index algorithm '{algorithm_type}' is unknown; the types are: {known}"
            )));
        };
        let hnsw = if params.is_empty() { None } else { Some(parse_hnsw(params)?) };
        let algorithm = Self { metric, hnsw };
        let mut messages = Vec::new();
        algorithm.check(&mut messages);
        ValidationError::from_messages(messages).map(|()| algorithm)
    }

    /// The parameters as [`Self::from_wire`] takes them.
    pub fn wire_params(&self) -> BTreeMap<String, String> {
        self.hnsw.map_or_else(BTreeMap::new, |hnsw| {
            BTreeMap::from([
                (HNSW_M.to_owned(), hnsw.m.to_string()),
                (HNSW_EF_CONSTRUCTION.to_owned(), hnsw.ef_construction.to_string()),
                (HNSW_EF_SEARCH.to_owned(), hnsw.ef_search.to_string()),
            ])
        })
    }

    fn check(&self, messages: &mut Vec<String>) {
        if let Some(hnsw) = &self.hnsw {
            hnsw.check(messages);
            if self.metric.is_sparse() {
                messages.push(format!(
                    "index algorithm {} is always exact and takes no Hnsw parameters",
                    self.metric.algorithm_type()
                ));
            }
        }
    }
}

fn parse_hnsw(params: &BTreeMap<String, String>) -> Result<HnswParams, ValidationError> {
    let names = [HNSW_M, HNSW_EF_CONSTRUCTION, HNSW_EF_SEARCH];
    let mut values = [None; 3];
    let mut messages = Vec::new();
    for (key, text) in params {
        let slot = names.iter().zip(&mut values).find(|(name, _)| name.eq_ignore_ascii_case(key));
        let Some((name, slot)) = slot else {
            messages.push(format!(
                "index algorithm parameter '{key}' is unknown; the parameters are: {}",
                names.join(", ")
            ));
            continue;
        };
        match text.trim().parse::<u32>() {
            Ok(_) if slot.is_some() => messages.push(format!("index algorithm parameter {name} is given twice")),
            Ok(value) => *slot = Some(value),
            Err(_) => messages.push(format!("index algorithm parameter {name} is '{text}'; it must be a whole number")),
        }
    }
    ValidationError::from_messages(messages)?;
    match values {
        [Some(m), Some(ef_construction), Some(ef_search)] => Ok(HnswParams { m, ef_construction, ef_search }),
        _ => Err(ValidationError::one(format!(
            "index algorithm parameters must be none or all of: {}",
            names.join(", ")
        ))),
    }
}

impl Index {
    /// The shards of an index without sharding: one, `"0"`, that takes every point.
    pub fn single_shard() -> BTreeMap<String, Shard> {
        BTreeMap::from([("0".to_owned(), Shard::default())])
    }

    /// Checks the definition by itself and against its data source: shard, split and id attributes ⊆ permanent, every
    /// used attribute typed, (id − split) ≠ ∅, sparse flag agrees with the algorithm, shards disjoint, limits.
    ///
    /// # Errors
    /// Every message that applies.
    pub fn validate(&self, source: &DataSource) -> Result<(), ValidationError> {
        self.id.validate()?;
        let mut messages = Vec::new();
        if self.data_source != source.id {
            messages.push(format!("index is over {}, not over {}", self.data_source, source.id));
        }
        self.algorithm.check(&mut messages);
        if self.algorithm.metric.is_sparse() != (source.vector_kind == VectorKind::Sparse) {
            let kind = if self.algorithm.metric.is_sparse() { "sparse" } else { "dense" };
            messages.push(format!(
                "index algorithm {} needs a data source with {kind} vectors",
                self.algorithm.metric.algorithm_type()
            ));
        }
        if self.id_attributes.is_subset(&self.split_attributes) {
            messages.push("idAttributes must hold at least one attribute that is not in splitAttributes".to_owned());
        }
        let shard_attributes = self.shards.values().flat_map(|shard| shard.conditions.keys().cloned()).collect();
        for (what, keys) in [
            ("idAttributes", &self.id_attributes),
            ("splitAttributes", &self.split_attributes),
            ("shardsById", &shard_attributes),
        ] {
            source.check_typed(what, keys, &mut messages);
            let others = keys.iter().filter(|key| source.attribute_types.contains_key(*key));
            let others = others.filter(|key| !source.permanent_attributes.contains(*key));
            messages.extend(others.map(|key| format!("{what} names '{key}', which is not a permanent attribute")));
        }
        sharding::check(self, source, &mut messages);
        ValidationError::from_messages(messages)
    }

    /// The attributes of a found point, in wire order: id − split, then split, then payload, each group sorted by key.
    pub fn attribute_order(&self, source: &DataSource) -> Vec<String> {
        let ids = self.id_attributes.difference(&self.split_attributes);
        let payload = source.attribute_types.keys().filter(|key| !self.id_attributes.contains(*key));
        let payload = payload.filter(|key| !self.split_attributes.contains(*key));
        ids.chain(&self.split_attributes).chain(payload).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::AttributeType;
    use crate::fixtures;

    fn source() -> DataSource {
        let types = ["a", "b", "c", "tag", "colour"].map(|key| (key, AttributeType::String));
        fixtures::source(&types, &["a", "b", "c"])
    }

    fn valid() -> Index {
        fixtures::index(&source(), &["a", "c"], &["b"])
    }

    fn messages(change: impl FnOnce(&mut Index)) -> Vec<String> {
        let mut index = valid();
        change(&mut index);
        index.validate(&source()).expect_err("refused").messages
    }

    #[test]
    fn a_good_definition_is_accepted_and_survives_json() {
        let index = valid();
        index.validate(&source()).expect("valid");
        let json = serde_json::to_string(&index).expect("serializes");
        assert_eq!(serde_json::from_str::<Index>(&json).expect("parses"), index);
    }

    #[test]
    fn attributes_come_in_wire_order() {
        assert_eq!(valid().attribute_order(&source()), ["a", "c", "b", "colour", "tag"]);
        let overlapping = fixtures::index(&source(), &["b", "c"], &["b"]);
        assert_eq!(overlapping.attribute_order(&source()), ["c", "b", "a", "colour", "tag"]);
    }

    #[test]
    fn something_must_identify_a_point_inside_its_split() {
        let expected = ["idAttributes must hold at least one attribute that is not in splitAttributes"];
        assert_eq!(messages(|i| i.id_attributes.clear()), expected);
        assert_eq!(messages(|i| i.id_attributes = BTreeSet::from(["b".into()])), expected);
    }

    #[test]
    fn id_split_and_shard_attributes_are_typed_and_permanent() {
        assert_eq!(
            messages(|i| i.id_attributes.extend(["x".into(), "tag".into()])),
            [
                "idAttributes names 'x', which the data source gives no type",
                "idAttributes names 'tag', which is not a permanent attribute",
            ]
        );
        assert_eq!(
            messages(|i| i.split_attributes.extend(["tag".into()])),
            ["splitAttributes names 'tag', which is not a permanent attribute"]
        );
        let condition = ShardCondition::Values(vec![AttributeValue::String("red".into())]);
        assert_eq!(
            messages(|i| i.shards = fixtures::shards([("0", "tag", condition.clone())])),
            ["shardsById names 'tag', which is not a permanent attribute"]
        );
    }

    #[test]
    fn the_algorithm_fits_the_vectors() {
        assert_eq!(
            messages(|i| i.algorithm.metric = Metric::SparseCosine),
            ["index algorithm SparnnIndex.Cosine needs a data source with sparse vectors"]
        );
        let mut sparse = source();
        sparse.vector_kind = VectorKind::Sparse;
        assert_eq!(
            valid().validate(&sparse).expect_err("refused").messages,
            ["index algorithm FaissIndex.L2 needs a data source with dense vectors"]
        );
    }

    #[test]
    fn an_index_of_another_data_source_is_refused() {
        let expected = "index is over DataSourceId { Name = other, Version = 1.0 }, \
                        not over DataSourceId { Name = source, Version = 1.0 }";
        assert_eq!(messages(|i| i.data_source.name = "other".into()), [expected]);
    }

    fn params(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn wire_algorithms_round_trip_whatever_their_case() {
        for metric in METRICS {
            let exact = IndexAlgorithm { metric, hnsw: None };
            let name = metric.algorithm_type();
            assert_eq!(IndexAlgorithm::from_wire(name, &exact.wire_params()), Ok(exact));
            assert_eq!(IndexAlgorithm::from_wire(&name.to_uppercase(), &BTreeMap::new()), Ok(exact));
            let graph =
                IndexAlgorithm { metric, hnsw: Some(HnswParams { m: 16, ef_construction: 128, ef_search: 64 }) };
            assert_eq!(IndexAlgorithm::from_wire(name, &graph.wire_params()).is_ok(), !metric.is_sparse());
        }
        let spelled = params(&[("hnsw_m", "8"), ("HNSW_EFCONSTRUCTION", " 10 "), ("Hnsw_EfSearch", "20")]);
        let hnsw = Some(HnswParams { m: 8, ef_construction: 10, ef_search: 20 });
        assert_eq!(IndexAlgorithm::from_wire("faissindex.l2", &spelled).map(|a| a.hnsw), Ok(hnsw));
    }

    #[test]
    fn bad_wire_algorithms_say_what_is_wrong() {
        let error = |name: &str, entries: &[(&str, &str)]| {
            IndexAlgorithm::from_wire(name, &params(entries)).expect_err("refused").messages.join("; ")
        };
        assert!(
            error("Faiss.L2", &[]).starts_with("index algorithm 'Faiss.L2' is unknown; the types are: FaissIndex.L2")
        );
        assert_eq!(
            error("FaissIndex.L2", &[("Hnsw_M", "8")]),
            "index algorithm parameters must be none or all of: Hnsw_M, Hnsw_EfConstruction, Hnsw_EfSearch"
        );
        let all = |m| [("Hnsw_M", m), ("Hnsw_EfConstruction", "8"), ("Hnsw_EfSearch", "8")];
        assert_eq!(error("FaissIndex.L2", &all("1")), "index algorithm parameter Hnsw_M is 1; it must be 2 to 128");
        assert_eq!(
            error("FaissIndex.L2", &all("x")),
            "index algorithm parameter Hnsw_M is 'x'; it must be a whole number"
        );
        assert_eq!(
            error("FaissIndex.L2", &[("Hnsw_M", "8"), ("HNSW_M", "8")]),
            "index algorithm parameter Hnsw_M is given twice"
        );
        assert!(
            error("FaissIndex.L2", &[("nprobe", "8")]).starts_with("index algorithm parameter 'nprobe' is unknown")
        );
    }
}
