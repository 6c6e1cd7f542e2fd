//! How large shared values grow when each row gets its own: checked before they are copied.
//!
//! Dictionaries and views let a hundred thousand rows share one long string. Canonical columns do not share; a small upload
//! of such columns must not take all memory.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use tarn_model::{ValidationError, limits};

/// Refuses columns whose shared values take more than [`limits::BATCH_BYTES`] together once each row has its own.
pub(super) fn check<'a>(columns: impl IntoIterator<Item = &'a ArrayRef>) -> Result<(), ValidationError> {
    let bytes = columns.into_iter().filter_map(|column| shared_lengths(column)).flatten().fold(0, u64::saturating_add);
    if bytes <= limits::BATCH_BYTES as u64 {
        return Ok(());
    }
    Err(ValidationError::one(format!(
        "the values of an upload take at most {} bytes, and these take {bytes} when each row has its own; send several \
         uploads",
        limits::BATCH_BYTES
    )))
}

/// The length in bytes of each row's value, of a column whose rows can share values.
fn shared_lengths(array: &dyn Array) -> Option<Vec<u64>> {
    match array.data_type() {
        DataType::Utf8View => Some(array.as_string_view().lengths().map(u64::from).collect()),
        DataType::BinaryView => Some(array.as_binary_view().lengths().map(u64::from).collect()),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            if dictionary.values().is_empty() {
                return None;
            }
            let values = lengths(dictionary.values())?;
            let length = |key: usize| values.get(key).copied().unwrap_or(0);
            Some(dictionary.normalized_keys().into_iter().map(length).collect())
        }
        _ => None,
    }
}

fn lengths(array: &dyn Array) -> Option<Vec<u64>> {
    let between = |start: i64, end: i64| u64::try_from(end.saturating_sub(start)).unwrap_or(0);
    match array.data_type() {
        DataType::Utf8 => {
            let offsets = array.as_string::<i32>().offsets();
            Some(offsets.windows(2).map(|ends| between(ends[0].into(), ends[1].into())).collect())
        }
        DataType::LargeUtf8 => {
            let offsets = array.as_string::<i64>().offsets();
            Some(offsets.windows(2).map(|ends| between(ends[0], ends[1])).collect())
        }
        _ => shared_lengths(array),
    }
}
