//! Builds a [`PointBatch`] row by row: the path of JSON uploads, which come as rows.

use std::sync::Arc;

use tarn_model::{Attributes, DataSource, Update, ValidationError, Vector};

use crate::batch::PointBatch;

/// The vector of one row, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum RowVector<'a> {
    /// As many coordinates as the data source's dimension.
    Dense(&'a [f32]),
    /// Pairs of index and value, in any order of the indices.
    Sparse {
        /// Unique, below the dimension.
        indices: &'a [u32],
        /// As many as there are indices.
        values: &'a [f64],
    },
}

/// Collects validated updates into canonical columns.
#[derive(Debug)]
pub struct DeltaBuilder {
    source: Arc<DataSource>,
}

impl DeltaBuilder {
    /// A builder for about `capacity` rows.
    pub fn new(source: Arc<DataSource>, capacity: usize) -> Self {
        let _ = capacity;
        Self { source }
    }

    /// Adds an update.
    ///
    /// # Errors
    /// Every message that applies, in the wire texts; nothing is added then.
    pub fn push(&mut self, update: &Update) -> Result<(), ValidationError> {
        match update {
            Update::Upsert(point) => self.push_upsert(
                &point.attributes,
                match &point.vector {
                    Vector::Dense(values) => RowVector::Dense(values),
                    Vector::Sparse(sparse) => RowVector::Sparse { indices: &sparse.indices, values: &sparse.values },
                },
            ),
            Update::Delete(attributes) => self.push_delete(attributes),
        }
    }

    /// Adds an upsert.
    ///
    /// # Errors
    /// See [`Self::push`].
    pub fn push_upsert(&mut self, attributes: &Attributes, vector: RowVector<'_>) -> Result<(), ValidationError> {
        let _ = (attributes, vector);
        todo!()
    }

    /// Adds a tombstone; attributes that are not permanent are checked and dropped.
    ///
    /// # Errors
    /// See [`Self::push`].
    pub fn push_delete(&mut self, attributes: &Attributes) -> Result<(), ValidationError> {
        let _ = attributes;
        todo!()
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        todo!()
    }

    /// The batch.
    ///
    /// # Errors
    /// More rows than an upload may have.
    pub fn finish(self) -> Result<PointBatch, ValidationError> {
        let _ = self.source;
        todo!()
    }
}
