//! What the tests of rows have in common.

use std::collections::BTreeMap;

use tarn_model::{AttributeType, DataSource, DataSourceId, VectorKind};

/// Films by a number, with a name and a vector of two dimensions.
pub(crate) fn source(kind: VectorKind) -> DataSource {
    DataSource {
        id: DataSourceId { name: "films".into(), version: "1".into() },
        vector_dimension: 2,
        vector_kind: kind,
        attribute_types: [("id".to_owned(), AttributeType::Int64), ("name".to_owned(), AttributeType::String)].into(),
        permanent_attributes: ["id".to_owned()].into(),
        sharders: BTreeMap::new(),
        policy: Default::default(),
    }
}
