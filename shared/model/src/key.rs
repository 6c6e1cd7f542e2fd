//! Point keys and split keys: canonical bytes of some attributes.
//!
//! The encoding is order-preserving and self-delimiting: attributes in key order, each a type tag byte and then
//! Bool `00`/`01`; Int64 and DateTime 8 bytes big-endian with the sign bit flipped; Float64 the IEEE bits big-endian,
//! all flipped when negative, else the sign bit flipped (`-0.0` as `0.0`); Uuid 16 bytes; String its UTF-8 with `00` as
//! `00 FF`, then `00 00`. So bytes compare as the values do, and ties between equal distances break by point key.
//!
//! Owns `equal-keys-equal-points`.

use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::attribute::{AttributeType, AttributeValue, Attributes};
use crate::error::ValidationError;
use crate::limits;
use crate::source::DataSource;

/// Canonical bytes of a point's permanent attributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PointKey(pub Vec<u8>);

/// Canonical bytes of a point's split attributes, for one index. Empty when the index has none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SplitKey(pub Vec<u8>);

const SIGN: u64 = 1 << 63;

// One tag per type. They are part of the stored format: never renumber.
const TAG_BOOL: u8 = 1;
const TAG_INT64: u8 = 2;
const TAG_FLOAT64: u8 = 3;
const TAG_STRING: u8 = 4;
const TAG_UUID: u8 = 5;
const TAG_DATE_TIME: u8 = 6;

impl PointKey {
    /// Encodes the permanent attributes among `attributes`; others are ignored.
    ///
    /// # Errors
    /// A permanent attribute is missing or the key is longer than [`crate::limits::POINT_KEY_BYTES`].
    pub fn encode(source: &DataSource, attributes: &Attributes) -> Result<Self, ValidationError> {
        let mut bytes = Vec::new();
        for name in &source.permanent_attributes {
            let value = attributes
                .get(name)
                .ok_or_else(|| ValidationError::one(format!("permanent attribute '{name}' is missing")))?;
            encode_value(value, &mut bytes);
        }
        Self::check_len(bytes.len())?;
        Ok(Self(bytes))
    }

    /// Refuses a key that is too long; for those who encode column by column.
    ///
    /// # Errors
    /// `bytes` is more than [`crate::limits::POINT_KEY_BYTES`].
    pub fn check_len(bytes: usize) -> Result<(), ValidationError> {
        if bytes > limits::POINT_KEY_BYTES {
            return Err(ValidationError::one(format!(
                "the permanent attributes of a point take {bytes} bytes together; at most {} are allowed",
                limits::POINT_KEY_BYTES
            )));
        }
        Ok(())
    }

    /// The permanent attributes back. `None` when the bytes are no key of this data source.
    pub fn decode(source: &DataSource, bytes: &[u8]) -> Option<Attributes> {
        let types = source.permanent_attributes.iter().map(|name| Some((name, *source.attribute_types.get(name)?)));
        decode_attributes(types.collect::<Option<Vec<_>>>()?, bytes)
    }
}

impl SplitKey {
    /// Encodes the values of `split_attributes` found in `attributes`, in key order.
    /// `None` when one is missing.
    pub fn encode<'a>(split_attributes: impl IntoIterator<Item = &'a String>, attributes: &Attributes) -> Option<Self> {
        let mut names: Vec<&String> = split_attributes.into_iter().collect();
        names.sort_unstable();
        let mut bytes = Vec::new();
        for name in names {
            encode_value(attributes.get(name)?, &mut bytes);
        }
        Some(Self(bytes))
    }

    /// The split attributes back, given their names and types. `None` when the bytes are no split key of these.
    pub fn decode<'a>(
        split_attributes: impl IntoIterator<Item = (&'a String, AttributeType)>,
        bytes: &[u8],
    ) -> Option<Attributes> {
        let mut types: Vec<_> = split_attributes.into_iter().collect();
        types.sort_unstable();
        decode_attributes(types, bytes)
    }
}

/// A stable 64-bit hash of key bytes (XXH3), stored in segment files.
pub fn key_hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Appends one value to canonical bytes.
pub fn encode_value(value: &AttributeValue, out: &mut Vec<u8>) {
    match value {
        AttributeValue::Bool(value) => out.extend([TAG_BOOL, u8::from(*value)]),
        AttributeValue::Int64(value) => encode_number(TAG_INT64, value.cast_unsigned() ^ SIGN, out),
        AttributeValue::DateTime(micros) => encode_number(TAG_DATE_TIME, micros.cast_unsigned() ^ SIGN, out),
        AttributeValue::Float64(value) => {
            // Adding zero turns -0.0 into 0.0 and leaves every other value as it is.
            let bits = (value + 0.0).to_bits();
            encode_number(TAG_FLOAT64, if bits & SIGN == 0 { bits ^ SIGN } else { !bits }, out);
        }
        AttributeValue::String(text) => encode_text(text, out),
        AttributeValue::Uuid(value) => {
            out.push(TAG_UUID);
            out.extend(value.as_bytes());
        }
    }
}

/// Appends a string to canonical bytes: [`encode_value`] for those who have it borrowed.
pub fn encode_text(text: &str, out: &mut Vec<u8>) {
    out.push(TAG_STRING);
    for &byte in text.as_bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend([0, 0]);
}

fn encode_number(tag: u8, ordered: u64, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend(ordered.to_be_bytes());
}

/// Decodes one value from the front of `bytes` and takes it off. `None` unless [`encode_value`] wrote it.
pub fn decode_value(bytes: &mut &[u8]) -> Option<AttributeValue> {
    let (&tag, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(match tag {
        TAG_BOOL => match take::<1>(bytes)? {
            [0] => AttributeValue::Bool(false),
            [1] => AttributeValue::Bool(true),
            _ => return None,
        },
        TAG_INT64 => AttributeValue::Int64((u64::from_be_bytes(take(bytes)?) ^ SIGN).cast_signed()),
        TAG_DATE_TIME => AttributeValue::DateTime((u64::from_be_bytes(take(bytes)?) ^ SIGN).cast_signed()),
        TAG_FLOAT64 => {
            let ordered = u64::from_be_bytes(take(bytes)?);
            let value = f64::from_bits(if ordered & SIGN == 0 { !ordered } else { ordered ^ SIGN });
            if !value.is_finite() || (value == 0.0 && value.is_sign_negative()) {
                return None;
            }
            AttributeValue::Float64(value)
        }
        TAG_STRING => AttributeValue::String(decode_text(bytes)?),
        TAG_UUID => AttributeValue::Uuid(Uuid::from_bytes(take(bytes)?)),
        _ => return None,
    })
}

fn decode_text(bytes: &mut &[u8]) -> Option<String> {
    let mut text = Vec::new();
    loop {
        match take::<1>(bytes)? {
            [0] => match take::<1>(bytes)? {
                [0] => return String::from_utf8(text).ok(),
                [0xFF] => text.push(0),
                _ => return None,
            },
            [byte] => text.push(byte),
        }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn decode_attributes(types: Vec<(&String, AttributeType)>, mut bytes: &[u8]) -> Option<Attributes> {
    let mut attributes = Attributes::new();
    for (name, attribute_type) in types {
        let value = decode_value(&mut bytes).filter(|value| value.attribute_type() == attribute_type)?;
        attributes.insert(name.clone(), value);
    }
    bytes.is_empty().then_some(attributes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::{any_value, value_of};

    const TYPES: [AttributeType; 6] = [
        AttributeType::Bool,
        AttributeType::Int64,
        AttributeType::Float64,
        AttributeType::String,
        AttributeType::Uuid,
        AttributeType::DateTime,
    ];

    fn encoded(value: &AttributeValue) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_value(value, &mut bytes);
        bytes
    }

    /// Two values of one type, often near each other.
    fn pair() -> impl Strategy<Value = (AttributeValue, AttributeValue)> {
        proptest::sample::select(TYPES.as_slice()).prop_flat_map(|t| (value_of(t), value_of(t)))
    }

    fn several() -> impl Strategy<Value = Vec<AttributeValue>> {
        proptest::collection::vec(any_value(), 0..5)
    }

    fn named(values: &[AttributeValue]) -> (Vec<(String, AttributeType)>, Attributes) {
        let names = (0..values.len()).map(|i| format!("a{i}"));
        let types = names.clone().zip(values).map(|(name, value)| (name, value.attribute_type())).collect();
        (types, names.zip(values.iter().cloned()).collect())
    }

    proptest! {
        #[test]
        fn bytes_compare_as_the_values_do((a, b) in pair()) {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.compare(&b).expect("values of one type compare"));
        }

        #[test]
        fn bytes_of_several_values_compare_attribute_by_attribute((a, b) in pair(), (c, d) in pair()) {
            let key = |x: &AttributeValue, y: &AttributeValue| [encoded(x), encoded(y)].concat();
            let by_values = a.compare(&b).and_then(|first| Some(first.then(c.compare(&d)?)));
            prop_assert_eq!(Some(key(&a, &c).cmp(&key(&b, &d))), by_values);
        }

        #[test]
        fn a_split_key_round_trips(values in several()) {
            let (types, attributes) = named(&values);
            let key = SplitKey::encode(types.iter().map(|(name, _)| name), &attributes).expect("all present");
            let decoded = SplitKey::decode(types.iter().map(|(name, t)| (name, *t)), &key.0);
            prop_assert_eq!(decoded, Some(attributes));
        }

        #[test]
        fn equal_keys_equal_points(a in several(), b in several()) {
            let key = |values: &[AttributeValue]| values.iter().map(encoded).collect::<Vec<_>>().concat();
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }

        #[test]
        fn decoding_any_bytes_gives_attributes_that_encode_to_them(bytes in proptest::collection::vec(0..8u8, 0..24)) {
            for t in TYPES {
                let name = "a".to_owned();
                if let Some(attributes) = SplitKey::decode([(&name, t)], &bytes) {
                    prop_assert_eq!(SplitKey::encode([&name], &attributes), Some(SplitKey(bytes.clone())));
                }
            }
        }
    }

    #[test]
    fn negative_zero_is_zero() {
        assert_eq!(encoded(&AttributeValue::Float64(-0.0)), encoded(&AttributeValue::Float64(0.0)));
    }

    #[test]
    fn stored_bytes_stay_as_they_are() {
        let uuid = Uuid::from_u128(0x00112233_4455_6677_8899_aabbccddeeff);
        let golden: [(AttributeValue, &[u8]); 6] = [
            (AttributeValue::Bool(true), &[1, 1]),
            (AttributeValue::Int64(-1), &[2, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            (AttributeValue::Float64(1.0), &[3, 0xBF, 0xF0, 0, 0, 0, 0, 0, 0]),
            (AttributeValue::String("a\0é".into()), &[4, b'a', 0, 0xFF, 0xC3, 0xA9, 0, 0]),
            (
                AttributeValue::Uuid(uuid),
                &[5, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF],
            ),
            (AttributeValue::DateTime(1), &[6, 0x80, 0, 0, 0, 0, 0, 0, 1]),
        ];
        for (value, bytes) in golden {
            assert_eq!(encoded(&value), bytes, "{value:?}");
        }
        assert_eq!(key_hash(b"tarn"), 10_852_011_154_910_048_224, "stored in segment files: must never change");
    }

    #[test]
    fn a_key_beyond_the_limit_is_refused() {
        let source = crate::fixtures::source(&[("id", AttributeType::String)], &["id"]);
        let of = |bytes| Attributes::from([("id".to_owned(), AttributeValue::String("x".repeat(bytes)))]);
        assert!(PointKey::encode(&source, &of(limits::POINT_KEY_BYTES - 3)).is_ok());
        let error = PointKey::encode(&source, &of(limits::POINT_KEY_BYTES)).expect_err("too long");
        assert!(error.to_string().contains("at most 4096"), "{error}");
        assert!(PointKey::encode(&source, &Attributes::new()).is_err());
    }
}
