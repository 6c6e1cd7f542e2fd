//! Which shard of an index a point belongs to, as Vektonn decides it.
//!
//! Owns `a-point-has-one-shard`: the conditions of two shards of one index never hold for the same point. The check is
//! conservative; conditions that it cannot prove disjoint are refused.
//!
//! The hash is FarmHash's `Hash64` in the variant of the .NET port that Vektonn uses (farmhashxo). It only decides
//! shards; everything else in Tarn hashes with XXH3.

use std::collections::{BTreeMap, BTreeSet};

use crate::attribute::{AttributeValue, Attributes};
use crate::index::{Index, Shard, ShardCondition};
use crate::key::encode_value;
use crate::limits;
use crate::source::{DataSource, Sharder, check_values};

/// .NET ticks, of 100 ns since the year 1, at 1970-01-01.
const TICKS_AT_UNIX_EPOCH: i64 = 621_355_968_000_000_000;

/// The hash by which Vektonn shards a value. Bytes: a string's UTF-16LE; a Guid's .NET `ToByteArray` (first three fields
/// little-endian); Int64, Float64 and a date-time's ticks as 8 bytes, little-endian. A bool is 0 or 1, not hashed.
pub fn shard_hash(value: &AttributeValue) -> u64 {
    match value {
        AttributeValue::Bool(value) => u64::from(*value),
        AttributeValue::Int64(value) => farmhash::hash64(&value.to_le_bytes()),
        AttributeValue::Float64(value) => farmhash::hash64(&value.to_le_bytes()),
        AttributeValue::String(text) => {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            farmhash::hash64(&bytes)
        }
        AttributeValue::Uuid(value) => farmhash::hash64(&value.to_bytes_le()),
        AttributeValue::DateTime(micros) => {
            // Cannot overflow for the date-times that a point can have.
            let ticks = micros.wrapping_mul(10).wrapping_add(TICKS_AT_UNIX_EPOCH);
            farmhash::hash64(&ticks.to_le_bytes())
        }
    }
}

fn residue(value: &AttributeValue, number_of_shards: u32) -> Option<u32> {
    shard_hash(value).checked_rem(u64::from(number_of_shards)).and_then(|residue| u32::try_from(residue).ok())
}

impl ShardCondition {
    /// Whether the condition holds for a value.
    pub fn contains(&self, value: &AttributeValue) -> bool {
        match self {
            Self::Hash { number_of_shards, residues } => {
                residue(value, *number_of_shards).is_some_and(|residue| residues.contains(&residue))
            }
            Self::Values(values) => values.contains(value),
            Self::Complement(values) => !values.contains(value),
        }
    }
}

impl Sharder {
    /// Whether the data source takes points with this value.
    pub fn accepts(&self, value: &AttributeValue) -> bool {
        match self {
            Self::Hash { .. } => true,
            Self::Values { possible_values } => possible_values.contains(value),
        }
    }
}

impl Shard {
    /// Whether a point with these permanent attributes belongs here. A point that lacks a sharding attribute does not.
    pub fn contains(&self, permanent: &Attributes) -> bool {
        self.conditions.iter().all(|(key, condition)| permanent.get(key).is_some_and(|value| condition.contains(value)))
    }

    /// Whether the shard can hold points that match a split filter: no condition rules them out.
    pub fn may_match(&self, split_filter: &Attributes) -> bool {
        self.conditions
            .iter()
            .all(|(key, condition)| split_filter.get(key).is_none_or(|value| condition.contains(value)))
    }
}

impl Index {
    /// The shard of a point, from its permanent attributes; `None` when no shard takes it.
    pub fn shard_of(&self, permanent: &Attributes) -> Option<&str> {
        self.shards.iter().find(|(_, shard)| shard.contains(permanent)).map(|(id, _)| id.as_str())
    }
}

/// Adds a message for everything wrong with the shards of an index.
pub(crate) fn check(index: &Index, source: &DataSource, messages: &mut Vec<String>) {
    if index.shards.is_empty() {
        messages.push("shardsById is empty; an index without sharding has one shard without conditions".to_owned());
    }
    if index.shards.len() > limits::SHARDS {
        messages.push(format!("{} shards are defined; at most {} are allowed", index.shards.len(), limits::SHARDS));
        return;
    }
    let listed: usize = index.shards.values().flat_map(|shard| shard.conditions.values()).map(listed_len).sum();
    if listed > limits::SHARD_VALUES {
        messages.push(format!(
            "the shards list {listed} values and residues; at most {} are allowed",
            limits::SHARD_VALUES
        ));
        return;
    }
    let before = messages.len();
    for (id, shard) in &index.shards {
        if id.trim().is_empty() || id.len() > limits::NAME_BYTES || id.chars().any(char::is_control) {
            messages.push(format!(
                "shard id {id:?} must be 1 to {} bytes of text without control characters",
                limits::NAME_BYTES
            ));
        }
        for (key, condition) in &shard.conditions {
            check_condition(&format!("shard '{id}', attribute '{key}'"), key, condition, source, messages);
        }
    }
    if messages.len() == before {
        check_disjoint(index, messages);
    }
}

fn listed_len(condition: &ShardCondition) -> usize {
    match condition {
        ShardCondition::Hash { residues, .. } => residues.len(),
        ShardCondition::Values(values) | ShardCondition::Complement(values) => values.len(),
    }
}

fn check_condition(what: &str, key: &str, condition: &ShardCondition, source: &DataSource, messages: &mut Vec<String>) {
    match condition {
        ShardCondition::Hash { number_of_shards, residues } => {
            if !(1..=limits::HASH_SHARDS).contains(number_of_shards) {
                messages.push(format!(
                    "{what}: numberOfShards is {number_of_shards}; it must be 1 to {}",
                    limits::HASH_SHARDS
                ));
            } else if let Some(residue) = residues.iter().find(|residue| *residue >= number_of_shards) {
                messages.push(format!("{what}: {residue} is not below numberOfShards, which is {number_of_shards}"));
            }
            if residues.is_empty() {
                messages.push(format!("{what}: no residue is listed, so no point can be in the shard"));
            }
        }
        ShardCondition::Values(values) | ShardCondition::Complement(values) => {
            // An attribute without a type has its message already.
            if let Some(&attribute_type) = source.attribute_types.get(key) {
                check_values(what, attribute_type, values, messages);
            }
        }
    }
}

/// A condition made ready for comparisons with many others.
enum Set<'a> {
    Residues(u32, &'a BTreeSet<u32>),
    Values(BTreeSet<Vec<u8>>, &'a [AttributeValue]),
    Complement(BTreeSet<Vec<u8>>),
}

impl<'a> Set<'a> {
    fn new(condition: &'a ShardCondition) -> Self {
        let encoded = |values: &[AttributeValue]| {
            let encode = |value| {
                let mut bytes = Vec::new();
                encode_value(value, &mut bytes);
                bytes
            };
            values.iter().map(encode).collect()
        };
        match condition {
            ShardCondition::Hash { number_of_shards, residues } => Self::Residues(*number_of_shards, residues),
            ShardCondition::Values(values) => Self::Values(encoded(values), values),
            ShardCondition::Complement(values) => Self::Complement(encoded(values)),
        }
    }

    /// True only when no value is in both.
    fn is_disjoint(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Residues(a, left), Self::Residues(b, right)) if a == b => left.is_disjoint(right),
            (Self::Residues(a, left), Self::Residues(b, right)) => {
                // By the Chinese remainder theorem the two meet where they meet modulo the common divisor.
                let divisor = gcd(*a, *b);
                let reduced: BTreeSet<u32> = left.iter().map(|residue| residue % divisor).collect();
                right.iter().all(|residue| !reduced.contains(&(residue % divisor)))
            }
            (Self::Values(left, _), Self::Values(right, _)) => left.is_disjoint(right),
            (Self::Values(values, _), Self::Complement(excluded))
            | (Self::Complement(excluded), Self::Values(values, _)) => values.is_subset(excluded),
            (Self::Residues(n, residues), Self::Values(_, values))
            | (Self::Values(_, values), Self::Residues(n, residues)) => {
                values.iter().all(|value| residue(value, *n).is_some_and(|residue| !residues.contains(&residue)))
            }
            (Self::Complement(_), Self::Complement(_) | Self::Residues(..))
            | (Self::Residues(..), Self::Complement(_)) => false,
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `a-point-has-one-shard`. Reports the first pair only; the rest is usually the same mistake.
fn check_disjoint(index: &Index, messages: &mut Vec<String>) {
    let shards: Vec<(&String, BTreeMap<&String, Set<'_>>)> = index
        .shards
        .iter()
        .map(|(id, shard)| (id, shard.conditions.iter().map(|(key, condition)| (key, Set::new(condition))).collect()))
        .collect();
    for (i, (id, conditions)) in shards.iter().enumerate() {
        for (other_id, other_conditions) in shards.iter().take(i) {
            let disjoint = conditions
                .iter()
                .any(|(key, set)| other_conditions.get(key).is_some_and(|other| set.is_disjoint(other)));
            if !disjoint {
                messages.push(format!(
                    "shards '{other_id}' and '{id}' overlap: nothing in their conditions keeps a point from being in both"
                ));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::attribute::AttributeType;
    use crate::fixtures::{self, value_of};

    #[test]
    fn the_hash_is_the_one_that_vektonn_uses() {
        // From the tests of Farmhash.Sharp; one for each branch of the algorithm by length.
        for (text, hash) in [
            ("", 0x9ae1_6a3b_2f90_404f_u64),
            ("a", 0xb345_4265_b6df_75e3),
            ("abcdefgh", 0xfee9_d229_90c8_2909),
            ("hello world", 0x588f_b747_8bd6_b01b),
            ("docklandsman@gmail.com", 0xb678_cf38_4230_9f40),
            ("I wouldn't marry him with a ten foot pole.", 0x361b_79df_0861_5cd6),
            ("For every action there is an equal and opposite government program.", 0x8452_fbb0_c8f9_8c4f),
            (
                "The fugacity of a constituent in a mixture of gases at a given temperature is proportional to its mole \
              fraction.  Lewis-Randall Rule",
                0x098e_ff69_58c5_e91a,
            ),
        ] {
            assert_eq!(farmhash::hash64(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn each_type_hashes_the_bytes_that_dotnet_would() {
        let uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        let bytes_of_guid =
            [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF];
        let ticks_of_2000: i64 = 630_822_816_000_000_000;
        for (value, bytes) in [
            (AttributeValue::String("aé😀".into()), b"a\0\xe9\0\x3d\xd8\x00\xde".to_vec()),
            (AttributeValue::Uuid(uuid), bytes_of_guid.to_vec()),
            (AttributeValue::Int64(-2), vec![0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            (AttributeValue::Float64(1.0), vec![0, 0, 0, 0, 0, 0, 0xF0, 0x3F]),
            (AttributeValue::DateTime(946_684_800_000_000), ticks_of_2000.to_le_bytes().to_vec()),
        ] {
            assert_eq!(shard_hash(&value), farmhash::hash64(&bytes), "{value}");
        }
        assert_eq!(shard_hash(&AttributeValue::Bool(false)), 0);
        assert_eq!(shard_hash(&AttributeValue::Bool(true)), 1);
    }

    fn source() -> DataSource {
        fixtures::source(&[("id", AttributeType::Int64), ("kind", AttributeType::Int64)], &["id", "kind"])
    }

    fn hash(number_of_shards: u32, residues: &[u32]) -> ShardCondition {
        ShardCondition::Hash { number_of_shards, residues: residues.iter().copied().collect() }
    }

    fn ints(values: &[i64]) -> Vec<AttributeValue> {
        values.iter().copied().map(AttributeValue::Int64).collect()
    }

    fn sharded<const N: usize>(conditions: [(&str, &str, ShardCondition); N]) -> Index {
        Index { shards: fixtures::shards(conditions), ..fixtures::index(&source(), &["id"], &["kind"]) }
    }

    fn problems<const N: usize>(conditions: [(&str, &str, ShardCondition); N]) -> Vec<String> {
        let mut messages = Vec::new();
        check(&sharded(conditions), &source(), &mut messages);
        messages
    }

    fn point(id: i64, kind: i64) -> Attributes {
        let named = [("id", id), ("kind", kind)];
        named.map(|(key, value)| (key.to_owned(), AttributeValue::Int64(value))).into()
    }

    #[test]
    fn a_point_has_one_shard() {
        let values = |list: &[i64]| ShardCondition::Values(ints(list));
        let complement = |list: &[i64]| ShardCondition::Complement(ints(list));
        let overlap = ["shards 'a' and 'b' overlap: nothing in their conditions keeps a point from being in both"];

        assert!(problems([("a", "id", hash(3, &[0, 2])), ("b", "id", hash(3, &[1]))]).is_empty());
        assert_eq!(problems([("a", "id", hash(3, &[0, 1])), ("b", "id", hash(3, &[1]))]), overlap);
        assert!(problems([("a", "id", hash(4, &[0, 2])), ("b", "id", hash(6, &[1, 3]))]).is_empty());
        assert_eq!(problems([("a", "id", hash(4, &[0, 2])), ("b", "id", hash(6, &[1, 4]))]), overlap);
        assert_eq!(problems([("a", "id", hash(2, &[0])), ("b", "id", hash(3, &[1]))]), overlap);
        assert_eq!(problems([("a", "id", hash(2, &[0])), ("b", "kind", hash(2, &[1]))]), overlap);

        assert!(problems([("a", "id", values(&[1, 2])), ("b", "id", values(&[3]))]).is_empty());
        assert_eq!(problems([("a", "id", values(&[1, 2])), ("b", "id", values(&[2]))]), overlap);
        assert!(problems([("a", "id", values(&[1, 2])), ("b", "id", complement(&[1, 2, 3]))]).is_empty());
        assert_eq!(problems([("a", "id", values(&[1, 4])), ("b", "id", complement(&[1, 2, 3]))]), overlap);
        assert_eq!(problems([("a", "id", complement(&[1])), ("b", "id", complement(&[2]))]), overlap);

        let home = residue(&AttributeValue::Int64(1), 2).expect("not zero shards");
        assert!(problems([("a", "id", values(&[1])), ("b", "id", hash(2, &[1 - home]))]).is_empty());
        assert_eq!(problems([("a", "id", values(&[1])), ("b", "id", hash(2, &[home]))]), overlap);
    }

    #[test]
    fn bad_conditions_say_what_is_wrong() {
        assert_eq!(
            problems([("a", "id", hash(0, &[0]))]),
            ["shard 'a', attribute 'id': numberOfShards is 0; it must be 1 to 65535"]
        );
        assert_eq!(
            problems([("a", "id", hash(2, &[2]))]),
            ["shard 'a', attribute 'id': 2 is not below numberOfShards, which is 2"]
        );
        assert_eq!(
            problems([("a", "id", hash(2, &[]))]),
            ["shard 'a', attribute 'id': no residue is listed, so no point can be in the shard"]
        );
        assert_eq!(
            problems([("a", "id", ShardCondition::Values(vec![AttributeValue::Bool(true)]))]),
            ["shard 'a', attribute 'id' lists 'True', which is not of type Int64"]
        );
        assert_eq!(problems([]), ["shardsById is empty; an index without sharding has one shard without conditions"]);
        let many: Vec<u32> = (0..40_000).collect();
        let [message] = problems([("a", "id", hash(65_535, &many)), ("b", "kind", hash(65_535, &many))])
            .try_into()
            .expect("one message");
        assert_eq!(message, "the shards list 80000 values and residues; at most 65536 are allowed");
    }

    #[test]
    fn an_unsharded_index_takes_every_point() {
        let index = fixtures::index(&source(), &["id"], &["kind"]);
        assert_eq!(index.shard_of(&point(1, 2)), Some("0"));
        assert!(index.shards["0"].may_match(&Attributes::new()));
    }

    #[test]
    fn a_point_that_no_shard_takes_is_not_in_the_index() {
        let index = sharded([("a", "kind", ShardCondition::Values(ints(&[1])))]);
        assert_eq!(index.shard_of(&point(7, 1)), Some("a"));
        assert_eq!(index.shard_of(&point(7, 2)), None);
        assert_eq!(index.shard_of(&Attributes::new()), None);
    }

    #[test]
    fn sharders_by_value_accept_their_values_alone() {
        let sharder = Sharder::Values { possible_values: ints(&[1, 2]) };
        assert!(sharder.accepts(&AttributeValue::Int64(1)));
        assert!(!sharder.accepts(&AttributeValue::Int64(3)));
        assert!(Sharder::Hash { number_of_shards: 1 }.accepts(&AttributeValue::Int64(3)));
    }

    fn condition() -> impl Strategy<Value = ShardCondition> {
        let values = || proptest::collection::btree_set(-4..4_i64, 1..4).prop_map(|set| ints(&Vec::from_iter(set)));
        prop_oneof![
            (2..7_u32, proptest::collection::btree_set(0..2_u32, 1..3))
                .prop_map(|(number_of_shards, residues)| ShardCondition::Hash { number_of_shards, residues }),
            values().prop_map(ShardCondition::Values),
            values().prop_map(ShardCondition::Complement),
        ]
    }

    proptest! {
        #[test]
        fn accepted_shards_never_share_a_point(a in condition(), b in condition(), c in condition(), d in condition()) {
            let index = sharded([("a", "id", a), ("a", "kind", b), ("b", "id", c), ("b", "kind", d)]);
            let mut messages = Vec::new();
            check(&index, &source(), &mut messages);
            if messages.is_empty() {
                for id in -6..6 {
                    for kind in -6..6 {
                        let home = index.shards.values().filter(|shard| shard.contains(&point(id, kind))).count();
                        prop_assert!(home <= 1);
                    }
                }
            }
        }

        #[test]
        fn a_shard_that_holds_a_point_matches_every_filter_on_it(a in condition(), id in value_of(AttributeType::Int64)) {
            let index = sharded([("a", "id", a)]);
            let mut permanent = point(0, 1);
            permanent.insert("id".into(), id);
            if let Some(shard) = index.shard_of(&permanent) {
                prop_assert!(index.shards[shard].may_match(&permanent));
                permanent.remove("id");
                prop_assert!(index.shards[shard].may_match(&permanent));
            }
        }
    }
}
