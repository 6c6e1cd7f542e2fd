//! Attribute columns: lossless casts to the canonical types, and the rules that values obey.

use arrow::array::types::ArrowPrimitiveType;
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, PrimitiveArray, StringArray};
use arrow::buffer::Buffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use tarn_model::{AttributeType, Sharder, datetime, limits};
use uuid::Uuid;

use super::{Fault, Live, Refusal};
use crate::keys::shared;
use crate::rows::attribute_value;

/// The largest integer below which every integer is a float.
const EXACT: i64 = 1 << 53;

/// A canonical column for an attribute: without nulls in the rows that must have a value, null in the others.
pub(super) fn convert(
    array: &ArrayRef,
    name: &str,
    attribute_type: AttributeType,
    live: &Live,
    sharder: Option<&Sharder>,
) -> Result<ArrayRef, Refusal> {
    if let Some(row) = live.first_missing(array) {
        let what = format!("InputDataPoint attribute '{name}' has invalid value: '' (it is null)");
        return Err(Fault::new(row, what).into());
    }
    let canonical = match attribute_type {
        AttributeType::Bool => {
            let flags = array.as_boolean_opt().ok_or_else(|| unsuitable(array, attribute_type))?;
            shared(arrow::array::BooleanArray::new(flags.values().clone(), live.nulls()))
        }
        AttributeType::Int64 => integers(array, live)?,
        AttributeType::Float64 => floats(array, live)?,
        AttributeType::String => strings(array, live)?,
        AttributeType::Uuid => uuids(array, live)?,
        AttributeType::DateTime => instants(array, live)?,
    };
    if let Some(sharder @ Sharder::Values { .. }) = sharder {
        for row in (0..canonical.len()).filter(|&row| live.has(row)) {
            if let Some(value) = attribute_value(&canonical, attribute_type, row)
                && !sharder.accepts(&value)
            {
                let what = format!(
                    "InputDataPoint attribute '{name}' has unacceptable value '{value}' for corresponding sharder"
                );
                return Err(Fault::new(row, what).into());
            }
        }
    }
    Ok(canonical)
}

fn unsuitable(array: &dyn Array, attribute_type: AttributeType) -> Refusal {
    Refusal::Column(format!("a column of {} cannot hold an attribute of type {attribute_type}", array.data_type()))
}

/// Casts; a live value that the target cannot hold is a fault.
fn cast(array: &ArrayRef, to: &DataType, live: &Live) -> Result<ArrayRef, Refusal> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let result = cast_with_options(array, to, &options)
        .map_err(|error| Refusal::Column(format!("{} cannot become {to}: {error}", array.data_type())))?;
    match live.first_missing(&result) {
        Some(row) => Err(Fault::new(row, format!("the value does not fit {to}")).into()),
        None => Ok(result),
    }
}

/// Replaces an array's nulls by the canonical ones, after a check of each live value.
fn checked<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    live: &Live,
    check: impl Fn(T::Native) -> Result<(), String>,
) -> Result<PrimitiveArray<T>, Refusal> {
    for (row, &value) in array.values().iter().enumerate() {
        if let Err(what) = check(value)
            && live.has(row)
        {
            return Err(Fault::new(row, what).into());
        }
    }
    Ok(PrimitiveArray::<T>::new(array.values().clone(), live.nulls()).with_data_type(array.data_type().clone()))
}

fn integers(array: &ArrayRef, live: &Live) -> Result<ArrayRef, Refusal> {
    match array.data_type() {
        data_type if data_type.is_integer() => {}
        // Data frames turn integers with gaps into floats; whole numbers come back unharmed.
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let wide = cast(array, &DataType::Float64, live)?;
            checked(wide.as_primitive::<Float64Type>(), live, |value| {
                let whole = value.fract() == 0.0 && value.abs() <= EXACT as f64;
                whole.then_some(()).ok_or_else(|| format!("{value} is not a whole number that fits Int64"))
            })?;
        }
        _ => return Err(unsuitable(array, AttributeType::Int64)),
    }
    let wide = cast(array, &DataType::Int64, live)?;
    Ok(shared(checked(wide.as_primitive::<Int64Type>(), live, |_| Ok(()))?))
}

fn floats(array: &ArrayRef, live: &Live) -> Result<ArrayRef, Refusal> {
    match array.data_type() {
        DataType::Int64 | DataType::UInt64 => {
            let wide = cast(array, &DataType::Int64, live)?;
            checked(wide.as_primitive::<Int64Type>(), live, |value| {
                let exact = (-EXACT..=EXACT).contains(&value);
                exact.then_some(()).ok_or_else(|| format!("{value} is not exact as Float64"))
            })?;
        }
        data_type if data_type.is_integer() => {}
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {}
        _ => return Err(unsuitable(array, AttributeType::Float64)),
    }
    let wide = cast(array, &DataType::Float64, live)?;
    let wide = checked(wide.as_primitive::<Float64Type>(), live, |value| {
        value.is_finite().then_some(()).ok_or_else(|| "the number must be finite".to_owned())
    })?;
    // Adding zero turns -0.0 into 0.0, the form in which a zero is stored.
    Ok(shared(wide.unary::<_, Float64Type>(|value| value + 0.0)))
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn text(array: &ArrayRef, live: &Live) -> Result<StringArray, Refusal> {
    let cast = cast(array, &DataType::Utf8, live)?;
    Ok(cast.as_string::<i32>().clone())
}

fn strings(array: &ArrayRef, live: &Live) -> Result<ArrayRef, Refusal> {
    if !is_text(array.data_type()) {
        return Err(unsuitable(array, AttributeType::String));
    }
    let text = text(array, live)?;
    for (row, ends) in text.offsets().windows(2).enumerate() {
        let bytes = usize::try_from(ends[1] - ends[0]).unwrap_or(usize::MAX);
        if bytes > limits::STRING_VALUE_BYTES && live.has(row) {
            let what = format!("the string is {bytes} bytes long; at most {} are allowed", limits::STRING_VALUE_BYTES);
            return Err(Fault::new(row, what).into());
        }
    }
    let (offsets, values, _) = text.into_parts();
    Ok(shared(StringArray::new(offsets, values, live.nulls())))
}

fn uuids(array: &ArrayRef, live: &Live) -> Result<ArrayRef, Refusal> {
    let not_sixteen = |row| Refusal::from(Fault::new(row, "a UUID takes 16 bytes"));
    let mut bytes: Vec<u8> = Vec::with_capacity(array.len() * 16);
    match array.data_type() {
        DataType::FixedSizeBinary(16) => {
            let array = array.as_fixed_size_binary();
            for row in 0..array.len() {
                bytes.extend_from_slice(array.value(row));
            }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let wide = cast(array, &DataType::Binary, live)?;
            let wide = wide.as_binary::<i32>();
            for row in 0..wide.len() {
                match <[u8; 16]>::try_from(wide.value(row)) {
                    Ok(uuid) => bytes.extend(uuid),
                    Err(_) if live.has(row) => return Err(not_sixteen(row)),
                    Err(_) => bytes.extend([0; 16]),
                }
            }
        }
        data_type if is_text(data_type) => {
            let text = text(array, live)?;
            for row in 0..text.len() {
                match Uuid::parse_str(text.value(row)) {
                    Ok(uuid) => bytes.extend(uuid.as_bytes()),
                    Err(_) if live.has(row) => {
                        return Err(Fault::new(row, format!("'{}' is not a UUID", shorten(text.value(row)))).into());
                    }
                    Err(_) => bytes.extend([0; 16]),
                }
            }
        }
        _ => return Err(unsuitable(array, AttributeType::Uuid)),
    }
    Ok(shared(FixedSizeBinaryArray::new(16, Buffer::from_vec(bytes), live.nulls())))
}

fn instants(array: &ArrayRef, live: &Live) -> Result<ArrayRef, Refusal> {
    let target = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let micros = match array.data_type() {
        DataType::Timestamp(unit, _) => {
            // As plain numbers: a zone says how to print an instant, and an instant without one is UTC.
            let numbers = cast(array, &DataType::Int64, live)?;
            let numbers = numbers.as_primitive::<Int64Type>();
            let scaled = |value: i64| match unit {
                TimeUnit::Second => value.checked_mul(1_000_000),
                TimeUnit::Millisecond => value.checked_mul(1_000),
                TimeUnit::Microsecond => Some(value),
                TimeUnit::Nanosecond => (value % 1_000 == 0).then_some(value / 1_000),
            };
            each(numbers.values().iter().copied(), live, |value| {
                scaled(value).ok_or_else(|| format!("{value} {unit:?}s do not make whole microseconds that fit Int64"))
            })?
        }
        DataType::Date32 | DataType::Date64 => {
            let plain = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None), live)?;
            plain.as_primitive::<TimestampMicrosecondType>().values().to_vec()
        }
        data_type if is_text(data_type) => {
            let text = text(array, live)?;
            each((0..text.len()).map(|row| text.value(row)), live, |value| {
                datetime::parse(value).ok_or_else(|| format!("'{}' is not an ISO 8601 date-time", shorten(value)))
            })?
        }
        _ => return Err(unsuitable(array, AttributeType::DateTime)),
    };
    let array = PrimitiveArray::<TimestampMicrosecondType>::from(micros);
    let array = checked(&array, live, |value| {
        datetime::in_range(value).then_some(()).ok_or_else(|| "the date-time must be in the years 1 to 9999".to_owned())
    })?;
    Ok(shared(array.with_data_type(target)))
}

/// Maps each value; what cannot be mapped is a fault in a live row, and zero elsewhere.
fn each<T>(
    values: impl Iterator<Item = T>,
    live: &Live,
    map: impl Fn(T) -> Result<i64, String>,
) -> Result<Vec<i64>, Refusal> {
    let one = |(row, value)| match map(value) {
        Ok(value) => Ok(value),
        Err(what) if live.has(row) => Err(Fault::new(row, what).into()),
        Err(_) => Ok(0),
    };
    values.enumerate().map(one).collect()
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}
