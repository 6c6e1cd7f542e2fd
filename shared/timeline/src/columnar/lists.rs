//! List columns of any layout as rows of one flat array.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;

use super::{Fault, Live, Refusal};

/// A list column: the flat values, and where each row's begin and end in them.
pub(super) struct Lists<'a> {
    pub(super) values: &'a ArrayRef,
    rows: Rows<'a>,
}

enum Rows<'a> {
    Fixed { first: usize, size: usize },
    Small(&'a [i32]),
    Large(&'a [i64]),
}

impl<'a> Lists<'a> {
    /// From `FixedSizeList`, `List` or `LargeList`. The rows that must have a value must not be null.
    pub(super) fn new(array: &'a ArrayRef, live: &Live) -> Result<Self, Refusal> {
        let (values, rows) = match array.data_type() {
            DataType::FixedSizeList(_, size) => {
                let lists = array.as_fixed_size_list();
                // `values` of a sliced array is sliced too; so rows start at zero.
                (lists.values(), Rows::Fixed { first: 0, size: usize::try_from(*size).unwrap_or(0) })
            }
            DataType::List(_) => (array.as_list::<i32>().values(), Rows::Small(array.as_list::<i32>().value_offsets())),
            DataType::LargeList(_) => {
                (array.as_list::<i64>().values(), Rows::Large(array.as_list::<i64>().value_offsets()))
            }
            other => return Err(Refusal::Column(format!("must hold lists of numbers, not {other}"))),
        };
        if let Some(row) = live.first_missing(array) {
            return Err(Fault::new(row, "the vector is null; only tombstones may have none").into());
        }
        Ok(Self { values, rows })
    }

    /// Where a row's values are. A row that is null may have some too.
    pub(super) fn range(&self, row: usize) -> std::ops::Range<usize> {
        let offset = |n: i64| usize::try_from(n).unwrap_or(0);
        match self.rows {
            Rows::Fixed { first, size } => first + row * size..first + (row + 1) * size,
            Rows::Small(offsets) => offset(offsets[row].into())..offset(offsets[row + 1].into()),
            Rows::Large(offsets) => offset(offsets[row])..offset(offsets[row + 1]),
        }
    }

    /// A live row with a null among its values is a fault.
    pub(super) fn check_no_nulls(&self, rows: usize, live: &Live) -> Result<(), Fault> {
        let Some(nulls) = self.values.logical_nulls().filter(|nulls| nulls.null_count() > 0) else { return Ok(()) };
        for row in (0..rows).filter(|&row| live.has(row)) {
            if self.range(row).any(|at| nulls.is_null(at)) {
                return Err(Fault::new(row, "a coordinate is null"));
            }
        }
        Ok(())
    }
}
